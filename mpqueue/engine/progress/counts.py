"""`BatchCounts`: how many batches were counted, which of them the user has got, and which it got last."""

from typing import NamedTuple

from mpqueue.engine.progress.deliveries import Delivery
from mpqueue.engine.progress.progress import Progress
from mpqueue.engine.progress.returned_parts import ReturnedParts
from mpqueue.engine.skips import SkippedSamples, Skips
from mpqueue.plan.position.cursors import Cursor, ResumePoint, WorkItem
from mpqueue.plan.position.lanes import BEGINNING, LaneStart


class DeliveredBatch(NamedTuple):
    """A batch that a user has got.

    Attributes:
        work_item: Its work item.
        epoch: Its epoch.
        position: Its position in the epoch.
        skipped: Its samples that were skipped because they raised.
        start: For a stream: the newest snapshot of its lane that is not after it.
        step: The number of batches that the loops of a loader returned before it; `mpqueue.loader.run` sets
            this field.
    """

    work_item: WorkItem
    epoch: int
    position: int
    skipped: SkippedSamples = SkippedSamples()
    start: LaneStart = BEGINNING
    step: int = 0


class BatchCounts:
    """The counted batches of one stream.

    Args:
        progress: The point up to which batches are counted.
        cursor: Deals the work items.

    Attributes:
        progress: See above.
        parts: The samples of each part of a mixture in the delivered batches. The backend adds the samples of each
            batch.
        latest: The work item that was counted last.
        num_batches: Number of counted work items.
        num_empty: Number of work items that returned no batch: an error was raised, or all samples were skipped.
    """

    def __init__(self, progress: Progress, cursor: Cursor) -> None:
        self.progress, self._cursor = progress, cursor
        self.parts = ReturnedParts(progress)
        self.latest: WorkItem | None = None
        self.num_batches = self.num_empty = 0
        self._num_dropped = 0  # counted, and dropped before the user got them
        self._start_before: tuple[int, LaneStart] = -1, BEGINNING  # of a batch returned before `move`, by its id

    @property
    def num_taken(self) -> int:
        """Number of batches that the user has got, and of errors."""
        return self.num_batches - self._num_dropped - len(self.progress.missing())

    @property
    def num_returned(self) -> int:
        """Number of batches that the user has, without errors and fully skipped batches."""
        return self.num_taken - self.num_empty + self._num_open_errors

    @property
    def _num_open_errors(self) -> int:
        """Number of errors that are held; they were counted as empty."""
        return sum(each.error is not None for each in self.progress.deliveries)

    def count(self, work_item: WorkItem, *, is_empty: bool = False) -> bool:
        """Count a batch, or an error instead (``is_empty``); return True if it was the last of its epoch."""
        # Most batches have a position and arrive in order. Access by index takes a third of the time of access by name.
        progress, position = self.progress, work_item[2]
        if work_item[4] < 0 and position == progress.position and not progress.ahead:
            position += 1
            if not is_empty and position != self._cursor.lengths.get(work_item[1]):
                self.latest = work_item
                self.num_batches += 1
                progress.position = position
                return False
            ahead = progress.ahead
        elif work_item[4] < 0:
            position, ahead = progress.gap_free(position)
        else:
            position, ahead = progress.position + 1, progress.ahead
        lane = work_item[4]
        own_epoch = progress.own_epoch
        if is_empty:
            self.parts.drop(work_item)
            if lane < 0 and not (work_item.listed is not None and work_item.listed.is_empty):
                # All ranks know which batches are empty because of exclusions, but not which ones raised here.
                own_epoch = work_item.epoch
        # An element of a lane belongs to no epoch, so that the consumer's epoch counts.
        epoch = progress.epoch if lane >= 0 else work_item[1]
        is_last = position == self._cursor.lengths.get(work_item[1])
        nothing = set[int]()
        # Assignments alone from here on, so that a point is never half counted.
        self.latest = work_item
        self.num_batches += 1
        self.num_empty += is_empty
        progress.own_epoch = own_epoch
        if lane >= 0:
            progress.counts[lane] = work_item.source_index + 1
        if not is_last:
            progress.position, progress.ahead = position, ahead
            return False
        # In this order: a thread that reads a point finds the length of the previous epoch as soon as it exists.
        progress.ended = epoch, position
        progress.epoch, progress.position, progress.ahead = epoch + 1, 0, nothing
        return True

    def hold(self, work_item: WorkItem, skips: Skips | None, error: BaseException | None = None) -> None:
        """Record that the front end of this loop has a batch that was just counted, or an error instead."""
        progress = self.progress
        record = work_item, progress.epoch, progress.position, skips and skips.latest
        progress.hold(Delivery(record, error))

    def move(self, point: ResumePoint) -> None:
        """Count from another point. Counted batches that the user does not have are dropped."""
        progress = self.progress
        if progress.returned is not None and self._cursor.num_lanes:
            # The point has no snapshot before this batch, if the batch is the last one of its lane there.
            self._start_before = progress.returned[0].work_id, self.start_of_returned()
        self.parts.forget_undelivered(progress.point())
        num_dropped = self._num_dropped + len(progress.missing())
        num_empty = self.num_empty - self._num_open_errors
        progress.go_to(point)
        self._num_dropped, self.num_empty = num_dropped, num_empty

    def drop_held(self) -> None:
        """Drop what front ends hold; the counted point does not change."""
        progress = self.progress
        if progress.deliveries:
            self.parts.forget_undelivered(progress.point())
            num_dropped, num_empty = len(progress.deliveries), self.num_empty - self._num_open_errors
            self._num_dropped += num_dropped
            self.num_empty, progress.deliveries = num_empty, ()

    def start_of_returned(self) -> LaneStart:
        """Return the newest snapshot that makes its lane return the last batch of the user again."""
        assert self.progress.returned is not None
        work_item = self.progress.returned[0]
        known, start = self._start_before
        return start if known == work_item.work_id else self._cursor.lanes.start(work_item.lane, work_item.source_index)

    def last(self) -> DeliveredBatch | None:
        """Return the batch that `step` returned last; None: none."""
        returned = self.progress.returned
        if returned is None:
            return None
        work_item, epoch, position, latest = returned
        skipped = latest[1] if latest is not None and latest[0] == work_item.work_id else SkippedSamples()
        if work_item.lane < 0:
            return DeliveredBatch(work_item, work_item.epoch, work_item.position, skipped)
        # An element belongs to no epoch; the consumer's point after it shows its position.
        epoch, position = self.progress.before(epoch, position)
        return DeliveredBatch(work_item, epoch, position, skipped, self.start_of_returned())

    def epoch_of(self, work_item: WorkItem) -> int:
        """Return the epoch of a batch that is being delivered, or was just counted."""
        if not self._cursor.lane_share.is_endless:
            return work_item.epoch
        progress = self.progress
        has_ended_it = work_item is self.latest and not progress.position
        return progress.epoch - has_ended_it
