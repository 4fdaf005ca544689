"""The stage `repeat`; see `mpqueue.dataset.lanes.repeating` for its passes in a lane."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.description.nodes import LaneOpening, LinkNode, Traits, inner_epoch
from mpqueue.dataset.indexed.readers import IndexedRun, LinkReader, Positions, by_part
from mpqueue.dataset.lanes.repeating import RepeatStage
from mpqueue.dataset.lanes.stages import LaneStage
from mpqueue.worker.runners.lanes import LaneRun


class RepeatReader(LinkReader):
    """Repeated passes over the input."""

    node: "RepeatNode"

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices of all passes."""
        return self._by_pass(positions, run, self.input.at)

    def _by_pass(
        self, positions: Positions, run: IndexedRun, read: Callable[[Positions, IndexedRun], list[Any]]
    ) -> list[Any]:
        length = self.input.length
        if length is None:
            return read(positions, run)
        return by_part(
            positions,
            lambda position: divmod(position, length),
            lambda pass_index, inner: read(inner, self._inner(pass_index, run)),
        )

    def _inner(self, pass_index: int, run: IndexedRun) -> IndexedRun:
        return run._replace(epoch=inner_epoch(run.epoch, pass_index, self.node.times))

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        if not self.input.length:
            return self.input.origin(position, run)
        pass_index, position = divmod(position, self.input.length)
        return self.input.origin(position, self._inner(pass_index, run))

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids at these indices of all passes."""
        return self._by_pass(positions, run, self.input.sample_ids)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RepeatNode(LinkNode):
    """Repeated passes over the elements.

    Attributes:
        times: The number of passes; None for an endless dataset.
    """

    name: ClassVar[str] = "repeat"
    traits: ClassVar[Traits] = Traits(passes_elements=True, keeps_order=False)  # each pass is a separate epoch
    reader: ClassVar[Any] = RepeatReader
    times: int | None = None

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the length of all passes; an empty input remains empty."""
        (length,) = lengths
        if not length:
            return length
        return None if self.times is None else length * self.times

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> LaneStage:
        """Open this stage in a lane; its input is opened for each pass."""
        return self.opened(opening, run)

    def opened(self, opening: LaneOpening, run: LaneRun, *, is_hidden: bool = False) -> RepeatStage:
        """Return the open stage; ``is_hidden``: it is inside another stage, and has no row of statistics."""

        def open_pass(pass_index: int) -> LaneStage:
            stage: LaneStage = opening.input(self, run._replace(epoch=inner_epoch(run.epoch, pass_index, self.times)))
            return stage

        return RepeatStage(open_pass, self.times, self, run, is_hidden=is_hidden)
