"""The ledger of one stream: which work items were dealt, answered and taken. It starts no process and reads no clock.

    cursor --deal--> work items --answered--> ready --take--> opened --count--> progress
                     (outstanding)

The pipeline (`mpqueue.engine.pipeline`) and the backend share the ledger; every call is made under the pipeline's lock.
The backend deals and answers work items; the pipeline takes and counts them. `credit` bounds the number of outstanding
work items.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from mpqueue.engine.outcomes import Outcome, Result
from mpqueue.engine.progress.counts import BatchCounts
from mpqueue.engine.progress.progress import Progress
from mpqueue.plan.position.cursors import Cursor, ResumePoint, WorkItem
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.exception_texts import raised_ahead

if TYPE_CHECKING:
    from mpqueue.plan.position.stream_cursor import StreamCursor  # only a stream imports it


class Ledger:
    """The work items of one stream.

    Args:
        cursor: Deals the work items.
        credit: Maximum number of outstanding work items.
        ordered: Take work items in their order; otherwise as they are answered.

    Attributes:
        credit: Maximum number of outstanding work items.
        allowance: Maximum number of outstanding work items of the order now; 0 during a pause.
        progress: The point up to which batches are counted.
        counts: The counted batches.
        lanes: The known snapshots and ends of the lanes. The backend adds the snapshots.
        ready: Outcomes by the number of their work item, in the order of arrival. The backend adds them.
        work_items: Work items that were dealt and not taken, by id.
        owner_of: Returns the worker of a lane, so that a slow worker cannot hold all of the credit. A backend with
            several workers sets it for an unordered stream. If None, work items are dealt in their order.
        settle: Called with a work item and its outcome before it is taken, if it is not a plain batch. It returns False
            to postpone that.
        head: Id of the next work item to be delivered; without an order, of the oldest undelivered one.
        num_in_hand: Number of work items that are taken and not counted yet, where that changes what may be dealt.
        is_closed: No more work items are dealt.
        failure: An error for the consumer that belongs to no work item.
        holds: The present loop takes batches ahead of its user: each of them is added to `Progress.deliveries`.
        unsharded: Exhausted lanes that never requested their worker's id. The backend adds them.
        needs_attention: Something rare must be done before the next batch can be delivered.
    """

    def __init__(self, cursor: Cursor, credit: int, *, ordered: bool = True) -> None:
        self.cursor, self.is_ordered = cursor, ordered
        self.credit = self.allowance = credit
        self.lanes = cursor.lanes
        self.progress = Progress(cursor.num_lanes, self.lanes)
        self.progress.enter(cursor.epoch)
        self.counts = BatchCounts(self.progress, cursor)
        cursor.follow(self.progress)
        self.ready: dict[int, Outcome] = {}
        self.work_items: dict[int, WorkItem] = {}
        self.owner_of: Callable[[int], int] | None = None
        self.settle: Callable[[WorkItem, Outcome], bool] = lambda _work_item, _outcome: True
        self.head = self.num_in_hand = 0
        self.is_closed = self.needs_attention = self.holds = False
        self.failure: BaseException | None = None
        self.unsharded: set[int] = set()

    # -- The backend's side

    @property
    def is_stream(self) -> bool:
        """True if the work items belong to lanes, so that each worker has its own stream."""
        return self.cursor.num_lanes > 0

    def has_unsharded(self) -> bool:
        """Return whether several lanes returned elements, and none of them requested its index before it ended."""
        # `take(0)` and `repeat(0)` never open their source, so no element is repeated.
        return len(self.unsharded) == self.cursor.num_lanes > 1 and any(self.progress.counts)

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
            work_items[work_item.work_id] = work_item
        return dealt

    def _deal_fairly(self, limit: int, owner: Callable[[int], int]) -> list[WorkItem]:
        cursor = cast("StreamCursor", self.cursor)  # other cursors have no lanes, which workers own
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
        self.work_items[work_item.work_id] = work_item
        self.ready[work_item.work_id] = Result.failed(error)

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
        work_id = head if self.is_ordered else self._first_ready()
        outcome = self.ready.pop(work_id, None)
        if outcome is None:
            return None
        work_item = self.work_items.pop(work_id)
        # Before the head advances: a server may have moved the batch out of the ring. It then needs a slot again, and
        # may have to wait.
        if not (outcome.is_plain or self.settle(work_item, outcome)):
            self._put_back(work_item, outcome)
            return None
        if work_id == head:
            head += 1
            # Without an order, later work items may be taken already: the head is the oldest one that is not.
            while not self.is_ordered and head not in self.work_items and head < self.cursor.next_work_id:
                head += 1
            self.head = head
        return work_item, outcome

    def _first_ready(self) -> int:
        """Return the id of the first answer in this epoch; later epochs wait until this one ends."""
        for work_id in self.ready:
            work_item = self.work_items[work_id]
            if work_item.lane >= 0 or work_item.epoch == self.progress.epoch:
                return work_id
        return -1

    def _put_back(self, work_item: WorkItem, outcome: Outcome) -> None:
        self.work_items[work_item.work_id], self.ready[work_item.work_id] = work_item, outcome

    def at_work(self) -> set[int]:
        """Return the ids of the work items that are not answered yet."""
        return self.work_items.keys() - self.ready.keys()

    def forget_epochs(self) -> None:
        """Forget the epochs that the user has completed."""
        self.cursor.forget(self.progress.kept()[0] - 1)

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all batches of the previous one were delivered."""
        self.progress.enter(epoch)
        self.cursor.forget(epoch - 1)

    def go_to(self, point: ResumePoint) -> None:
        """Forget all work items and deal from another point."""
        self.counts.move(point)
        self.forget_work_items()
        self.cursor.go_to(point)

    def stand_before(self, epoch: int) -> None:
        """Forget all work items and wait for the next epoch to be opened."""
        self.cursor.stand_before(epoch)
        self.forget_work_items()

    def forget_work_items(self) -> None:
        """Make no work item outstanding."""
        self.counts.parts.forget_undelivered(self.progress.counted())
        self.work_items.clear()
        self.num_in_hand = 0
        # Ids are never reused: a late answer to a forgotten work item finds no entry.
        self.head = self.cursor.next_work_id

    def pause(self) -> None:
        """Deal no work item of the order until `resume`."""
        self.allowance = 0

    def resume(self) -> None:
        """Deal with the full credit again."""
        self.allowance = self.credit

    def close(self) -> None:
        """Deal no more work items, and have the consumer's next step notice it."""
        self.is_closed = self.needs_attention = True
