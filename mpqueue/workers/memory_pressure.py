"""Waits for memory, when there is none for a batch.

A worker reserves memory before it writes. Where there is none it keeps its batch, reports *full*, and waits for RETRY
or FAIL: it is starved. Meanwhile no new work is dealt, unless nobody works: the batch that is due next always gets its
slot. Memory comes from, in this order:

    1. pages of free slots;
    2. finished batches that are due later than the one that waits, which are moved to private memory;
    3. slots of grants that nobody has read;
    4. batches that are still to be reported;
    5. slots of other starved workers, further from their turn, which are ended, and their work items granted again.

If a control group has no memory left, the second measure would not help, as private memory counts in the group, too.
The kernel does not refuse memory there, it kills. So workers look at the group before a slot grows, and leave room for
a batch of each worker. The batch that is due next may use this room. If that is not enough, finished batches that are
due later are dropped, and computed again.

From then on the pool keeps fewer batches at a time. Only when none of these can free a byte and the consumer waits, the
one whose turn is next gets the answer FAIL, and the consumer gets `SharedMemoryFull`.
"""

from collections.abc import Callable

from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.segment import FIRST_BYTES, MEMORY_REMEDY
from mpqueue.memory.slots import Slot
from mpqueue.worker.records import GRANT, MAGIC, GrantKind
from mpqueue.workers import incidents
from mpqueue.workers.handle import Cause, Work, WorkerHandle
from mpqueue.workers.pool import WorkerPool


