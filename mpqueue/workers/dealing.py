"""Dealing: which worker gets which ticket, and when it is taken away again.

A ticket goes out together with a slot, so the head of the line can never lack memory. All credit is dealt at once,
because nobody deals while the consumer computes. That binds tickets to workers early, so while the consumer waits and
one worker is idle beside a longer queue, unread grants are *taken back*: a record in a pipe goes to exactly one
reader, and the trainer can be that reader.

A grant or report to a process that sleeps costs some 5 to 20 µs to wake it. Cheap batches are dealt several in a row
to one worker, and not before several can be dealt: 2 to 3 times the rate for the smallest ones.
"""

import os
import time
from collections import deque
from typing import TYPE_CHECKING

from mpqueue.control.schedule import Ticket
from mpqueue.workers.records import GRANT, MAGIC, Down
from mpqueue.workers.roster import Link
from mpqueue.workers.work import Work

if TYPE_CHECKING:
    from mpqueue.workers.process import ProcessBackend

MAX_CREDIT = 4096
_CHEAP_NS = 300_000
_MAX_RUN = 50  # and not more than fit into the smallest pipes, which unprivileged users with many get
_STEAL_AFTER_NS = 300_000  # taking back costs about 5 µs: not worth it for work that is nearly done
_STEAL_WAIT_S = 0.001

_WORK = Down.WORK
_clock = time.perf_counter_ns


class Dealer:
    """Deals the tickets of one pool.

    Attributes:
        pending: Tickets that were dealt and have no worker (any more).
        run: How many go to one worker in a row, and are worth a `pump` (the backend's ``chunk``).
    """

    def __init__(self, backend: "ProcessBackend", credit: int) -> None:
        self.pending: deque[Ticket] = deque()
        self.run = 1
        self._backend = backend
        self._max_run = max(1, min(credit // 2, _MAX_RUN))
        self._item_ns = _CHEAP_NS
        self._rotation = -1  # the first ticket is for worker 0, which runs first

    def note_cost(self, item_ns: int) -> None:
        """What the latest batches have cost a worker, each."""
        self._item_ns += (item_ns - self._item_ns) >> 4
        self.run = self._backend.chunk = min(self._max_run, max(1, _CHEAP_NS // (self._item_ns + 1)))

    def pump(self) -> None:
        """Deal what credit and slots allow, tickets that came back first."""
        backend, pending = self._backend, self.pending
        backend.ring.collect()
        touched: set[Link] = set()
        while not backend.pressure.is_high:
            tickets = self._next_run()
            if not tickets:
                break
            link = self._choose(tickets[0])
            count = self._grant(link, tickets) if link is not None else 0
            if link is not None and count:
                touched.add(link)
            if count < len(tickets):
                pending.extendleft(reversed(tickets[count:]))
                break
        links = backend.roster.links
        for link in touched:
            if links.get(link.worker) is link:
                link.flush()

    def _next_run(self) -> list[Ticket]:
        pending = self.pending
        if not pending:
            return self._backend.ledger.deal(1 if self._backend.options.is_stream else self.run)
        if pending[0].lane >= 0:
            return [pending.popleft()]
        return [pending.popleft() for _ in range(min(self.run, len(pending)))]

    def _grant(self, link: Link, tickets: list[Ticket]) -> int:
        """Grant a run; how many of it there were slots for."""
        ring, in_flight, worker = self._backend.ring, link.in_flight, link.worker
        grant, pack = ring.grant, GRANT.pack
        if not in_flight:
            link.busy_since = _clock()
        records = []
        for ticket in tickets:
            slot = grant(worker)
            if slot is None:
                break
            in_flight[slot.turn] = Work(ticket, slot, ring)
            records.append(pack(MAGIC, _WORK, slot.number, slot.turn, ticket.unit, ticket.epoch, slot.high_water))
        link.outbox += b"".join(records)
        return len(records)

    def _choose(self, ticket: Ticket) -> Link | None:
        """The ticket's own worker, or the less busy of the next two; None if it has enough, or is being replaced."""
        links = self._backend.roster.links
        if ticket.lane >= 0:
            link = links.get(ticket.lane)
            return None if link is None or len(link.in_flight) >= link.room else link
        count = self._backend.options.num_workers
        self._rotation = first = (self._rotation + 1) % count
        one, two = links.get(first), links.get((first + 1) % count)
        if one is None or (two is not None and len(two.in_flight) < len(one.in_flight)):
            one = two
        if one is None:
            one = next(iter(links.values()), None)
        return None if one is None or len(one.in_flight) + self.run > one.room else one

    def balance(self) -> float | None:
        """Give idle workers what the busiest have not begun; seconds to wait until that is worth trying again."""
        links = self._backend.roster.links.values()
        idle = sum(not link.in_flight for link in links)
        if not idle or self._backend.options.is_stream:
            return None
        victim = max(links, key=lambda link: len(link.in_flight) if link.is_stealable else 0)
        if not victim.is_stealable:
            return None
        if _clock() - victim.busy_since + len(victim.in_flight) * self._item_ns < _STEAL_AFTER_NS:
            return _STEAL_WAIT_S
        count = -(-(len(victim.in_flight) - 1) // (idle + 1))
        taken = [work.ticket for work in self.take_unread(victim, count)]
        victim.flush()  # of the answer to a lack of memory, if that was taken out as well
        self.pending.extendleft(reversed(taken))
        if taken:
            self.pump()
        return None

    def take_unread(self, link: Link, count: int = MAX_CREDIT) -> list[Work]:
        """Take grants of work that the worker has not read out of its pipe; their slots are free again."""
        taken: list[Work] = []
        if link.take_back < 0:
            return taken
        try:
            data = os.read(link.take_back, count * GRANT.size)
        except BlockingIOError:
            return taken
        for grant in GRANT.iter_unpack(data):
            if grant[1] == _WORK:
                work = link.in_flight.pop(grant[3])
                self._backend.ring.release(work.slot)
                if not work.cancelled:
                    taken.append(work)
            else:
                link.outbox += GRANT.pack(*grant)  # a new state, or the answer that a starved worker waits for
        return taken
