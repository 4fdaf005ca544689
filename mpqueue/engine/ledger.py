"""The ledger of one stream: which work items were dealt, which are answered, which were handed out. Pure.

    cursor --deal----+--> work items --answered--> ready --take--> opened --count--> progress
    wanted ----deal--+    (outstanding)           +---take_extra--> (counted by nobody)

The consumer's side (`mpqueue.engine.pipeline`) and the backend share it; each call is made under the lock of the
pipeline. The backend deals and answers; the pipeline takes and counts. What may be dealt is bounded by `credit`, the
number of work items that may be outstanding.

*Two queues.* Beside the order stand *extra* work items, of positions that were handed out before and are to be computed
again. They have numbers (below 0: where memory is short, what is due later makes room for them) and a credit of their
own, are dealt first, and are taken in the order of the requests.

*Progress.* A batch is *counted* when it is opened. It has *come* when its caller has it. Between the two an interrupt
may strike; then the batch is *unclaimed* until it is handed out after all, and the place where a stream goes on is
before it.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from mpqueue.engine.outcomes import Outcome, Result
from mpqueue.plan.cursors import Cursor, Place, StreamCursor, WorkItem
from mpqueue.plan.lanes import LaneTable, starts
from mpqueue.system.interrupts import is_of_handler

FIRST_EXTRA = -1 << 62


class Progress:
    """The place up to which batches are counted; see `Place` for the attributes.

    Args:
        num_lanes: How many streams the batches come from; 0: they have positions.
        lanes: What is known of these streams.

    Attributes:
        unclaimed: Work items and batches that were counted and have not come to their caller: they are handed out
        first.
            By one assignment, so that no interrupt finds half of it.
    """

    def __init__(self, num_lanes: int, lanes: LaneTable | None = None) -> None:
        self._lanes = lanes or LaneTable(num_lanes)
        self._lanes.follow(lambda: self.counts)
        self.epoch = self.position = 0
        self.ahead: set[int] = set()
        self.counts = [0] * num_lanes
        self.unclaimed: tuple[tuple[WorkItem, Any], ...] = ()
        self._ended = (-1, 0)  # the epoch before this one, and the number of its batches
        self._begun = (-1, 0)  # the epoch of the last `go_to`, and its base

    def place(self) -> Place:
        """Return the place of the consumer: behind all that has come to it, before what has not."""
        known, counted = self._lanes.known(), self._counted()  # in this order: another thread may count meanwhile
        if self.unclaimed:
            counted = self._before([work_item for work_item, _ in self.unclaimed], counted)
        return counted._replace(starts=starts(known, counted.counts), ends=self._lanes.ends_by_lane())

    def counted(self) -> Place:
        """Return the place up to which batches are counted."""
        known, counted = self._lanes.known(), self._counted()
        return counted._replace(starts=starts(known, counted.counts), ends=self._lanes.ends_by_lane())

    def _counted(self) -> Place:
        while True:  # another thread may count meanwhile
            place = Place(self.epoch, self.position, tuple(sorted(self.ahead)), tuple(self.counts))
            if (self.epoch, self.position) == place[:2]:
                return place._replace(base=self._base(place.epoch))

    def _before(self, missing: list[WorkItem], counted: Place) -> Place:
        """Return a place without some work items that may have been counted."""
        # The work items are of one stream, so all of them have a lane, or none has.
        if missing[0].lane >= 0:
            return self._before_elements(missing, counted)
        epoch = min(work_item.epoch for work_item in missing)
        positions = {work_item.position for work_item in missing if work_item.epoch == epoch}
        end, ahead = counted.position, counted.ahead
        if epoch != counted.epoch:  # it is over but for these
            end, ahead = self._ended[1] if self._ended[0] == epoch else max(positions) + 1, ()
        first = min(end, *positions)
        left = tuple(place for place in (*range(first, end), *ahead) if place not in positions)
        return Place(epoch, first, left, base=self._base(epoch))

    def _base(self, epoch: int) -> int:
        begun, base = self._begun
        return base if epoch == begun else 0

    def _before_elements(self, missing: list[WorkItem], counted: Place) -> Place:
        epoch, position, counts = counted.epoch, counted.position, list(counted.counts)
        # Not each is counted: an interrupt may have struck before that. A lane counts up to its first missing element.
        position -= sum(work_item.unit < counts[work_item.lane] for work_item in missing)
        for work_item in missing:
            counts[work_item.lane] = min(counts[work_item.lane], work_item.unit)
        if position < 0 and self._ended[0] == epoch - 1:  # some are of the epoch before
            epoch, position = self._ended[0], self._ended[1] + position
        return Place(epoch, max(0, position), (), tuple(counts))

    def go_to(self, place: Place) -> None:
        """Go on counting from this place."""
        self.epoch, self.position, self.ahead = place.epoch, place.position, set(place.ahead)
        self._begun = place.epoch, place.base
        self.counts = list(place.counts) or [0] * len(self.counts)

    def count(self, work_item: WorkItem) -> int:
        """Count a batch that was handed out, by one assignment, so that an interrupt cannot count half of it.

        Returns: The number of batches of the epoch that were handed out without a gap.
        """
        if work_item[4] >= 0:  # by number: a third of the time that names take
            self.counts[work_item.lane] = work_item.unit + 1  # and no call before the next line: they are as one
            self.position += 1
            return self.position
        position, ahead = work_item[2], self.ahead
        if position != self.position:
            ahead.add(position)
            return self.position
        position += 1
        # In order, as most batches come, there is nothing to look up.
        if not ahead:
            self.position = position
            return position
        while position in ahead:
            position += 1
        self.position = position
        # Behind the position: struck between the two, a position is told of twice, and none is lost.
        ahead.difference_update([earlier for earlier in ahead if earlier < position])
        return position

    def is_counted(self, work_item: WorkItem) -> bool:
        """Return True if `count` has counted this work item; for after an interrupt in the middle of it."""
        if work_item.lane >= 0:
            return work_item.unit < self.counts[work_item.lane]
        return work_item.epoch != self.epoch or work_item.position < self.position or work_item.position in self.ahead

    def pass_over(self, work_item: WorkItem) -> None:
        """Count an element of a lane that was left out: it is no batch of the epoch."""
        self.counts[work_item.lane] = work_item.unit + 1

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all batches of the epochs before were handed out."""
        # May be repeated for the epoch that it is in (`recount`): the number of batches of the one before stays.
        if epoch != self.epoch:
            self._ended = self.epoch, self.position
        self.epoch = epoch
        self.position = 0
        self.ahead.clear()


