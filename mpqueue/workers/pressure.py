"""When there is no memory for a batch: who waits for whom.

A worker reserves memory before it writes. Where there is none it keeps its batch, reports *full*, and waits for RETRY
or FAIL. Meanwhile no new work is dealt, unless nobody works: the head of the line always gets its slot. Memory comes
from, in this order: pages of free slots; finished batches later in the line than the one that waits, which are moved
to private memory; slots of grants that nobody has read; batches that are still to be reported; slots of others that
wait, further from their turn, whose workers are ended and their tickets granted again. From then on the pool keeps
fewer batches at a time. Only when none of these can free a byte and the consumer waits, the one whose turn is next is
told to FAIL, and the consumer gets `SharedMemoryFull`.
"""

from collections import deque
from typing import TYPE_CHECKING

from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.ring import FIRST_BYTES
from mpqueue.workers.records import GRANT, MAGIC, Down
from mpqueue.workers.roster import Link
from mpqueue.workers.work import Work
from mpqueue.workers.worker_main import MEMORY_REMEDY

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
        if not self._starved and (self._limit is None or self._in_use() < self._limit):
            return False
        if not self._backend.ledger.num_outstanding:
            return False  # what is at work was dropped, or is a state of the source: the stream has not ended
        return not (self._backend.pending and self._nobody_works())

    def reset(self) -> None:
        """All workers are gone."""
        self._starved.clear()

    def note(self, link: Link, turn: int, high_water: int) -> None:
        """A worker has reported *full*, and how much of its slot it has reserved.

        Raises:
            KeyError: It was not granted that turn.
        """
        slot = link.in_flight[turn].slot
        slot.high_water = max(slot.high_water, min(high_water, self._backend.ring.stride))
        self._starved[turn] = link
        link.is_starved = True
        self._limit = max(1, min(self._in_use() - 1, self._limit or self._in_use()))

    def forget(self, link: Link) -> None:
        """A worker is gone."""
        self._starved = {turn: starved for turn, starved in self._starved.items() if starved is not link}

    def relieve(self, *, may_fail: bool) -> None:
        """Free what can be freed and let a worker try again; called before the consumer waits.

        ``may_fail``: it waits in earnest, so that a worker is to give up where nothing can be freed.
        """
        if self._starved:
            self._answer_lowest(may_fail=may_fail)
        if self._backend.pending and self._nobody_works():
            self._start_lowest(may_fail=may_fail)

    def _work_of(self, turn: int) -> Work:
        return self._starved[turn].in_flight[turn]

    def _answer_lowest(self, *, may_fail: bool) -> None:
        turn = min(self._starved, key=lambda turn: self._work_of(turn).ticket.number)
        work, pending = self._work_of(turn), self._backend.pending
        number = work.ticket.number
        if work.cancelled:
            self._answer(turn, Down.FAIL)
        elif self._make_room(number):
            self._answer(turn, Down.RETRY)
        elif not self._nobody_works() or self._rob(number, FIRST_BYTES):
            return  # there will be finished batches to move out, or a slot to be had
        elif may_fail and not (pending and pending[0].number < number):
            self._answer(turn, Down.FAIL)

    def _start_lowest(self, *, may_fail: bool) -> None:
        """Tickets lie there, and there is not even the memory that a slot starts with."""
        backend = self._backend
        ticket = backend.pending[0]
        if self._make_room(ticket.number):
            backend.pump()
        if not self._nobody_works() or self._rob(ticket.number, 0) or not may_fail:
            return
        if self._starved:  # nobody could compute again what the robbed one holds
            self._answer(max(self._starved, key=lambda turn: self._work_of(turn).ticket.number), Down.FAIL)
        else:
            backend.pending.popleft()
            available = backend.ring.segment.available_bytes()
            backend.give_up(ticket, SharedMemoryFull(FIRST_BYTES, available, MEMORY_REMEDY))

    def _rob(self, number: int, least_bytes: int) -> bool:
        """End the starved worker furthest from its turn beyond this one, whose slot has memory; False: there is none.

        Its ticket is granted again. That is dear, and the only way to memory that it holds and cannot use.
        """
        if not self._backend.options.can_replay:
            return False
        works = [(self._work_of(turn), link) for turn, link in self._starved.items()]
        victims = [
            (work.ticket.number, link)
            for work, link in works
            if work.ticket.number > number and work.slot.high_water > least_bytes
        ]
        if not victims:
            return False
        _, link = max(victims, key=lambda victim: victim[0])
        if not link.is_blameless:
            link.is_blameless = True
            self._backend.roster.kill(link)
        return True

    def _make_room(self, number: int) -> bool:
        """Free memory for this ticket; False if there is none that it could have."""
        ring = self._backend.ring
        if ring.give_back():
            return True
        if self._backend.evict(beyond=number) or self._take_back():
            ring.give_back()
            return True
        return False

    def _take_back(self) -> bool:
        """Take the slots of grants that nobody has read; False if there are none."""
        backend = self._backend
        taken = []
        for link in backend.roster.links.values():
            taken += [work.ticket for work in backend.dealer.take_unread(link)]
            link.flush()
        backend.dealer.pending = deque(sorted((*taken, *backend.pending)))
        return bool(taken)

    def _nobody_works(self) -> bool:
        return all(link.is_starved or not link.in_flight for link in self._backend.roster.links.values())

    def _answer(self, turn: int, kind: int) -> None:
        link = self._starved.pop(turn)
        link.is_starved = False
        link.outbox += GRANT.pack(MAGIC, kind, 0, turn, 0, 0, 0)
        link.flush()

    def _in_use(self) -> int:
        slots = self._backend.ring.slots
        return slots.num_slots - slots.num_free - slots.num_leased - slots.num_retired
