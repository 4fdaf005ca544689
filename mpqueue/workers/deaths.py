"""Deaths: what a worker leaves behind, what its death is blamed on, and who comes in its place.

What the dead worker had reported stands. The grant that it was working on is counted against the `restarts` of its
ticket; all its tickets are granted again. Its place is *vacant* until a replacement was asked for; where that fails
(no more processes, the nursery is gone too), it stays vacant, the consumer is told why, and its next call tries again.
So a pool that cannot be filled is an error each time somebody asks for a batch, and never a wait without end.

The nursery's death is that of all its workers; the kernel sees to that. Their slots are not used again before each of
them is known to be gone.

Two things cannot be told from outside but by waiting: that SIGKILL does not end a worker, because it is stuck in the
kernel, and that the nursery hangs and tells nothing any more. Both get `STUCK_S` from the kill on; see
`Deaths.give_up_overdue`.
"""

import signal
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from mpqueue.control import queue_address
from mpqueue.control.schedule import Ticket
from mpqueue.errors import BatchTimeout, WorkerDied
from mpqueue.system.oom import OomCounter, find_counter
from mpqueue.workers.launcher import LauncherGone
from mpqueue.workers.roster import STUCK_S, Exit, Link, end_orphans

if TYPE_CHECKING:
    from mpqueue.workers.process import ProcessBackend


_NO_REPLAY = "A generator object cannot be computed again: pass a generator function instead"


class _Vacancy(NamedTuple):
    skip: int  # elements of the stream that were published before
    by_death: bool


