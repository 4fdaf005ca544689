"""The ledger of one stream: which work items were dealt, answered and taken. It starts no process and reads no clock.

    cursor --deal--> work items --answered--> ready --take--> opened --count--> progress
                     (outstanding)

The pipeline (`mpqueue.engine.pipeline`) and the backend share the ledger; every call is made under the pipeline's lock.
The backend deals and answers work items; the pipeline takes and counts them. `credit` bounds the number of outstanding
work items.

*Progress.* A batch is *counted* when it is opened. A front end that takes batches ahead of its user *holds* them: see
`mpqueue.engine.deliveries`. A saved state starts before all batches that are held.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from mpqueue.engine.deliveries import Delivery, Record
from mpqueue.engine.outcomes import Outcome, Result
from mpqueue.engine.returned_parts import ReturnedParts
from mpqueue.plan.position.cursors import FROM_BEGINNING, Cursor, Place, WorkItem
from mpqueue.plan.position.lanes import BEGINNING, LaneStart, LaneTable, ends_before, starts
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.exception_texts import raised_ahead

if TYPE_CHECKING:
    from mpqueue.plan.position.stream_cursor import StreamCursor  # only a stream imports it


class Progress:
    """The place up to which batches are counted; see `Place` for the attributes.

    Args:
        num_lanes: Number of lanes of the source; 0 if batches have positions.
        lanes: The known snapshots and ends of these lanes.

    Attributes:
        deliveries: What front ends have taken, and the user has not got. Each change is one assignment.
        interrupted: A batch that was counted in a call that an exception of a signal handler has left.
        returned: The batch that the user has got last; None: none.
        ended: The previous epoch, and the number of its batches.
        own_epoch: The latest epoch in which a batch was left out or raised on this rank alone; -1: none.
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

    def place(self, without: Iterable[WorkItem] = ()) -> Place:
        """Return the user's place: after all batches that it has got, before all others.

        Args:
            without: Work items of batches that count as not got, too.
        """
        # Lanes first: another thread may count in the meantime, and a snapshot must not be ahead of the counts.
        known, counted, ends = self._lanes.known(), self._counted(), self._lanes.ends_by_lane()
        if missing := [*self.missing(), *without]:
            counted = self._before(missing, counted)
            ends = ends_before(ends, counted.counts)
        return counted._replace(starts=starts(known, counted.counts), ends=ends)

    def counted(self) -> Place:
        """Return the place up to which batches are counted."""
        known, counted = self._lanes.known(), self._counted()
        return counted._replace(starts=starts(known, counted.counts), ends=self._lanes.ends_by_lane())

    def _counted(self) -> Place:
        # Another thread may count while the fields are copied; then copy them again.
        while True:
            place = Place(self.epoch, self.position, tuple(sorted(self.ahead)), tuple(self.counts))
            if (self.epoch, self.position) == place[:2]:
                return place._replace(base=self._base, is_own=place.epoch == self.own_epoch)

    def missing(self) -> list[WorkItem]:
        """Return the work items that were counted, and whose batches the user has not got."""
        found = [each.record[0] for each in self.deliveries]
        interrupted = self.interrupted
        return found if interrupted is None or interrupted in found else [*found, interrupted]

    def without(self, delivery: Delivery) -> tuple[Delivery, ...]:
        """Return the deliveries without one of them, for an assignment."""
        return tuple(each for each in self.deliveries if each is not delivery)

    @property
    def has_missing(self) -> bool:
        """True if the user has not got all batches that were counted: the epoch cannot end yet."""
        return bool(self.missing())

    def kept(self) -> tuple[int, int]:
        """Return the epoch and the position before which the user has got all batches.

        Whoever forgets what a state at an earlier place needs asks for this place, not for the counted one.
        """
        return min([(self.epoch, self.position), *((each.epoch, each.position) for each in self.missing())])

    def _kept_of(self, lane: int) -> int:
        """Return the number of elements of a lane that the user has got without a gap."""
        return min([self.counts[lane], *(each.unit for each in self.missing() if each.lane == lane)])

    def _before(self, missing: list[WorkItem], counted: Place) -> Place:
        """Return the counted place without some work items that may have been counted."""
        # The work items belong to one stream, so that either all of them have a lane, or none.
        if missing[0].lane >= 0:
            return self._before_elements(missing, counted)
        epoch = min(work_item.epoch for work_item in missing)
        positions = {work_item.position for work_item in missing if work_item.epoch == epoch}
        end, ahead = counted.position, counted.ahead
        if epoch != counted.epoch:  # the missing batches are the only ones left of an earlier epoch
            end, ahead = self.ended[1] if self.ended[0] == epoch else max(positions) + 1, ()
        first = min(end, *positions)
        left = tuple(place for place in (*range(first, end), *ahead) if place not in positions)
        return Place(epoch, first, left, base=self._base, is_own=epoch == self.own_epoch)

    def _before_elements(self, missing: list[WorkItem], counted: Place) -> Place:
        epoch, position, counts = counted.epoch, counted.position, list(counted.counts)
        # Some of them may be uncounted, after an interrupt. A lane counts up to its first missing element.
        position -= sum(work_item.unit < counts[work_item.lane] for work_item in missing)
        for work_item in missing:
            counts[work_item.lane] = min(counts[work_item.lane], work_item.unit)
        if position < 0 and self.ended[0] == epoch - 1:  # some belong to the previous epoch
            epoch, position = self.ended[0], self.ended[1] + position
        return Place(epoch, max(0, position), (), tuple(counts), base=self._base)

    def go_to(self, place: Place) -> None:
        """Continue to count from this place. What the user has not got is dropped."""
        own_epoch = place.epoch if place.is_own else -1
        ahead, counts = set(place.ahead), list(place.counts) or [0] * len(self.counts)
        # Assignments alone, so that the run is at one place or at the other.
        self.epoch, self.position, self.ahead, self.counts = place.epoch, place.position, ahead, counts
        self._base, self.own_epoch, self.deliveries, self.interrupted = place.base, own_epoch, (), None

    def gap_free(self, position: int) -> tuple[int, set[int]]:
        """Return the position and the positions ahead after this position was delivered, too."""
        if position != self.position:
            return self.position, self.ahead | {position}
        position += 1
        while position in self.ahead:
            position += 1
        return position, {later for later in self.ahead if later > position}

    def before(self, epoch: int, position: int) -> tuple[int, int]:
        """Return the epoch and the position of the batch before a place of this epoch, or of the one before."""
        if position:
            return epoch, position - 1
        return epoch - 1, self.ended[1] - 1 if self.ended[0] == epoch - 1 else 0

    def count_skipped(self, work_item: WorkItem) -> None:
        """Count a skipped element of a lane, which is not a batch of the epoch."""
        self.counts[work_item.lane] = work_item.unit + 1

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all batches of earlier epochs were delivered."""
        if epoch != self.epoch:  # a loop may begin the present epoch again
            self.ended = self.epoch, self.position
        self.epoch, self.position, self.ahead = epoch, 0, set()


class Ledger:
    """The work items of one stream.

    Args:
        cursor: Deals the work items.
        credit: Maximum number of outstanding work items.
        ordered: Take work items in their order; otherwise as they are answered.

    Attributes:
        credit: Maximum number of outstanding work items.
        allowance: Maximum number of outstanding work items of the order now; 0 during a pause.
        progress: The place up to which batches are counted.
        lanes: The known snapshots and ends of the lanes. The backend adds the snapshots.
        parts: The samples of each part of a mixture in the delivered batches. The backend adds those of each batch.
        ready: Outcomes by the number of their work item, in the order of arrival. The backend adds them.
        work_items: Work items that were dealt and not taken, by number.
        owner_of: Returns the worker of a lane, so that a slow worker cannot hold all of the credit. A backend with
            several workers sets it for an unordered stream. If None, work items are dealt in their order.
        settle: Called with a work item and its outcome before it is taken, if it is not a plain batch. It returns False
            to postpone that.
        head: Number of the next work item to be delivered; without an order, of the oldest undelivered one.
        latest: The work item that was counted last.
        num_batches: Number of counted work items.
        num_empty: Number of those that returned no batch: an error was raised, or all samples were skipped.
        num_in_hand: Number of work items that are taken and not counted yet, where that changes what may be dealt.
        is_closed: No more work items are dealt.
        failure: An error for the consumer that belongs to no work item.
        unsharded: Exhausted lanes that never requested their worker's id. The backend adds them.
        needs_attention: Something rare must be done before the next batch can be delivered.
    """

    def __init__(self, cursor: Cursor, credit: int, *, ordered: bool = True) -> None:
        self.cursor, self.is_ordered = cursor, ordered
        self.credit = self.allowance = credit
        self.lanes = cursor.lanes
        self.progress = Progress(cursor.num_lanes, self.lanes)
        self.progress.enter(cursor.epoch)
        self.parts = ReturnedParts(self.progress)
        cursor.follow(self.progress)
        self.ready: dict[int, Outcome] = {}
        self.work_items: dict[int, WorkItem] = {}
        self.owner_of: Callable[[int], int] | None = None
        self.settle: Callable[[WorkItem, Outcome], bool] = lambda _work_item, _outcome: True
        self.head = self.num_batches = self.num_empty = self.num_in_hand = 0
        self._start_before: tuple[int, LaneStart] = -1, BEGINNING  # of a batch returned before `move`, by its number
        self._num_dropped = 0  # counted, and dropped before the user got them
        self.latest: WorkItem | None = None
        self.is_closed = self.needs_attention = False
        self.failure: BaseException | None = None
        self.unsharded: set[int] = set()

    # -- The backend's side

    @property
    def is_stream(self) -> bool:
        """True if the work items belong to lanes, so that each worker has its own stream."""
        return self.cursor.num_lanes > 0

    @property
    def num_taken(self) -> int:
        """Number of batches that the user has got, and of errors."""
        return self.num_batches - self._num_dropped - len(self.progress.missing())

    @property
    def num_returned(self) -> int:
        """Number of batches that the user has got, without errors and batches whose samples were skipped."""
        return self.num_taken - self.num_empty + self._num_open_errors

    @property
    def _num_open_errors(self) -> int:
        """Number of errors that are held; they were counted as empty."""
        return sum(each.error is not None for each in self.progress.deliveries)

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return up to ``limit`` new work items; an empty list without credit or work."""
        if self.is_closed:
            return []
        work_items = self.work_items
        num_dealt, cursor = len(work_items), self.cursor
        room = self.allowance - num_dealt
        # Elements belong to no epoch, so that only this bound keeps an endless stream inside its last epoch.
        if cursor.num_lanes:
            room = min(room, cursor.room_for(num_dealt + self.num_in_hand))
        if room <= 0:
            return []
        try:
            limit = min(limit, room)
            dealt = cursor.deal(limit) if self.owner_of is None else self._deal_fairly(limit, self.owner_of)
        except BaseException as error:  # a length or a sampler is user code
            if is_interrupt(error):
                raise
            self._record_deal_error(error)
            return []
        for work_item in dealt:
            work_items[work_item.number] = work_item
        return dealt

    def _deal_fairly(self, limit: int, owner: Callable[[int], int]) -> list[WorkItem]:
        cursor = cast("StreamCursor", self.cursor)  # another one has no lanes, which workers own
        # Counted at each call: the credit bounds the number of outstanding work items.
        held = Counter(owner(work_item.lane) for work_item in self.work_items.values() if work_item.lane >= 0)
        return cursor.deal_fairly(limit, self.credit, held, owner)

    def _record_deal_error(self, error: BaseException) -> None:
        """Put an error in place of the next epoch, which the source failed to describe; only once."""
        # Every `pump` tries the source again, until the consumer has seen the error.
        if any(work_item.position < 0 for work_item in self.work_items.values()):
            return
        if self.work_items or self.num_in_hand:
            raised_ahead(error)
        work_item = self.cursor.deal_failure()
        self.work_items[work_item.number] = work_item
        self.ready[work_item.number] = Result.failed(error)

    def forget_deal_error(self) -> None:
        """Remove an error in dealing that would be delivered next, so that the source is tried again."""
        work_item = self.work_items.get(self.head)
        if work_item is not None and work_item.position < 0:
            del self.work_items[self.head], self.ready[self.head]
            self.head += 1

    def fail(self, error: BaseException) -> None:
        """Make the consumer's next `step` raise this error, which belongs to no work item."""
        self.failure = error
        self.needs_attention = True

    # -- The consumer's side

    @property
    def has_next(self) -> bool:
        """True if `take` would return a work item, provided that its outcome is plain."""
        return self.next_outcome() is not None

    def next_outcome(self) -> Outcome | None:
        """Return the outcome that `take` would return, without taking it; None: it is not ready."""
        return self.ready.get(self.head if self.is_ordered else self._first_ready())

    def take(self) -> tuple[WorkItem, Outcome] | None:
        """Take the next outcome of the order with its work item, or return None if it is not ready."""
        head = self.head
        number = head if self.is_ordered else self._first_ready()
        outcome = self.ready.pop(number, None)
        if outcome is None:
            return None
        work_item = self.work_items.pop(number)
        # Before the head advances: a server may have moved the batch out of the ring. It then needs a slot again, and
        # may have to wait.
        if not (outcome.is_plain or self.settle(work_item, outcome)):
            self._put_back(work_item, outcome)
            return None
        if number == head:
            head += 1
            # Without an order, later work items may be taken already: the head is the oldest one that is not.
            while not self.is_ordered and head not in self.work_items and head < self.cursor.next_number:
                head += 1
            self.head = head
        return work_item, outcome

    def _first_ready(self) -> int:
        """Return the number of the first answer in this epoch; later epochs wait until this one ends."""
        for number in self.ready:
            work_item = self.work_items[number]
            if work_item.lane >= 0 or work_item.epoch == self.progress.epoch:
                return number
        return -1

    def _put_back(self, work_item: WorkItem, outcome: Outcome) -> None:
        self.work_items[work_item.number], self.ready[work_item.number] = work_item, outcome

    def at_work(self) -> set[int]:
        """Return the numbers of the work items that are not answered yet."""
        return self.work_items.keys() - self.ready.keys()

    def count(self, work_item: WorkItem, *, is_empty: bool = False) -> bool:
        """Count a batch, or an error in its place (``is_empty``); return True if it was the last of its epoch."""
        # Most batches have a position and arrive in order. Access by index takes a third of the time of access by name.
        progress, position = self.progress, work_item[2]
        if work_item[4] < 0 and position == progress.position and not progress.ahead:
            position += 1
            if not is_empty and position != self.cursor.lengths.get(work_item[1]):
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
        is_last = position == self.cursor.lengths.get(work_item[1])
        nothing = set[int]()
        # Assignments alone from here on, so that a place is never half counted.
        self.latest = work_item
        self.num_batches += 1
        self.num_empty += is_empty
        progress.own_epoch = own_epoch
        if lane >= 0:
            progress.counts[lane] = work_item.unit + 1
        if not is_last:
            progress.position, progress.ahead = position, ahead
            return False
        # In this order: a thread that reads a place finds the length of the previous epoch as soon as there is one.
        progress.ended = epoch, position
        progress.epoch, progress.position, progress.ahead = epoch + 1, 0, nothing
        return True

    def hold(self, delivery: Delivery) -> None:
        """Record that a front end has a batch, or an error in its place."""
        self.progress.deliveries = (*self.progress.deliveries, delivery)

    def forget_epochs(self) -> None:
        """Forget the epochs whose batches the user has got."""
        self.cursor.forget(self.progress.kept()[0] - 1)

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all batches of the previous one were delivered."""
        self.progress.enter(epoch)
        self.cursor.forget(epoch - 1)

    def go_to(self, place: Place) -> None:
        """Forget all work items and deal from another place."""
        self.move(place)
        self.forget_work_items()
        self.cursor.go_to(place)

    def start_of_returned(self) -> LaneStart:
        """Return the newest snapshot from which its lane returns the last batch of the user again."""
        assert self.progress.returned is not None
        work_item = self.progress.returned[0]
        number, start = self._start_before
        return start if number == work_item.number else self.lanes.start(work_item.lane, work_item.unit)

    def move(self, place: Place) -> None:
        """Count from another place. What was counted, and the user has not got, is dropped."""
        progress = self.progress
        if progress.returned is not None and self.is_stream:
            # The place has no snapshot before this batch, if the batch is the last one of its lane there.
            self._start_before = progress.returned[0].number, self.start_of_returned()
        self.parts.forget_undelivered(progress.place())
        num_dropped = self._num_dropped + len(progress.missing())
        num_empty = self.num_empty - self._num_open_errors
        progress.go_to(place)
        self._num_dropped, self.num_empty = num_dropped, num_empty

    def drop_held(self) -> None:
        """Drop what front ends hold; the counted place does not change."""
        progress = self.progress
        if progress.deliveries:
            self.parts.forget_undelivered(progress.place())
            num_dropped, num_empty = len(progress.deliveries), self.num_empty - self._num_open_errors
            self._num_dropped += num_dropped
            self.num_empty, progress.deliveries = num_empty, ()

    def stand_before(self, epoch: int) -> None:
        """Forget all work items and wait for the next epoch to be opened."""
        self.cursor.stand_before(epoch)
        self.forget_work_items()

    def forget_work_items(self) -> None:
        """Make no work item outstanding."""
        self.parts.forget_undelivered(self.progress.counted())
        self.work_items.clear()
        self.num_in_hand = 0
        # Numbers are never reused: a late answer to a forgotten work item finds no entry.
        self.head = self.cursor.next_number

    def pause(self) -> None:
        """Deal no work item of the order until `resume`."""
        self.allowance = 0

    def resume(self) -> None:
        """Deal with the full credit again."""
        self.allowance = self.credit

    def close(self) -> None:
        """Deal no more work items, and have the consumer's next step notice it."""
        self.is_closed = self.needs_attention = True
