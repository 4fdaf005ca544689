"""Exchanges the slots of unread grants for slots with memory that the consumer has released."""

from collections.abc import Callable

from mpqueue.backends.processes.handle import WorkerHandle
from mpqueue.backends.processes.pool import WorkerPool
from mpqueue.memory.slots import LARGE_BYTES, SlotState
from mpqueue.plan.position.cursors import WorkItem

Grant = Callable[[WorkerHandle, list[WorkItem]], int]  # returns the number of work items that got a slot

# Measured: taking a grant back and granting it again costs 3 µs, new memory of this size some 500 µs.
_WORTH_BYTES = LARGE_BYTES
_NEVER = 1 << 30


class Reuse:
    """The exchange of slots in one pool.

    At the start, a pool has granted a slot without memory for each batch of its queue. Finding, zeroing and mapping new
    pages takes two to five times as long as writing to used ones. So while such grants are unread, a large slot that
    becomes free is exchanged for the next of them: the grants of its worker are taken back and granted again, in
    order::

        worker's pipe:  5 -> new slot, 7 -> new slot      the consumer drops a batch and so frees its slot
                        5 -> that slot, 7 -> new slot     after `Reuse.apply`

    A worker writes to new memory only if it is so far ahead of the consumer that no slot is free. Only
    then do more slots help.

    Args:
        pool: The pool.

    Attributes:
        num_exchanged: Number of times that grants were taken back.
        worth_bytes: Minimum size of batches for which an exchange costs less than new memory.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.num_exchanged, self.worth_bytes = 0, _WORTH_BYTES
        self._pool = pool

    def apply(self, grant: Grant) -> None:
        """Exchange the free large slots; ``grant`` grants work items to a worker."""
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
            self._exchange(workers[index], grant)

    def _distance(self, worker: WorkerHandle) -> int:
        """Return the number of grants before the first unread one with a slot without memory."""
        in_flight = worker.in_flight
        # All unread grants are taken back and sent again. That must cost less than new memory.
        if len(in_flight) * self.worth_bytes > self._pool.ring.recent_bytes or not worker.is_stealable:
            return _NEVER
        works = iter(in_flight.values())
        next(works)  # probably being computed
        return next((position for position, work in enumerate(works) if not work.slot.is_large), _NEVER)

    def _exchange(self, worker: WorkerHandle, grant: Grant) -> None:
        work_items = [work.work_item for work in self._pool.take_unread(worker)]
        count = grant(worker, work_items) if work_items else 0
        # No slot for the rest: the items are due first, so they go to the front.
        if count < len(work_items):
            self._pool.put_back(work_items[count:])
        worker.flush()
        self.num_exchanged += bool(work_items)