class Deaths:
    """The deaths in one pool, and its vacant places.

    Attributes:
        num_deaths: Workers that died.
        num_restarts: Workers that were started in their place.
        silent: Deaths in a row that no ticket is to blame for; any report sets it to 0.
        vacant: Numbers of the workers that are to be started.
    """

    def __init__(self, backend: "ProcessBackend") -> None:
        self.num_deaths = self.num_restarts = self.silent = 0
        self.vacant: dict[int, _Vacancy] = {}
        self._backend = backend
        self._oom = OomCounter(find_counter())
        self._by_ticket: dict[int, int] = {}  # deaths, by the number of the ticket that was worked on

    def vacate(self, worker: int, *, skip: int = 0, by_death: bool = False) -> None:
        """There is no worker of this number any more, or none yet."""
        self.vacant[worker] = _Vacancy(skip, by_death)

    def fill(self) -> None:
        """Ask for a worker in every vacant place.

        Raises:
            OSError: There are not enough processes or descriptors now.
            WorkerDied: The nursery dies again and again.
        """
        while self.vacant:
            worker, vacancy = next(iter(self.vacant.items()))
            try:
                self._backend.roster.start(worker, skip=vacancy.skip)
            except LauncherGone as gone:
                self.renew_launcher(gone)
            else:
                del self.vacant[worker]
                self.num_restarts += vacancy.by_death

    def take(self, timeout_s: float | None = 0) -> None:
        """Take in what the launcher tells: bury the dead, and fill their places.

        Raises:
            OSError: A worker could not be started.
            WorkerDied: Workers, or the nursery, die again and again without having computed anything.
            Exception: What unpickling the source raised.
        """
        try:
            exits = self._backend.roster.events(timeout_s)
        except LauncherGone as gone:
            exits = []
            self.renew_launcher(gone)
        failures = [self._take_exit(leaving) for leaving in exits]
        for failure in failures:
            if failure is not None:
                raise failure
        self.fill()

    def _take_exit(self, leaving: Exit) -> BaseException | None:
        link = leaving.link
        culprit = self.bury(link)
        if link.is_abandoned:
            return None  # it has a successor already
        self._leave_vacant(link)
        if leaving.error is not None:
            return leaving.error
        self.num_deaths += 1
        was_oom_killed = link.dumped is None and self._was_oom_killed(leaving.exitcode)
        return self._blame(leaving._replace(oom_killed=was_oom_killed), culprit)

    def _was_oom_killed(self, exitcode: int | None) -> bool:
        return exitcode == -signal.SIGKILL and self._oom.take_kill()

    def _leave_vacant(self, link: Link) -> None:
        # What has used a queue is called afresh: the queue knows what was taken.
        is_replayed = self._backend.options.is_stream and link.pid not in queue_address.users
        self.vacate(link.worker, skip=link.published if is_replayed else 0, by_death=True)

    def bury(self, link: Link, *, is_gone: bool = True) -> Ticket | None:
        """Enter the last reports of a worker and free what it held; the ticket that it was working on, if any.

        With ``is_gone`` false it may still write: its slots are not used again.
        """
        backend = self._backend
        while backend.intake.drain(link):
            pass
        unread = backend.dealer.take_unread(link)
        begun = list(link.in_flight.values())
        if is_gone:
            for work in begun:
                backend.ring.reclaim(work.slot)
            self._forget(link)
        for turn in link.states:
            backend.state.loaded(backend, turn)
        backend.pressure.forget(link)
        link.in_flight.clear()
        link.states.clear()
        link.close()
        self._grant_again([work.ticket for work in (*begun, *unread) if not work.cancelled])
        suspects = begun or (unread if link.dumped is not None else [])  # it may hang before it has read a grant
        return suspects[0].ticket if suspects and not suspects[0].cancelled else None

    def _forget(self, link: Link) -> None:
        slots = self._backend.ring.slots
        if link.is_abandoned:  # the number is its successor's
            for number in link.kept:
                slots.let_go(number)
        else:
            slots.forget_worker(link.worker)

    def overdue_in_s(self) -> float | None:
        """Until the first worker that was killed should be known to be gone; None if there is none."""
        dying = self._backend.roster.dying
        return max(0.0, dying[0].killed_at + STUCK_S - time.monotonic()) if dying else None

    def give_up_overdue(self) -> None:
        """Replace workers that were killed and are not known to be gone.

        Either they are stuck in the kernel (a dead network disk, a driver): then their slots are not used again before
        they are gone. Or they are gone, and the nursery hangs: then it is ended.

        Raises:
            OSError: A worker could not be started.
            WorkerDied: The nursery dies again and again.
        """
        while self.overdue_in_s() == 0:
            link = self._backend.roster.dying[0]
            if link.pidfd < 0 or link.has_died():
                self.renew_launcher(LauncherGone())
            else:
                self._abandon(link)
            self.fill()

    def _abandon(self, link: Link) -> None:
        backend = self._backend
        backend.roster.abandon(link)
        link.kept = [slot.number for slot in backend.ring.slots.slots if slot.held and slot.owner == link.worker]
        unread = backend.dealer.take_unread(link)
        begun = [work for work in link.in_flight.values() if not work.cancelled]
        for work in begun:
            work.cancelled = True  # whoever computes it again has another slot
        backend.pressure.forget(link)
        self._grant_again([work.ticket for work in (*begun, *unread)])
        self._leave_vacant(link)
        self.num_deaths += 1
        failure = self._blame(Exit(link, None, 0, None), begun[0].ticket if begun else None)
        if failure is not None:
            raise failure

    def _grant_again(self, tickets: list[Ticket]) -> None:
        backend = self._backend
        backend.num_retries += len(tickets)
        backend.dealer.pending = deque(sorted((*tickets, *backend.pending)))

    def _blame(self, leaving: Exit, ticket: Ticket | None) -> BaseException | None:
        """Count a death against the ticket that the worker was working on; give the ticket up if it is one too many."""
        link, options = leaving.link, self._backend.options
        if link.is_blameless:
            return None
        if ticket is None:
            return self._blame_nobody(leaving)
        is_outstanding = self._backend.ledger.is_outstanding
        self._by_ticket = {number: count for number, count in self._by_ticket.items() if is_outstanding(number)}
        deaths = self._by_ticket[ticket.number] = self._by_ticket.get(ticket.number, 0) + 1
        if deaths <= options.restarts and options.can_replay:
            return None
        del self._by_ticket[ticket.number]
        if link.dumped is not None and options.batch_timeout is not None:
            error: Exception = BatchTimeout(ticket.unit, ticket.epoch, options.batch_timeout, link.dumped)
        else:
            error = self._error_of(leaving, ticket, deaths)
        self._backend.pending.remove(ticket)
        self._backend.give_up(ticket, error)
        return None

    def _error_of(self, leaving: Exit, ticket: Ticket, deaths: int) -> WorkerDied:
        if self._backend.options.can_replay:
            tried = "once" if deaths == 1 else f"{deaths} times"
            remedy = f"It was tried {tried}. Run that index in the main process (workers=0) to see why"
        else:
            remedy = _NO_REPLAY
        return _worker_died(leaving, ticket, remedy)

    def _blame_nobody(self, leaving: Exit) -> WorkerDied | None:
        if not self._backend.options.can_replay and not leaving.link.has_ended:
            return _worker_died(leaving, None, _NO_REPLAY)
        self.silent += 1
        if self.silent <= self._backend.options.restarts + self._backend.options.num_workers:
            return None
        self.silent = 0
        remedy = "Workers die before they compute anything: look at `worker_init` and at what the source imports"
        return _worker_died(leaving, None, remedy)

    def renew_launcher(self, gone: LauncherGone) -> None:
        """The nursery is gone, and all workers with it: make another one.

        Raises:
            WorkerDied: It dies again and again.
            OSError: There are not enough processes or descriptors.
        """
        backend = self._backend
        links = backend.roster.strike_off_all()
        exitcode = backend.roster.drop_launcher()
        stuck = end_orphans(links)
        for link in links:
            self.bury(link, is_gone=link not in stuck)
            if not link.is_abandoned:
                self._leave_vacant(link)
        self.num_deaths += len(links)
        exitcode = gone.exitcode if exitcode is None else exitcode
        while backend.roster.launcher is None:
            self.silent += 1
            if self.silent > backend.options.restarts:
                self.silent = 0
                remedy = "It was started again as often as `restarts` allows: look at what the source's unpickling does"
                raise WorkerDied(-1, exitcode, oom_killed=self._was_oom_killed(exitcode), remedy=remedy)
            try:
                backend.roster.set_launcher(backend.state.launch())
            except LauncherGone as gone_again:  # while it was told of the source
                exitcode = gone_again.exitcode


def _worker_died(leaving: Exit, ticket: Ticket | None, remedy: str) -> WorkerDied:
    index, epoch = (None, None) if ticket is None else (ticket.unit, ticket.epoch)
    return WorkerDied(
        leaving.link.worker, leaving.exitcode, index, epoch, leaving.peak_bytes, leaving.oom_killed, remedy
    )
