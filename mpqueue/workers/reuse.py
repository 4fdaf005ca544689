"""Has large batches written into slots that have memory, before others: first writes are the dearest.

    worker's pipe:  5 -> new slot, 7 -> new slot      the consumer drops a batch, whose slot is free
                    5 -> that slot, 7 -> new slot     after `Reuse.apply`

All credit is dealt at once (see `mpqueue.workers.dispatcher`), so a pool that begins has granted a slot without memory
for each batch of its queue. To find, zero and map new pages takes longer than to write them again, two to five times.
So while such grants lie unread in pipes, a large slot that comes free is exchanged for the one whose turn is next: the
grants of its worker are taken back and granted anew, in their order. A worker writes into new memory only when it is so
far ahead of the consumer that no slot is free, which is when more slots help: the ring grows to what the queue needs,
and no further.
"""

from collections.abc import Callable

from mpqueue.engine.schedule import Ticket
from mpqueue.memory.slots import LARGE_BYTES, SlotState
from mpqueue.workers.handle import WorkerHandle
from mpqueue.workers.pool import Pool

Grant = Callable[[WorkerHandle, list[Ticket]], int]  # returns how many of them there were slots for

# To take a grant back and give it anew costs 3 µs, new memory of this size some 500 µs.
_WORTH_BYTES = LARGE_BYTES
_NEVER = 1 << 30


class Reuse:
    """The exchange of slots of one pool.

    Args:
        pool: Whose.

    Attributes:
        num_exchanged: How often it has taken back grants.
    """

    def __init__(self, pool: Pool) -> None:
        self.num_exchanged = 0
        self._pool = pool

    def apply(self, grant: Grant) -> None:
        """Exchange slots, if there are any that are worth it; ``grant`` grants tickets to a worker."""
        ring, workers = self._pool.ring, self._pool.roster.workers
        if ring.recent_bytes < _WORTH_BYTES:
            return
        for slot in ring.slots.free_large_slots():
            if slot.state is not SlotState.FREE:
                continue  # it went with one before
            places = [(self._distance(worker), number != slot.owner, number) for number, worker in workers.items()]
            distance, _, number = min(places, default=(_NEVER, True, 0))
            if distance == _NEVER:
                return
            self._exchange(workers[number], grant)

    def _distance(self, worker: WorkerHandle) -> int:
        """Return how many grants a worker has before the first one of a slot without memory that it has hardly read."""
        in_flight = worker.in_flight
        if len(in_flight) * _WORTH_BYTES > self._pool.ring.recent_bytes or not worker.is_stealable:
            return _NEVER
        works = iter(in_flight.values())
        next(works)  # which it is at, most likely
        return next((place for place, work in enumerate(works) if not work.slot.is_large), _NEVER)

    def _exchange(self, worker: WorkerHandle, grant: Grant) -> None:
        tickets = [work.ticket for work in self._pool.take_unread(worker)]
        count = grant(worker, tickets) if tickets else 0
        if count < len(tickets):
            self._pool.put_back(tickets[count:])
        worker.flush()
        self.num_exchanged += bool(tickets)
