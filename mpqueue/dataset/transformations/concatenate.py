"""The stage `concatenate`: the elements of one input after another."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.description.nodes import JoinNode, Traits
from mpqueue.dataset.indexed.readers import IndexedRun, JoinReader, Positions, ReaderMaker, by_part
from mpqueue.dataset.lanes.joining import BranchedStage, JoinedInputs
from mpqueue.dataset.lanes.stages import Block, Token
from mpqueue.worker.runners.lanes import LaneRun


class ConcatenateReader(JoinReader):
    """The elements of one input after another."""

    def __init__(self, node: "ConcatenateNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        ends: list[int] = []
        for length in self.lengths:
            if length is None:
                break  # later inputs are never reached
            ends.append((ends[-1] if ends else 0) + length)
        self._ends = ends

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return the elements of the inputs at these indices."""
        return by_part(positions, self._find, lambda at, inner: self.branch(at).at(inner, self.within(at, run)))

    def _find(self, position: int) -> tuple[int, int]:
        at = bisect_right(self._ends, position)
        return at, position - self._ends[at - 1] if at else position

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        at, position = self._find(position)
        return self.branch(at).origin(position, self.within(at, run))

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples of the inputs at these indices."""
        return by_part(positions, self._find, lambda at, inner: self.ids_within(at, inner, self.within(at, run)))


class ConcatenateStage(BranchedStage):
    """The elements of one input after another."""

    def __init__(self, inputs: JoinedInputs, node: JoinNode, run: LaneRun) -> None:
        super().__init__(inputs, node, run)
        self._at = 0

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        while self._at < len(self.node.branches):
            at = self._at
            values, tokens = self._branch(at).stage.pull(count)
            if tokens:
                self.num_in = self.num_out = self.num_out + len(tokens)
                return values, [(at, token) for token in tokens]
            self._at += 1
            if self._inputs.can_reopen(at):
                self._close(at)
        return [], []

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the index of the current input."""
        of_branch = self._held_by_branch(held)
        # An ended stream keeps the states needed to read its elements again, as long as an element is held.
        for at in [at for at in self._branches if at < self._at and at not in of_branch]:
            self._close(at)
        self._save_with(states, of_branch, {"at": self._at})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._at = self._load_own(states)["at"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ConcatenateNode(JoinNode):
    """The elements of one input after another."""

    name: ClassVar[str] = "concatenate"
    traits: ClassVar[Traits] = Traits(flows=True, passes_elements=True)
    reader: ClassVar[Any] = ConcatenateReader
    lane_stage: ClassVar[Any] = ConcatenateStage

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the sum of the lengths."""
        return None if None in lengths else sum(length for length in lengths if length is not None)

    def num_read(self, position: int, at: int, lengths: Sequence[int | None]) -> int:
        """Return the number of elements of an input before an index, if that input were the last one."""
        before = self.length_by(lengths[:at])
        return 0 if before is None else max(0, position - before)
