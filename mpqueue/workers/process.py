"""The backend of worker processes: deals tickets with their slots, takes in reports, survives deaths.

    ledger ----deal--> ticket --grant--> worker's pipe --report--> ready --open--> views of the slot --> consumer
                          ^                   |
                          +---- pending <-----+  taken back for an idle worker, or its worker died

Everything here happens in the consumer's own calls, under the pipeline's lock; workers run ahead on what they hold.

The parts: `mpqueue.workers.dealing` gives tickets to workers, `intake` takes in what they report, `deaths` replaces
those that end, `pressure` finds memory for those that lack it, `hang` ends those that hang, `state` sends them the
source's changes.

*Death.* The launcher tells of it. What the dead worker had reported stands; the grant that it was working on counts
against the `restarts` of its ticket; all its tickets are granted again to its replacement.

*Memory.* A worker that finds no memory for its batch keeps it, says so and waits; see `mpqueue.workers.pressure`.

*Waiting.* For batches of a few microseconds a sleep and a wake-up cost more than the batch. So with cheap ones the
consumer gives up its CPU some times before it sleeps, to a worker that would run there, and finds several batches when
it is back: tiny batches come at 1.05 times the rate, small ones made in place at 1.17, and for small ones the trainer
needs a third less CPU.

*Interrupts.* Ctrl-C may strike between the read of a record and its entry in the books. The next call notices, and
replaces all workers: what was lost with the record is computed again.
"""

import contextlib
import os
import select
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from mpqueue.control import queue_address
from mpqueue.control.ledger import Ledger
from mpqueue.control.outcomes import Result
from mpqueue.control.schedule import Ticket
from mpqueue.memory.ring import Ring
from mpqueue.stats import Statistics
from mpqueue.system import descriptors
from mpqueue.system.interrupts import HeldBack
from mpqueue.workers.context import WorkerInfo
from mpqueue.workers.dealing import Dealer
from mpqueue.workers.deaths import Deaths
from mpqueue.workers.hang import HangWatch
from mpqueue.workers.intake import Intake
from mpqueue.workers.launcher import Forker, LauncherGone
from mpqueue.workers.pressure import Pressure
from mpqueue.workers.roster import Roster
from mpqueue.workers.source_sync import SourceState
from mpqueue.workers.work import Work
from mpqueue.workers.worker_main import WorkerConfig

_MAX_YIELDS = 10


class Options(NamedTuple):
    """What the user chose for a pool of processes; see `mpqueue.enqueuers`."""

    num_workers: int
    seed: int
    is_stream: bool
    can_replay: bool
    restarts: int
    batch_timeout: float | None
    max_batch_bytes: int | None
    copy: bool
    skip: tuple[int, ...] = ()


