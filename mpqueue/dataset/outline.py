"""The outline of a dataset: the same samples in the same order, without calls of user code.

The ids of the samples in a batch follow from the order. In an outline, functions return a constant and sources are
ranges, so that a lane can be run to find ids without computing a sample. This is impossible if a function decides which
samples pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mpqueue.dataset.nodes import StageNode, flat
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.plan.sample_ids import SampleSet
from mpqueue.worker.lanes import LaneRun


def is_decided_by_user(root: StageNode) -> bool:
    """Return whether user code decides which samples pass."""
    return any(stage.node.decides for stage in root.stages())


def outline(root: StageNode) -> StageNode:
    """Return the outline of a dataset without deciding stages."""
    made: list[StageNode] = []
    for node, (_, _, inputs) in zip((stage.node for stage in root.stages()), flat(root), strict=True):
        kind, arguments = node.outlined()
        made.append(kind.reading([made[at] for at in inputs], **arguments))
    return made[-1]


class IdLane:
    """A lane that returns the ids of the samples of each element.

    Args:
        lane: The lane of the dataset.
    """

    def __init__(self, lane: Any) -> None:
        self._lane = lane

    def next(self) -> tuple[Any, ...]:
        """Return the ids of the samples of the next element."""
        self._lane.next()
        return tuple(self._lane.sample_ids())

    def save(self) -> None:
        """Return None: no other process continues the lane."""


class IdLanes(DatasetLanes):
    """A stream whose elements are the ids of the samples of each element of a dataset."""

    def make_part_names(self) -> None:
        """Return None: the elements are ids."""

    def open_lane(self, run: LaneRun) -> Any:  # type: ignore[override]  # it always keeps tokens
        """Open a lane."""
        return IdLane(super().open_lane(run, keeps_tokens=True))


class SavedLane:
    """A lane that returns its snapshot after some elements."""

    def __init__(self, lane: Any, count: int) -> None:
        self._lane, self._left = lane, count

    def next(self) -> Any:
        """Return the next element, or the snapshot."""
        if self._left:
            self._left -= 1
            return self._lane.next()
        return self._lane.save()

    def save(self) -> None:
        """Return None: no other process continues the lane."""


class SavingLanes(DatasetLanes):
    """A stream of lanes that return their snapshots after a number of elements."""

    def __init__(self, root: StageNode, excluded: Sequence[SampleSet], counts: Mapping[int, int]) -> None:
        super().__init__(root, excluded)
        self._left = counts

    def make_part_names(self) -> None:
        """Return None: no consumer gets the elements."""

    def open_lane(self, run: LaneRun) -> Any:  # type: ignore[override]  # it always keeps tokens
        """Open a lane."""
        # Without elements read ahead, the number of the first sample that the lane has not read follows from the place.
        return SavedLane(super().open_lane(run, keeps_tokens=True, runs_ahead=False), self._left[run.lane])
