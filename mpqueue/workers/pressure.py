"""When there is no memory for a batch: who waits for whom.

A worker reserves memory before it writes. Where there is none it keeps its batch, reports *full*, and waits for RETRY
or FAIL. Meanwhile no new work is dealt. Memory comes from, in this order: pages of free slots; finished batches later
in the line than the one that waits, which are dropped and computed again; batches that are still to be handed out or
dropped by the consumer. From then on the pool keeps fewer batches at a time. Only when none of these can free a byte
and the consumer waits for this very batch, it is told to FAIL, and the consumer gets `SharedMemoryFull`.
"""

from typing import TYPE_CHECKING

from mpqueue.control.records import GRANT, MAGIC, Down
from mpqueue.workers.roster import Link

if TYPE_CHECKING:
    from mpqueue.workers.process import ProcessBackend


class Pressure:
    """The workers of one pool that wait for memory."""

    def __init__(self, backend: "ProcessBackend") -> None:
        self._backend = backend
        self._starved: dict[int, Link] = {}  # by turn
        self._limit: int | None = None  # slots that may be granted or ready at a time

    @property
    def is_high(self) -> bool:
        """Whether no new work may be dealt now."""
        return bool(self._starved) or (self._limit is not None and self._in_use() >= self._limit)

    def note(self, link: Link, turn: int, nbytes: int) -> None:  # noqa: ARG002 - named in the worker's own error
        """A worker has reported *full*."""
        self._starved[turn] = link
        link.is_starved = True
        self._limit = max(1, min(self._in_use() - 1, self._limit or self._in_use()))

    def forget(self, link: Link) -> None:
        """A worker is gone."""
        self._starved = {turn: starved for turn, starved in self._starved.items() if starved is not link}

    def relieve(self, head: int) -> None:
        """Free what can be freed and let a worker try again, or give up; called before the consumer waits."""
        if not self._starved:
            return
        backend = self._backend
        turn = min(self._starved, key=self._ticket_of)
        number = self._ticket_of(turn)
        if backend.ring.give_back() or backend.evict(beyond=number):
            backend.ring.give_back()
            self._answer(turn, Down.RETRY)
        elif number == head or not self._may_expect_memory():
            self._answer(turn, Down.FAIL)

    def _may_expect_memory(self) -> bool:
        """Whether something will be reported or handed out without the starved workers."""
        backend = self._backend
        busy = any(not link.is_starved and link.in_flight for link in backend.roster.links.values())
        return bool(backend.ready) or busy

    def _ticket_of(self, turn: int) -> int:
        work = self._starved[turn].in_flight.get(turn)
        return -1 if work is None else work.ticket.number

    def _answer(self, turn: int, kind: int) -> None:
        link = self._starved.pop(turn)
        link.is_starved = False
        link.outbox += GRANT.pack(MAGIC, kind, 0, turn, 0, 0, 0)
        link.flush()

    def _in_use(self) -> int:
        slots = self._backend.ring.slots
        return slots.num_slots - slots.num_free - slots.num_leased - slots.num_retired
