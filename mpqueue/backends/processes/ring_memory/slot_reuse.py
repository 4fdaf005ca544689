"""Exchanges the slots of unread grants for slots with memory that the consumer has released."""

import os

from mpqueue.backends.job import MAX_CREDIT
from mpqueue.backends.processes.handle import WorkerHandle
from mpqueue.backends.processes.pool import COMPUTED, WorkerPool
from mpqueue.memory.slots import LARGE_BYTES, SlotState
from mpqueue.worker.records import GRANT, GrantKind, listed_bytes

# Measured: an exchange costs up to 30 µs, with cold caches; new memory of this size some 500 µs.
_WORTH_BYTES = LARGE_BYTES
_NEVER = 1 << 30


class Reuse:
    """The exchange of slots in one pool.

    At the start, a pool has granted a slot without memory for each batch of its queue. Finding, zeroing and mapping new
    pages takes two to five times as long as writing to used ones. So while such grants are unread, a large slot that
    becomes free is exchanged for the next of them. The grants of its worker are read from its pipe, and written again
    with that slot::

        worker's pipe:  5 -> new slot, 7 -> new slot      the consumer drops a batch and so frees its slot
                        5 -> that slot, 7 -> new slot     after `Reuse.apply`

    A worker writes to new memory only if it is so far ahead of the consumer that no slot is free. Only
    then do more slots help.

    Args:
        pool: The pool.

    Attributes:
        num_exchanged: Number of exchanged slots.
        worth_bytes: Minimum size of batches for which an exchange costs less than new memory.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.num_exchanged, self.worth_bytes = 0, _WORTH_BYTES
        self._pool = pool

    def apply(self) -> None:
        """Exchange the free large slots."""
        workers = self._pool.roster.workers
        for slot in self._pool.ring.slots.free_large_slots():
            if slot.state is not SlotState.FREE:
                continue  # an exchange before has used it
            # The worker that reaches a slot without memory first. Among equals, the one that wrote to this slot before:
            # it has the pages mapped.
            positions = [(self._distance(worker), index != slot.owner, index) for index, worker in workers.items()]
            distance, _, index = min(positions, default=(_NEVER, True, 0))
            if distance == _NEVER:
                return
            self._exchange(workers[index])

    def _distance(self, worker: WorkerHandle) -> int:
        """Return the number of grants before the first unread one with a slot without memory."""
        in_flight = worker.in_flight
        # All unread grants are read and written again. That must cost less than new memory.
        if len(in_flight) * self.worth_bytes > self._pool.ring.recent_bytes or not worker.is_stealable:
            return _NEVER
        for distance, work in enumerate(in_flight.values()):
            if distance and not work.slot.is_large:  # the first grant is probably being computed
                return distance
        return _NEVER

    def _exchange(self, worker: WorkerHandle) -> None:
        """Exchange the slot of the next unread grant without memory, which keeps its turn: no process has read it."""
        ring = self._pool.ring
        try:
            unread = os.read(worker.pipes.unread, MAX_CREDIT * GRANT.size)
        except BlockingIOError:
            return
        for at, (magic, kind, _, turn, index, epoch, _) in enumerate(GRANT.iter_unpack(unread)):
            if kind in COMPUTED and not (work := worker.in_flight[turn]).slot.is_large:
                start, work.slot = work.slot.offset, ring.slots.exchange(work.slot)
                if kind != GrantKind.WORK:
                    size = listed_bytes(ring.memory, start)
                    ring.memory[work.slot.offset : work.slot.offset + size] = ring.memory[start : start + size]
                grant = GRANT.pack(magic, kind, work.slot.index, turn, index, epoch, work.slot.high_water)
                unread = unread[: at * GRANT.size] + grant + unread[(at + 1) * GRANT.size :]
                self.num_exchanged += 1
                break
        os.write(worker.pipes.grants, unread)
