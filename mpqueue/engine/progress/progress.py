"""`Progress`: the point up to which batches are counted, and the counted batches that the user does not have yet.

A batch is *counted* when it is opened. A front end that takes batches ahead of its user *holds* them: see
`mpqueue.engine.progress.deliveries`. A saved state starts before all batches that are held.
"""

from collections.abc import Iterable

from mpqueue.engine.progress.deliveries import Delivery, Record
from mpqueue.plan.position.cursors import FROM_BEGINNING, ResumePoint, WorkItem
from mpqueue.plan.position.lanes import LaneTable, ends_before, starts


class Progress:
    """The point up to which batches are counted; see `ResumePoint` for the attributes.

    Args:
        num_lanes: Number of lanes of the source; 0 if batches have positions.
        lanes: The known snapshots and ends of these lanes.

    Attributes:
        deliveries: What front ends have taken, and the user has not got. Each change is one assignment.
        interrupted: A batch that was counted in a call that an exception of a signal handler has left.
        returned: The batch that the user has got last; None: none.
        ended: The previous epoch, and the number of its batches.
        own_epoch: The latest epoch with a batch that was skipped or raised on this rank alone; -1: none.
    """

    def __init__(self, num_lanes: int, lanes: LaneTable | None = None) -> None:
        self._lanes = lanes or LaneTable(num_lanes)
        self._lanes.follow(self._kept_of)
        self.epoch = self.position = 0
        self.ahead: set[int] = set()
        self.counts = [0] * num_lanes
        self.deliveries: tuple[Delivery, ...] = ()
        self.interrupted: WorkItem | None = None
        self.returned: Record | None = None
        self.ended = -1, 0
        self._base = FROM_BEGINNING
        self.own_epoch = -1

    def point(self, without: Iterable[WorkItem] = ()) -> ResumePoint:
        """Return the user's point: after all batches that it has got, before all others.

        Args:
            without: Work items of batches that count as not got, too.
        """
        # Lanes first: another thread may count in the meantime, and a snapshot must not be ahead of the counts.
        known, counted, ends = self._lanes.known(), self._counted(), self._lanes.ends_by_lane()
        if missing := [*self.missing(), *without]:
            counted = self._before(missing, counted)
            ends = ends_before(ends, counted.counts)
        return counted._replace(starts=starts(known, counted.counts), ends=ends)

    def counted(self) -> ResumePoint:
        """Return the point up to which batches are counted."""
        known, counted = self._lanes.known(), self._counted()
        return counted._replace(starts=starts(known, counted.counts), ends=self._lanes.ends_by_lane())

    def _counted(self) -> ResumePoint:
        # Another thread may count while the fields are copied; then copy them again.
        while True:
            point = ResumePoint(self.epoch, self.position, tuple(sorted(self.ahead)), tuple(self.counts))
            if (self.epoch, self.position) == point[:2]:
                return point._replace(base=self._base, is_own=point.epoch == self.own_epoch)

    def missing(self) -> list[WorkItem]:
        """Return the work items that were counted, but not delivered to the user."""
        found = [each.record[0] for each in self.deliveries]
        interrupted = self.interrupted
        return found if interrupted is None or interrupted in found else [*found, interrupted]

    def hold(self, delivery: Delivery) -> None:
        """Record that a front end has a batch, or an error instead."""
        self.deliveries = (*self.deliveries, delivery)

    def pass_on(self, delivery: Delivery) -> bool:
        """Record that the user has got a batch that is held or lent; return False if it was dropped before."""
        left = self.without(delivery)
        if len(left) == len(self.deliveries):
            return False
        self.deliveries, self.returned = left, delivery.record
        return True

    def drop_error(self, error: BaseException) -> None:
        """Record that the user gets an error that is held."""
        self.deliveries = tuple(each for each in self.deliveries if each.error is not error)

    def without(self, delivery: Delivery) -> tuple[Delivery, ...]:
        """Return the deliveries without the given one, for an assignment."""
        return tuple(each for each in self.deliveries if each is not delivery)

    @property
    def has_missing(self) -> bool:
        """True if the user has not got all batches that were counted: the epoch cannot end yet."""
        return bool(self.missing())

    def kept(self) -> tuple[int, int]:
        """Return the epoch and the position before which the user has got all batches.

        Code that drops data of earlier points must use this point, not the counted one.
        """
        return min([(self.epoch, self.position), *((each.epoch, each.position) for each in self.missing())])

    def _kept_of(self, lane: int) -> int:
        """Return the number of elements of a lane that the user has got without a gap."""
        return min([self.counts[lane], *(each.source_index for each in self.missing() if each.lane == lane)])

    def _before(self, missing: list[WorkItem], counted: ResumePoint) -> ResumePoint:
        """Return the counted point without some work items that may have been counted."""
        # The work items belong to one stream, so that either all of them have a lane, or none.
        if missing[0].lane >= 0:
            return self._before_elements(missing, counted)
        epoch = min(work_item.epoch for work_item in missing)
        positions = {work_item.position for work_item in missing if work_item.epoch == epoch}
        end, ahead = counted.position, counted.ahead
        if epoch != counted.epoch:  # the missing batches are the only ones left of an earlier epoch
            end, ahead = self.ended[1] if self.ended[0] == epoch else max(positions) + 1, ()
        first = min(end, *positions)
        left = tuple(batch for batch in (*range(first, end), *ahead) if batch not in positions)
        return ResumePoint(epoch, first, left, base=self._base, is_own=epoch == self.own_epoch)

    def _before_elements(self, missing: list[WorkItem], counted: ResumePoint) -> ResumePoint:
        epoch, position, counts = counted.epoch, counted.position, list(counted.counts)
        # Some of them may be uncounted, after an interrupt. A lane counts up to its first missing element.
        position -= sum(work_item.source_index < counts[work_item.lane] for work_item in missing)
        for work_item in missing:
            counts[work_item.lane] = min(counts[work_item.lane], work_item.source_index)
        if position < 0 and self.ended[0] == epoch - 1:  # some belong to the previous epoch
            epoch, position = self.ended[0], self.ended[1] + position
        return ResumePoint(epoch, max(0, position), (), tuple(counts), base=self._base)

    def go_to(self, point: ResumePoint) -> None:
        """Continue to count from this point. Batches that the user does not have are dropped."""
        own_epoch = point.epoch if point.is_own else -1
        ahead, counts = set(point.ahead), list(point.counts) or [0] * len(self.counts)
        # Assignments alone, so that the run is at one place or at the other.
        self.epoch, self.position, self.ahead, self.counts = point.epoch, point.position, ahead, counts
        self._base, self.own_epoch, self.deliveries, self.interrupted = point.base, own_epoch, (), None

    def gap_free(self, position: int) -> tuple[int, set[int]]:
        """Return the position and the positions ahead after this position was delivered, too."""
        if position != self.position:
            return self.position, self.ahead | {position}
        position += 1
        while position in self.ahead:
            position += 1
        return position, {later for later in self.ahead if later > position}

    def before(self, epoch: int, position: int) -> tuple[int, int]:
        """Return the epoch and the position of the batch before a point of this epoch, or of the one before."""
        if position:
            return epoch, position - 1
        return epoch - 1, self.ended[1] - 1 if self.ended[0] == epoch - 1 else 0

    def count_skipped(self, work_item: WorkItem) -> None:
        """Count a skipped element of a lane, which is not a batch of the epoch."""
        self.counts[work_item.lane] = work_item.source_index + 1

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all batches of earlier epochs were delivered."""
        if epoch != self.epoch:  # a loop may begin the present epoch again
            self.ended = self.epoch, self.position
        self.epoch, self.position, self.ahead = epoch, 0, set()