class Ledger:
    """The work items of one stream.

    Args:
        cursor: Deals the work items.
        credit: How many work items of the order may be dealt and not yet handed out, and as many extra ones.
        ordered: Work items are taken in their order; otherwise as they are answered.

    Attributes:
        credit: How many work items may be outstanding: those of the order, and the extra ones that are.
        allowance: How many of the order may be outstanding now; 0 during a pause.
        progress: What was handed out.
        lanes: What is known of the streams that batches come from. The backend adds their snapshots.
        ready: Outcomes by the number of their work item, in the order of their coming. The backend adds them.
        work items: Those that were dealt and not taken, by number.
        wanted: Extra work items that are to be dealt.
        extras: The numbers of those that were dealt and not taken.
        owner_of: Returns which worker has a lane, so that a slow worker cannot hold all of the credit. The backend of
            several workers sets it for a stream without an order; None: work items are dealt in their order.
        settle: Called with a work item and its outcome that is no plain batch, before it is taken; False: not now.
        head: The number of the next work item to be handed out; without an order, of the oldest that was not.
        latest: The work item that was counted last.
        num_batches: How many were counted.
        num_in_hand: How many are taken and not counted yet, where that makes a difference to what may be dealt.
        is_waiting: The backend sets it, with the pipeline's lock, around what an interrupt may end without harm.
        is_closed: Nothing is dealt any more.
        failure: An error for the consumer that belongs to no work item.
        unsharded: The lanes that ended, and whose stream never asked which worker it is in. The backend adds them.
        needs_attention: Something rare is to be done before the next batch can be handed out.
    """

    def __init__(self, cursor: Cursor, credit: int, *, ordered: bool = True) -> None:
        self.cursor, self.is_ordered = cursor, ordered
        self.credit = self.allowance = self._credit = credit
        self.lanes = cursor.lanes
        self.progress = Progress(cursor.num_lanes, self.lanes)
        self.progress.enter(cursor.epoch)
        cursor.follow(self.progress)
        self.ready: dict[int, Outcome] = {}
        self.work_items: dict[int, WorkItem] = {}
        self.wanted: deque[WorkItem] = deque()
        self.extras: deque[int] = deque()
        self.owner_of: Callable[[int], int] | None = None
        self.settle: Callable[[WorkItem, Outcome], bool] = lambda _work_item, _outcome: True
        self._next_extra = FIRST_EXTRA
        self.head = self.num_batches = self.num_in_hand = 0
        self.latest: WorkItem | None = None
        self.is_waiting = self.is_closed = self.needs_attention = False
        self.failure: BaseException | None = None
        self.unsharded: set[int] = set()

    # -- The backend's side

    @property
    def epoch(self) -> int:
        """The epoch that is dealt now."""
        return self.cursor.epoch

    @property
    def is_stream(self) -> bool:
        """True if the work items belong to lanes: each worker has a stream of its own."""
        return self.cursor.num_lanes > 0

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements that were handed out, of each lane; empty without lanes."""
        return tuple(self.progress.counts)

    @property
    def has_urgent(self) -> bool:
        """True if nothing is computed beside the order, and something should be: it must not wait for the order."""
        return bool(self.wanted) and not self.extras

    @property
    def num_taken(self) -> int:
        """Batches that have come to the consumer."""
        return self.num_batches - len(self.progress.unclaimed)

    @property
    def num_outstanding(self) -> int:
        """Work items that were dealt and not taken."""
        return len(self.work_items)

    @property
    def num_in_order(self) -> int:
        """Work items of the order that were dealt and not taken."""
        return len(self.work_items) - len(self.extras)

    def is_outstanding(self, number: int) -> bool:
        """Return True if this work item was dealt and not taken."""
        return number in self.work_items

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Deal up to so many of the next work items, extra ones first; none without credit, or without work for now."""
        if self.is_closed:
            return []
        work_items = self.work_items
        if self.wanted and (dealt := self._deal_extras(limit)):
            return dealt
        num_dealt, cursor = self.num_in_order, self.cursor
        room = self.allowance - num_dealt
        # Elements have no epochs of their own, so that nothing else keeps a stream without end inside of the last one.
        if cursor.num_lanes:
            room = min(room, cursor.room_for(num_dealt + self.num_in_hand))
        if room <= 0:
            return []
        try:
            limit = min(limit, room)
            dealt = cursor.deal(limit) if self.owner_of is None else self._deal_fairly(limit, self.owner_of)
        except Exception as error:
            # A length or a sampler is the user's code, in which a handler may strike: that is no error of the source.
            if is_of_handler(error):
                raise
            self._note_undealt(error)
            return []
        for work_item in dealt:
            work_items[work_item.number] = work_item
        return dealt

    def _deal_fairly(self, limit: int, owner: Callable[[int], int]) -> list[WorkItem]:
        assert isinstance(self.cursor, StreamCursor)
        held = Counter(owner(work_item.lane) for work_item in self.work_items.values() if work_item.lane >= 0)
        return self.cursor.deal_fairly(limit, self._credit, held, owner)

    def _deal_extras(self, limit: int) -> list[WorkItem]:
        dealt: list[WorkItem] = []
        while self.wanted and len(dealt) < limit and len(self.extras) < self._credit:
            work_item = self.wanted.popleft()
            self.work_items[work_item.number] = work_item
            self.extras.append(work_item.number)
            dealt.append(work_item)
        self._extend_credit()
        return dealt

    def _extend_credit(self) -> None:
        """Extra work items use up none of the order's credit."""
        self.credit = self._credit + len(self.extras)

    def _note_undealt(self, error: Exception) -> None:
        """Put an error into the place of the next epoch, which the source does not have; once."""
        # It is asked again with every `pump` until the consumer is there.
        if any(work_item.position < 0 for work_item in self.work_items.values()):
            return
        work_item = self.cursor.deal_failure()
        self.work_items[work_item.number] = work_item
        self.ready[work_item.number] = Result.failed(error)

    def forget_undealt(self) -> None:
        """Ask the cursor again, if what comes next is an error in dealing: the source may be well by now."""
        work_item = self.work_items.get(self.head)
        if work_item is not None and work_item.position < 0:
            del self.work_items[self.head], self.ready[self.head]
            self.head += 1

    def fail(self, error: BaseException) -> None:
        """Have the consumer's following `step` raise this error, which belongs to no work item."""
        self.failure = error
        self.needs_attention = True

    # -- The consumer's side

    @property
    def has_next(self) -> bool:
        """True if `take` would return something, if it is plain."""
        return (self.head if self.is_ordered else self._first_ready()) in self.ready

    def take(self) -> tuple[WorkItem, Outcome] | None:
        """Take the next outcome of the order, with its work item; None: it is not ready."""
        head = self.head
        number = head if self.is_ordered else self._first_ready()
        outcome = self.ready.pop(number, None)
        if outcome is None:
            return None
        work_item = self.work_items.pop(number)
        # Before the head goes on: a batch that a server has moved out of the ring needs a slot again, and may have to
        # wait.
        if not (outcome.is_plain or self.settle(work_item, outcome)):
            self._put_back(work_item, outcome)
            return None
        if number == head:
            head += 1
            # Without an order those behind it may have been taken before: who waits asks for the oldest that was not.
            while not self.is_ordered and head not in self.work_items and head < self.cursor.next_number:
                head += 1
            self.head = head
        return work_item, outcome

    def _first_ready(self) -> int:
        """Return the work item that was answered first in this epoch; later epochs wait until this one ends."""
        for number in self.ready:
            # Extra ones, below 0, go to those who asked for them.
            if number >= 0:
                work_item = self.work_items[number]
                if work_item.lane >= 0 or work_item.epoch == self.progress.epoch:
                    return number
        return -1

    def _put_back(self, work_item: WorkItem, outcome: Outcome) -> None:
        self.work_items[work_item.number], self.ready[work_item.number] = work_item, outcome

    def want(self, epoch: int, position: int) -> None:
        """Have a position computed beside the order.

        Raises:
            LookupError: As of `mpqueue.plan.cursors.Cursor.unit_at`.
        """
        drawn = self.cursor.unit_at(epoch, position)
        self.wanted.append(WorkItem(self._next_extra, epoch, position, drawn.unit, -1, drawn.listed))
        self._next_extra += 1

    def take_extra(self) -> tuple[WorkItem, Outcome] | None:
        """Take the next outcome beside the order, with its work item; None: it is not ready, or there is none."""
        outcome = self.ready.pop(self.extras[0], None) if self.extras else None
        if outcome is None:
            return None
        work_item = self.work_items.pop(self.extras.popleft())
        if outcome.is_plain or self.settle(work_item, outcome):
            self._extend_credit()
            return work_item, outcome
        self._put_back(work_item, outcome)
        self.extras.appendleft(work_item.number)
        return None

    def at_work(self) -> set[int]:
        """Return the numbers of the work items that are not answered."""
        return self.work_items.keys() - self.ready.keys()

    def count(self, work_item: WorkItem) -> bool:
        """Count a batch that is handed out; return True if it was the last of its epoch."""
        self.latest = work_item  # from here on it counts; see NOTE [ Interrupts ] in mpqueue.engine.pipeline
        self.num_batches += 1
        if self.progress.count(work_item) != self.cursor.lengths.get(work_item[1]):
            return False
        self.enter(1 + (work_item.epoch if work_item.lane < 0 else self.progress.epoch))  # an element is of any epoch
        return True

    def recount(self, work_item: WorkItem) -> bool:
        """Finish a `count` that was interrupted anywhere behind its first line."""
        progress = self.progress
        if not progress.is_counted(work_item):
            return self.count(work_item)
        if work_item.lane >= 0:
            length = self.cursor.lengths.get(work_item.epoch)
            if length is None or 0 < progress.position < length:
                return False
            self.enter(progress.epoch + (progress.position > 0))
            return True
        if work_item.epoch == progress.epoch:
            is_last = progress.position == self.cursor.lengths.get(work_item.epoch, -1)
            if is_last:
                self.enter(work_item.epoch + 1)
            return is_last
        self.enter(progress.epoch)
        return True

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all of the one before was handed out."""
        self.progress.enter(epoch)
        self.cursor.forget(epoch - 1)

    def go_to(self, place: Place) -> None:
        """Forget all work items and deal from another place on."""
        self.forget_work_items()
        self.cursor.go_to(place)
        self.progress.go_to(place)

    def stand_before(self, epoch: int) -> None:
        """Forget all work items and wait for the next epoch to be opened."""
        self.cursor.stand_before(epoch)
        self.forget_work_items()

    def forget_work_items(self) -> None:
        """No work item is outstanding; the extra ones are to be dealt again."""
        # In front and in their order: they were asked for before those that were never dealt.
        self.wanted.extendleft(self.work_items[number] for number in reversed(self.extras))
        self.extras.clear()
        self._extend_credit()
        self.work_items.clear()
        self.num_in_hand = 0
        # Numbers are never used again: an answer to a forgotten work item that still comes finds none.
        self.head = self.cursor.next_number

    def pause(self) -> None:
        """Deal nothing of the order until `resume`."""
        self.allowance = 0

    def resume(self) -> None:
        """Deal with all of the credit."""
        self.allowance = self._credit

    def close(self) -> None:
        """Deal nothing any more, and have the consumer look."""
        self.is_closed = self.needs_attention = True
