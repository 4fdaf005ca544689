"""Lanes that return the ids of the samples of each element, so that the ids in a batch can be found again.

The ids are known only after the elements were made, so that the functions of the dataset are called again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mpqueue.dataset.nodes import StageNode
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.plan.sample_ids import SampleSet
from mpqueue.worker.lanes import LaneRun


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