class ProcessBackend:
    """A pool of worker processes and its ring.

    Args:
        ledger: Whose tickets it runs.
        state: The source, and the launcher of workers that have it.
        options: The user's choices.
    """

    def __init__(self, ledger: Ledger, state: SourceState, options: Options) -> None:
        self.ready = ledger.ready
        self.chunk = 1
        self.low_water = 2 * options.num_workers
        self.num_retries = 0
        self.ledger, self.state, self.options = ledger, state, options
        self.pressure, self.deaths = Pressure(self), Deaths(self)
        self.dealer, self.intake = Dealer(self, ledger.credit), Intake(self)
        self._hang = HangWatch(options.batch_timeout) if options.batch_timeout is not None else None

    def start(self) -> None:
        """Make the ring, start the workers, and set them to work.

        Raises:
            OSError: The ring, a pipe or a process could not be made; nothing is left behind.
            Exception: What unpickling the source raised.
        """
        with HeldBack(), contextlib.ExitStack() as undo:
            undo.callback(self.state.drop)
            self.state.begin()
            self._open(undo)
            self._ask_for_workers(self.options.skip)
            self.pump()  # grants wait in the pipes: the first worker computes while the next is forked
            self._await_workers()
            undo.pop_all()

    def _open(self, undo: contextlib.ExitStack) -> None:
        """Make all but the workers; ``undo`` unmakes it."""
        options = self.options
        self.ring = Ring(self.ledger.credit, options.num_workers, copy=options.copy)
        undo.callback(self.ring.close)
        self._config = WorkerConfig(
            WorkerInfo(0, options.num_workers, options.seed), options.is_stream, self.ring.segment.size,
            self.ring.segment.kind, self.ring.stride, options.max_batch_bytes,
            queue_home=queue_address.address_for_workers(),
        )  # fmt: skip
        self.roster = Roster(self.ring.segment.fd, self._config_of, with_stacks=self._hang is not None)
        undo.callback(self.roster.close, reusable=False)
        self._wake_read, self._wake_write = descriptors.pipe()
        undo.callback(self._close_wakeup)
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.roster.epoll.register(self._wake_read, select.EPOLLIN)

    def _start_workers(self, skip: tuple[int, ...] = ()) -> None:
        self._ask_for_workers(skip)
        self._await_workers()

    def _ask_for_workers(self, skip: tuple[int, ...]) -> None:
        for worker in range(self.options.num_workers):
            self.deaths.vacate(worker, skip=skip[worker] if skip else 0)
        try:
            if self.roster.launcher is None:
                self.roster.set_launcher(self.state.launch())
            else:
                self.state.equip(self.roster.launcher)
        except LauncherGone as gone:
            self.deaths.renew_launcher(gone)
        self.deaths.fill()

    def _await_workers(self) -> None:
        while not self.roster.all_run:
            self.deaths.take(None)
        self.roster.begin_to_count()

    def _config_of(self, worker: int, skip: int) -> WorkerConfig:
        info = self._config.info._replace(id=worker)
        return self._config._replace(info=info, epoch=self.ledger.epoch, skip=skip)

    @property
    def pending(self) -> deque[Ticket]:
        """Tickets that were dealt and have no worker (any more)."""
        return self.dealer.pending

    def pump(self) -> None:
        """Deal what credit and slots allow."""
        self.dealer.pump()

    def wait(self, head: int, *, block: bool = True) -> None:
        """Take in reports and exits; with ``block``, wait for one if there is none."""
        if self.deaths.vacant and not self._see_to(self.deaths.take):
            return
        num_ready = len(self.ready)
        if self.pending:
            self.pump()
        self.pressure.relieve(may_fail=block and head not in self.ready)
        if len(self.ready) != num_ready:
            return  # a ticket was given up, of which no event will tell
        events = self._poll(self._timeout_s() if block else 0)
        if not events and self._hang is not None:
            self._hang.end_hanging(self.roster)
        if not events and self.roster.dying:
            self._see_to(self.deaths.give_up_overdue)
        has_exits = False
        for fd, _ in events:
            link = self.roster.by_reports.get(fd)
            if link is not None:
                self.intake.drain(link)
            elif fd == self._wake_read:
                os.read(fd, 4096)
            elif fd == self.roster.launcher_fd:
                has_exits = True
        if has_exits:
            self._see_to(self.deaths.take)

    def _poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        ledger, poll = self.ledger, self.roster.epoll.poll
        events: list[tuple[int, int]] = []
        ledger.is_waiting = True  # an interrupt here tears nothing: what has come is still there
        if timeout_s != 0 and self.dealer.run > 1:  # see the module's head
            for _ in range(_MAX_YIELDS):
                os.sched_yield()
                if events := poll(0):
                    break
        events = events or poll(timeout_s)
        ledger.is_waiting = False
        return events

    def _see_to(self, deaths: Callable[[], None]) -> bool:
        """Bury and replace workers; False if that failed, which the consumer is told."""
        try:
            deaths()
        except Exception as error:
            self.ledger.fail(error)
            return False
        self.pump()
        return True

    def _timeout_s(self) -> float | None:
        waits = [self.dealer.balance(), self._hang.time_left_s(self.roster) if self._hang is not None else None]
        if self.roster.dying:
            waits.append(self.deaths.overdue_in_s())
        return min((wait for wait in waits if wait is not None), default=None)

    # -- Epochs and the end

    def cancel(self) -> None:
        """Forget all tickets; what is at work is dropped when it is done."""
        for work in self.ready.values():
            if isinstance(work, Work) and not work.is_end:
                self.ring.release(work.slot)
        self.ready.clear()
        self.pending.clear()
        for link in self.roster.links.values():
            self.dealer.take_unread(link)
            link.flush()
            link.published = 0
            for work in link.in_flight.values():
                work.cancelled = True

    def is_stale(self) -> bool:
        """Whether the workers have an older state of the source, or nobody knows."""
        return self.state.is_stale()

    def refresh(self) -> None:
        """Make the workers compute from the source's present state."""
        self.state.refresh(self)

    def restart_workers(self) -> None:
        """End all workers and start others, from the launcher's present image; nothing that counts is in flight."""
        self.roster.end_workers(None)
        while self.roster.gone:
            self.deaths.bury(self.roster.gone.pop())
        if isinstance(self.roster.launcher, Forker):
            self.roster.drop_launcher()
        self._start_workers()

    def reset(self) -> None:
        """End all workers, forget all tickets, and begin anew: an interrupt has left the books in an unknown state.

        Raises:
            RuntimeError: The source is a generator object, which cannot give again what is lost.
        """
        self.roster.end_workers(None, is_urgent=True)
        while self.roster.gone:
            self.roster.gone.pop().close()
        self.ready.clear()
        self.pending.clear()
        self.state.forget_loading()
        self.pressure.reset()
        self.ring.reset()
        if not self.options.can_replay:
            raise RuntimeError(
                "an interrupt fell between two elements of a generator object, which gives them only once"
            )
        self._start_workers(self.ledger.counts)

    def evict(self, *, beyond: int) -> bool:
        """Move the finished batch that is furthest from its turn out of the ring; False if there is none."""
        later = [
            number
            for number, work in self.ready.items()
            if number > beyond and isinstance(work, Work) and not work.is_end
        ]
        if not later:
            return False
        work = self.ready[max(later)]
        assert isinstance(work, Work)
        self.ready[max(later)] = work.move_out()
        return True

    def give_up(self, ticket: Ticket, error: Exception) -> None:
        """A ticket that no worker can answer: it is an error at its place in the order."""
        self.ready[ticket.number] = Result.failed(error)

    def wake(self) -> None:
        """Make a blocked `wait` return."""
        try:
            os.write(self._wake_write, b"!")
        except (BlockingIOError, OSError):
            return  # full: it wakes as it is; closed: nobody waits

    def stop(self, timeout_s: float | None) -> None:
        """End the workers, park the nursery, let go of the ring.

        Raises:
            StopTimeout: Some workers did not end in time.
        """
        reusable = False
        with HeldBack():
            try:
                self.roster.end_workers(timeout_s)
                reusable = True
            finally:
                self.roster.close(reusable=reusable)
                self._close_wakeup()
                self.ready.clear()
                self.ring.close()

    def statistics(self) -> Statistics:
        """Return the counters; takes no lock, so that a monitoring thread never waits for a consumer."""
        ring, intake, deaths = self.ring, self.intake, self.deaths
        slots = ring.slots
        return Statistics(
            bytes=intake.num_bytes,
            compute_s=intake.compute_ns / 1e9,
            copy_s=intake.copy_ns / 1e9,
            credit_wait_s=intake.wait_ns / 1e9,
            slots_in_use=slots.num_slots - slots.num_free,
            num_slots=slots.num_slots,
            copies=ring.num_copies,
            retries=self.num_retries,
            deaths=deaths.num_deaths,
            restarts=deaths.num_restarts,
            ring_bytes=slots.bytes_reserved(),
            ring_kind=ring.segment.kind,
            worker_rss_bytes=tuple(_resident_bytes(link.pid) for link in list(self.roster.links.values())),
        )

    def _close_wakeup(self) -> None:
        ends = self._wake_read, self._wake_write
        self._wake_read = self._wake_write = -1  # a `wake` that comes late must not write to a stranger
        for fd in ends:
            descriptors.close(fd)


def _resident_bytes(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0
