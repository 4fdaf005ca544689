"""The number of samples from each part of a mixture in the batches that a consumer has received.

Workers count the samples of a batch by part. The backend notes these numbers when the batch arrives, which is before
the consumer receives it. A note therefore waits until its work item is before the consumer's point. That point is read
only when the counts are requested, so a batch costs one entry in a dict.

Each change is one assignment of both the sums and the waiting notes, so that a thread that reads the counts needs no
lock.
"""

from collections.abc import Sequence
from typing import Protocol

from mpqueue.engine.outcomes import PartCounts
from mpqueue.plan.position.cursors import ResumePoint, WorkItem

_MOST_WAITING = 4096


class ReportsPoints(Protocol):
    """A consumer's point: a `mpqueue.engine.progress.progress.Progress`."""

    def point(self) -> ResumePoint:
        """Return the point after all batches that the consumer has received."""


class ReturnedParts:
    """Counts the samples of delivered batches by part.

    Args:
        progress: The consumer's point.

    Attributes:
        names: Names of parts that are counted from 0 on. Other parts appear with their first sample.
    """

    def __init__(self, progress: ReportsPoints) -> None:
        self._progress = progress
        self.names: Sequence[str | int] = ()
        # By lane and index, or by epoch and position: a batch that is computed again replaces its earlier note.
        self._state: tuple[dict[str | int, int], dict[tuple[int, int, int], PartCounts]] = {}, {}

    def note(self, work_item: WorkItem, parts: PartCounts) -> None:
        """Note the parts of a batch that has arrived. Call this under the pipeline's lock."""
        waiting = self._state[1]
        if len(waiting) >= _MOST_WAITING:
            self._settle(self._progress.point())
            waiting = self._state[1]
        waiting[_key_of(work_item)] = parts

    def drop(self, work_item: WorkItem) -> None:
        """Forget the note of a batch that is not delivered: an error takes its place."""
        self._state[1].pop(_key_of(work_item), None)

    def forget_undelivered(self, point: ResumePoint) -> None:
        """Forget the notes of batches that are not before a point: they are computed again, and may differ then."""
        if self._state[1]:
            self._settle(self._progress.point())
            sums, waiting = self._state
            self._state = sums, {key: parts for key, parts in waiting.items() if _is_before(key, point)}

    def _settle(self, point: ResumePoint) -> None:
        left = {key: parts for key, parts in self._state[1].items() if not _is_before(key, point)}
        self._state = self.at(point), left

    def at(self, point: ResumePoint) -> dict[str | int, int]:
        """Return the number of samples of each part in the batches before a point of the consumer."""
        sums, waiting = self._state
        counts = dict.fromkeys(self.names, 0) | sums
        for key, parts in list(waiting.items()):
            if _is_before(key, point):
                for name, count in parts.items():
                    counts[name] = counts.get(name, 0) + count
        return counts


def _key_of(work_item: WorkItem) -> tuple[int, int, int]:
    if work_item.lane >= 0:
        return work_item.lane, -1, work_item.source_index
    return -1, work_item.epoch, work_item.position


def _is_before(key: tuple[int, int, int], point: ResumePoint) -> bool:
    lane, epoch, index = key
    if lane >= 0:
        return bool(point.counts) and index < point.counts[lane]
    return (epoch, index) < (point.epoch, point.position) or (epoch == point.epoch and index in point.ahead)
