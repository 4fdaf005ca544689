"""Lanes that return the ids of the samples of each element, so that the ids in a batch can be found again.

The ids are known only after the elements were made, so that the functions of the dataset are called again.
"""

from typing import Any

from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.worker.runners.lanes import LaneRun


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
    """A stream of the ids of the samples of each element of a dataset."""

    def make_part_names(self) -> None:
        """Return None: the elements are ids."""

    def open_lane(self, run: LaneRun, *, keeps_tokens: bool = True) -> Any:
        """Open a lane."""
        return IdLane(super().open_lane(run, keeps_tokens=keeps_tokens))
