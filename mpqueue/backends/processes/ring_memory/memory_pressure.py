"""Handling of workers that lack shared memory for a batch.

A worker reserves memory before it writes. If there is not enough, it keeps its batch, reports *full*, and waits for
RETRY or FAIL: it is starved. No new work is granted then, except while no worker is busy, so the batch that is due next
always gets a slot. Memory is freed in this order:

    1. pages of free slots;
    2. finished batches that are due later than the waiting one, by moving them to private memory;
    3. slots of unread grants;
    4. batches that are still to be reported;
    5. slots of other starved workers that are due later: those workers are killed, and their work items granted again.

If the memory limit of a control group is reached, step 2 does not help, because private memory counts as well. The
kernel then kills processes instead of refusing memory. So workers check the group before a slot grows, and leave room
for one batch per worker. The batch that is due next may use that room. If that does not suffice, finished batches that
are due later are dropped, and computed again.

After a shortage the pool keeps fewer batches at a time. If no step frees memory and the consumer waits, the worker with
the batch that is due next gets FAIL, and the consumer gets `SharedMemoryFull`.
"""

from collections.abc import Callable

from mpqueue.backends.processes import incidents
from mpqueue.backends.processes.handle import Cause, Work, WorkerHandle
from mpqueue.backends.processes.pool import WorkerPool
from mpqueue.memory.segment import FIRST_BYTES
from mpqueue.memory.slots import Slot
from mpqueue.worker.records import GRANT, MAGIC, GrantKind