class MemoryPressure:
    """The workers of one pool that wait for memory.

    Args:
        pool: Theirs.
        can_replay: A batch can be computed again.

    Attributes:
        is_known: Memory is short, or has been: how much is dealt is to be looked at one by one. As long as it is not,
            all else here is False, and the hot path asks for nothing else.
    """

    def __init__(self, pool: WorkerPool, *, can_replay: bool) -> None:
        self.is_known = False
        self._pool, self._can_replay = pool, can_replay
        self._starved: dict[WorkerHandle, Work] = {}  # those killed since are in it until they are reaped
        self._moved_out: int | None = None  # the work item of a batch that is due, and has no room in the ring
        self._is_of_group = False  # the control group has no memory left
        self._lent: int | None = None  # the latest work item that was allowed to use the room that workers leave
        self._limit: int | None = None  # slots that may be granted or ready at a time

    @property
    def is_high(self) -> bool:
        """No new work may be dealt now."""
        pool = self._pool
        if self._moved_out is not None:
            is_first = pool.pending and pool.pending[0].number < self._moved_out
            return not (is_first or pool.ledger.has_urgent)
        if not self._starved and (self._limit is None or self._in_use() < self._limit):
            return False
        if not pool.ledger.num_outstanding:
            return False  # what is at work was dropped, or is a new source: the stream has not ended
        return not ((pool.pending or pool.ledger.has_urgent) and pool.nobody_works)

    @property
    def has_starved(self) -> bool:
        """True if a worker waits for memory."""
        return bool(self._starved)

    def reset(self) -> None:
        """Forget all workers: they are gone."""
        self._starved.clear()
        self.cancel()

    def cancel(self) -> None:
        """Forget the batch that was moved out and is due: nobody wants it any more."""
        self._move_out(None)

    def note(self, worker: WorkerHandle, work: Work, *, is_of_group: bool = False) -> None:
        """Enter a worker that has reported *full* for this work, because of a control group or of a file system."""
        incidents.report_shortage(self._pool.ring, is_first=self._limit is None, is_of_group=is_of_group)
        self._is_of_group = is_of_group
        self._starved[worker] = work
        self._pool.ring.slots.shares_large = False
        self._limit = max(1, min(self._in_use() - 1, self._limit or self._in_use()))
        self.is_known = True

    def forget(self, worker: WorkerHandle) -> None:
        """Forget a worker that is gone."""
        self._starved.pop(worker, None)

    def relieve(self, pump: Callable[[], None], *, may_fail: bool) -> None:
        """Free what can be freed and let a worker try again; called before the consumer waits.

        Args:
            pump: Grants what there are slots for.
            may_fail: The consumer waits in earnest, so that a worker is to give up where nothing can be freed.
        """
        if self._starved:
            self._answer_lowest(may_fail=may_fail)
        if self._pool.pending and self._pool.nobody_works:
            self._start_lowest(pump, may_fail=may_fail)

    def _waiting(self) -> list[WorkerHandle]:
        """Return the starved workers that nobody has killed, by the order of their work items."""
        waiting = [worker for worker in self._starved if worker.life.is_starved]
        return sorted(waiting, key=self._number_of)

    def _number_of(self, worker: WorkerHandle) -> int:
        return self._starved[worker].work_item.number

    def _answer_lowest(self, *, may_fail: bool) -> None:
        waiting = self._waiting()
        if not waiting:
            return  # the deaths of those that were killed will free memory
        worker, pending = waiting[0], self._pool.pending
        number = self._number_of(worker)
        if self._starved[worker].cancelled:
            self._answer(worker, GrantKind.FAIL)
        elif self._lend(number) or self._make_room(number):
            self._answer(worker, GrantKind.RETRY)
        elif not self._pool.nobody_works or self._sacrifice(number, FIRST_BYTES):
            return  # there will be finished batches to move out, or a slot to be had
        elif may_fail and not (pending and pending[0].number < number):
            self._answer(worker, GrantKind.FAIL)

    def _start_lowest(self, pump: Callable[[], None], *, may_fail: bool) -> None:
        """Start the first pending work item, though there is not even the memory that a slot starts with."""
        pool = self._pool
        work_item = pool.pending[0]
        if self._make_room(work_item.number):
            pump()
        if not pool.nobody_works or self._sacrifice(work_item.number, 0) or not may_fail:
            return
        waiting = self._waiting()
        if waiting:  # nobody could compute again what the sacrificed one holds
            self._answer(waiting[-1], GrantKind.FAIL)
        else:
            pool.pending.popleft()
            pool.give_up(work_item, SharedMemoryFull(FIRST_BYTES, pool.ring.segment.available_bytes(), MEMORY_REMEDY))

    def make_slot(self, number: int, nbytes: int, *, may_fail: bool) -> Slot | None:
        """Return a slot with room for so many bytes, for the batch of this work item, which was moved out of the ring.

        What is finished and due later makes room for it, and then who is starved. None: there is no room now; then no
        work that is due later is dealt until there was.

        Raises:
            SharedMemoryFull: None will come free, says ``may_fail``.
        """
        pool, ring = self._pool, self._pool.ring
        slot = ring.grant(-1)
        while slot is None and pool.evict(beyond=number):
            slot = ring.grant(-1)
        while slot is not None and not ring.reserve(slot, nbytes):
            if not ring.give_back() and not pool.evict(beyond=number):
                ring.reclaim(slot)
                ring.give_back()  # or others would try, in vain, to have what it has reserved
                slot = None
        self._move_out(number if slot is None else None)
        if slot is None and pool.nobody_works and not self._sacrifice(number, 0) and may_fail and pool.is_idle:
            self._move_out(None)
            raise SharedMemoryFull(nbytes, ring.segment.available_bytes(), MEMORY_REMEDY)
        return slot

    def _move_out(self, number: int | None) -> None:
        """Deal nothing that is due later than this work item; None: there is no such bound."""
        self._moved_out = number
        self.is_known = number is not None or self._limit is not None

    def _sacrifice(self, number: int, least_bytes: int) -> bool:
        """End the starved worker furthest from its turn beyond this one that has memory; False: there is none.

        Its work items are granted again. That is dear, and the only way to memory that it holds and cannot use: in the
        slot of its batch, or of grants that it has read while it waits for an answer.
        """
        if not self._can_replay:
            return False
        victims = [
            worker
            for worker, work in self._starved.items()
            if work.work_item.number > number
            and any(held.slot.high_water > least_bytes for held in worker.in_flight.values())
        ]
        if not victims:
            return False
        victim = max(victims, key=self._number_of)
        if victim.life.is_starved:
            self._pool.roster.kill(victim, Cause.SACRIFICED)
        return True

    def _make_room(self, number: int) -> bool:
        """Free memory for this work item; False if there is none that it could have."""
        pool = self._pool
        if pool.ring.give_back():
            return True
        if self._is_of_group:
            # Work that others do may end with a batch that is due before those that would be dropped.
            is_free = pool.take_all_unread() or (pool.nobody_works and self._can_replay and pool.drop(beyond=number))
            pool.ring.give_back()
            return is_free
        if pool.evict(beyond=number) or pool.take_all_unread():
            pool.ring.give_back()
            return True
        return False

    def _lend(self, number: int) -> bool:
        """Allow the batch that is due next to use the room that workers leave in a control group, once."""
        if not self._is_of_group or self._lent == number or not self._is_next(number):
            return False
        self._lent = number
        return True

    def _is_next(self, number: int) -> bool:
        """Return True if no earlier work item is pending or in flight."""
        pool = self._pool
        if pool.pending and pool.pending[0].number < number:
            return False
        return not any(
            work.work_item.number < number for each in pool.roster.living for work in each.in_flight.values()
        )

    def _answer(self, worker: WorkerHandle, kind: int) -> None:
        work = self._starved.pop(worker)
        worker.life.feed()
        # If others used the room, the batch that is due next would find none, and the kernel would kill its worker.
        is_next = kind == GrantKind.RETRY and self._is_next(work.work_item.number)
        worker.outbox += GRANT.pack(MAGIC, kind, 0, work.slot.turn, is_next, 0, 0)
        worker.flush()

    def _in_use(self) -> int:
        slots = self._pool.ring.slots
        return slots.num_slots - slots.num_free - slots.num_leased - slots.num_retired
