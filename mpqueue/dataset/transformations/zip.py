"""The stage `zip`: tuples of one element of each input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.ids import SampleIds, concatenated, prefixed
from mpqueue.dataset.description.nodes import JoinNode, Traits
from mpqueue.dataset.indexed.readers import IndexedRun, JoinReader, Positions, whole_or_none
from mpqueue.dataset.lanes.joining import JoiningStage
from mpqueue.dataset.lanes.stages import Block, Token


class ZipReader(JoinReader):
    """Tuples of one element of each input."""

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return tuples. A tuple is excluded as a whole: the elements of its inputs may belong together."""
        if run.skip is not None:
            run = run._replace(skip=None)
        columns = []
        for at in range(len(self._inputs)):
            columns.append(self.branch(at).at(positions, self.within(at, run)))  # noqa: PERF401 - a comprehension would add a C frame per call
        return list(zip(*columns, strict=True))

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of the samples of a tuple."""
        words = []
        for at in range(len(self._inputs)):
            words.append(self.branch(at).origin(position, self.within(at, run)))  # noqa: PERF401
        return " with ".join(words)

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples of tuples."""
        keep, run, columns = run.keep, run._replace(keep=None), []
        for at in range(len(self._inputs)):
            columns.append(self.ids_within(at, positions, self.within(at, run)))  # noqa: PERF401
        return whole_or_none([concatenated(ids) for ids in zip(*columns, strict=True)], keep)


class ZipStage(JoiningStage):
    """Tuples of one element of each input, until an input is exhausted."""

    def pull(self, count: int) -> Block:
        """Return the next tuples; their tokens are tuples of the elements' tokens."""
        if self._has_ended:
            return [], []
        for at in range(len(self.node.branches)):
            # At most the number that earlier inputs have: an error or the end of later elements would occur too early.
            count = self._branch(at).fill(count)
            if not count:
                # Permanently: the waiting elements of the other inputs have no partner.
                self._has_ended = True
                return [], []
        blocks = [self._branches[at].take(count) for at in range(len(self.node.branches))]
        self.num_in += count * len(blocks)
        self.num_out += count
        values = list(zip(*[block[0] for block in blocks], strict=True))
        return values, list(zip(*[block[1] for block in blocks], strict=True))

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the waiting elements."""
        columns = {at: [token[at] for token in held] for at in range(len(self.node.branches))}
        self._save_with(states, columns, {})

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these tuples, computed again."""
        columns = []
        for at in range(len(self.node.branches)):
            columns.append(self._branch(at).stage.again([token[at] for token in tokens]))  # noqa: PERF401
        return list(zip(*columns, strict=True))

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the samples of these tuples."""
        columns = []
        for at in range(len(self.node.branches)):
            ids = self._branch(at).stage.sample_ids([token[at] for token in tokens])
            columns.append(prefixed(self.node.part_name(at), ids))
        return [concatenated(ids) for ids in zip(*columns, strict=True)]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ZipNode(JoinNode):
    """Tuples of one element of each input, until the shortest input is exhausted."""

    name: ClassVar[str] = "zip"
    # A shorter input ends the tuples, and elements of the other inputs are read and not used.
    traits: ClassVar[Traits] = Traits(merges=True, keeps_whole=True, keeps_order=False)
    reader: ClassVar[Any] = ZipReader
    lane_stage: ClassVar[Any] = ZipStage

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the minimum length."""
        return min((length for length in lengths if length is not None), default=None)