class MemoryPressure:
    """The workers of one pool that wait for memory.

    Args:
        pool: The pool.

    Attributes:
        is_known: Memory is short, or was before, so every grant needs a check. While it is False, so is everything else
            here, and the hot path checks only this attribute.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.is_known = False
        self._pool = pool
        self._starved: dict[WorkerHandle, Work] = {}  # killed workers remain here until they are reaped
        # Work item of a batch that is due, was moved out and does not fit into the ring.
        self._moved_out: int | None = None
        self._is_of_group = False  # the control group has reached its limit
        self._lent: int | None = None  # latest work item that was allowed to use the reserved room
        self._limit: int | None = None  # maximum number of granted and ready slots

    @property
    def is_high(self) -> bool:
        """True if no new work may be granted now."""
        pool = self._pool
        if self._moved_out is not None:
            # An earlier item must run, or the batch that was moved out would never be due.
            return not (pool.pending and pool.pending[0].work_id < self._moved_out)
        if not self._starved and (self._limit is None or self._in_use() < self._limit):
            return False
        if not pool.ledger.work_items:
            return False  # the work in flight was dropped, or is a new source, and the stream has not ended
        return not (pool.pending and pool.nobody_works)

    @property
    def has_starved(self) -> bool:
        """True if a worker waits for memory."""
        return bool(self._starved)

    def reset(self) -> None:
        """Forget all workers after their exit."""
        self._starved.clear()
        self.cancel()

    def cancel(self) -> None:
        """Forget the batch that was moved out: it is not needed."""
        self._move_out(None)

    def note(self, worker: WorkerHandle, work: Work, *, is_of_group: bool = False) -> None:
        """Register a worker that reported *full* for this work, because of a control group or a file system."""
        incidents.report_shortage(self._pool.ring, is_first=self._limit is None, is_of_group=is_of_group)
        self._is_of_group = is_of_group
        self._starved[worker] = work
        # The batch that is due first is not always granted first, and would lack the memory of a large slot.
        self._pool.ring.slots.shares_large = False
        # One less than in use now, and never more than before: the limit falls until the batches fit.
        self._limit = max(1, min(self._in_use() - 1, self._limit or self._in_use()))
        self.is_known = True

    def forget(self, worker: WorkerHandle) -> None:
        """Forget a worker that has exited."""
        self._starved.pop(worker, None)

    def relieve(self, pump: Callable[[], None], *, may_fail: bool) -> None:
        """Free memory and make a worker try again; called before the consumer waits.

        Args:
            pump: Grants as many work items as slots allow.
            may_fail: The consumer waits for a batch, so a worker must give up if no memory can be freed.
        """
        if self._starved:
            self._answer_lowest(may_fail=may_fail)
        if self._pool.pending and self._pool.nobody_works:
            self._start_lowest(pump, may_fail=may_fail)

    def _waiting(self) -> list[WorkerHandle]:
        """Return the starved workers that were not killed, in the order of their work items."""
        waiting = [worker for worker in self._starved if worker.life.is_starved]
        return sorted(waiting, key=self._work_id_of)

    def _work_id_of(self, worker: WorkerHandle) -> int:
        return self._starved[worker].work_item.work_id

    def _answer_lowest(self, *, may_fail: bool) -> None:
        waiting = self._waiting()
        if not waiting:
            return  # the exits of the killed workers will free memory
        worker, pending = waiting[0], self._pool.pending
        work_id = self._work_id_of(worker)
        # Cancelled work needs no memory: the worker only has to continue.
        if self._starved[worker].cancelled:
            self._answer(worker, GrantKind.FAIL)
        elif self._lend(work_id) or self._make_room(work_id):
            self._answer(worker, GrantKind.RETRY)
        elif not self._pool.nobody_works or self._sacrifice(work_id, FIRST_BYTES):
            return  # wait: finished batches will be moved out, or a slot will become free
        elif may_fail and not (pending and pending[0].work_id < work_id):
            self._answer(worker, GrantKind.FAIL)

    def _start_lowest(self, pump: Callable[[], None], *, may_fail: bool) -> None:
        """Start the first pending work item, though there is not even memory for an empty slot."""
        pool = self._pool
        work_item = pool.pending[0]
        if self._make_room(work_item.work_id):
            pump()
        if not pool.nobody_works or self._sacrifice(work_item.work_id, 0) or not may_fail:
            return
        waiting = self._waiting()
        if waiting:  # a sacrificed worker's batch could not be computed again
            self._answer(waiting[-1], GrantKind.FAIL)
        else:
            pool.pending.popleft()
            pool.give_up(work_item, pool.ring.segment.memory_full(FIRST_BYTES))

    def make_slot(self, work_id: int, nbytes: int, *, may_fail: bool) -> Slot | None:
        """Return a slot for the batch of this work item, which was moved out of the ring and has ``nbytes`` bytes.

        Finished batches that are due later make room, then starved workers. None means that the ring is full now. In
        that case no later work is granted until there is.

        Raises:
            SharedMemoryFull: No memory will become free, according to ``may_fail``.
        """
        pool, ring = self._pool, self._pool.ring
        slot = ring.grant(-1)
        while slot is None and pool.evict(beyond=work_id):
            slot = ring.grant(-1)
        while slot is not None and not ring.reserve(slot, nbytes):
            if not ring.give_back() and not pool.evict(beyond=work_id):
                ring.reclaim(slot)
                ring.give_back()  # otherwise others would wait for the memory that it reserved in vain
                slot = None
        self._move_out(work_id if slot is None else None)
        if slot is None and pool.nobody_works and not self._sacrifice(work_id, 0) and may_fail and pool.is_idle:
            self._move_out(None)
            raise ring.segment.memory_full(nbytes)
        return slot

    def _move_out(self, work_id: int | None) -> None:
        """Grant no work that is due later than this work item; None removes the limit."""
        self._moved_out = work_id
        self.is_known = work_id is not None or self._limit is not None

    def _sacrifice(self, work_id: int, least_bytes: int) -> bool:
        """Kill the starved worker that has memory and is due last, after this work item; return whether one was found.

        Its work items are granted again. That is expensive, but the only way to free the memory that it cannot use: the
        slot of its batch, and the slots of grants that it has read.
        """
        if not self._pool.job.can_replay:
            return False
        victims = [
            worker
            for worker, work in self._starved.items()
            if work.work_item.work_id > work_id
            and any(held.slot.high_water > least_bytes for held in worker.in_flight.values())
        ]
        if not victims:
            return False
        # The one that is due last: the others are needed earlier, and their work would be computed again, too.
        victim = max(victims, key=self._work_id_of)
        if victim.life.is_starved:
            self._pool.roster.kill(victim, Cause.SACRIFICED)
        return True

    def _make_room(self, work_id: int) -> bool:
        """Free memory for this work item; return False if none can be freed."""
        pool = self._pool
        if pool.ring.give_back():
            return True
        if self._is_of_group:
            # Not while other workers are busy: their batches may be due before the dropped ones.
            is_free = pool.take_all_unread() or (
                pool.nobody_works and pool.job.can_replay and pool.drop(beyond=work_id)
            )
            pool.ring.give_back()
            return is_free
        if pool.evict(beyond=work_id) or pool.take_all_unread():
            pool.ring.give_back()
            return True
        return False

    def _lend(self, work_id: int) -> bool:
        """Allow the batch that is due next to use the reserved room in a control group, once."""
        if not self._is_of_group or self._lent == work_id or not self._is_next(work_id):
            return False
        self._lent = work_id
        return True

    def _is_next(self, work_id: int) -> bool:
        """Return True if no earlier work item is pending or in flight."""
        pool = self._pool
        if pool.pending and pool.pending[0].work_id < work_id:
            return False
        return not any(
            work.work_item.work_id < work_id for each in pool.roster.living for work in each.in_flight.values()
        )

    def _answer(self, worker: WorkerHandle, kind: int) -> None:
        work = self._starved.pop(worker)
        worker.life.feed()
        # If other workers used that room, the batch that is due next would find none, and the kernel would kill its
        # worker.
        is_next = kind == GrantKind.RETRY and self._is_next(work.work_item.work_id)
        worker.outbox += GRANT.pack(MAGIC, kind, 0, work.slot.turn, is_next, 0, 0)
        worker.flush()

    def _in_use(self) -> int:
        slots = self._pool.ring.slots
        return slots.num_slots - slots.num_free - slots.num_leased - slots.num_retired
