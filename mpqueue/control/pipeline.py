"""The consumer's side: hands out batches in order, ends epochs, and keeps the workers in work.

There is no feeder thread. The consumer's own `next` takes the outcomes that have arrived, deals more tickets, and waits
if the next batch is not there; workers run ahead on the credit that they hold. One lock orders the threads that may
call (several consumers, a `stop` from elsewhere, the one-shot thread of an epoch's end). User code that is called here
(`on_epoch_end`) runs inside the lock and may call back.

The `Ledger`, which the backend shares, holds the tickets that were dealt and their outcomes; the `Recovery` holds what
an interrupt has left. A `Backend` runs the tickets: worker processes, worker threads, or the caller itself. It pulls
them: `Ledger.deal` gives it the next ticket as long as there is credit, so that the ledger alone counts.

# NOTE [ Interrupts ]
A signal handler runs between any two bytecodes of the main thread, and may raise (Ctrl-C, `sys.exit`, a time-out by
SIGALRM) or call `stop`. Three rules keep the stream whole, at no cost as long as none strikes:

1. While we wait, nothing is half done: what was raised passes through, and the next `next` goes on where it was.
2. Anywhere else the state may be *inconsistent*. The next `next` discards the work in flight and rolls back to the last
   place that was counted. A batch is counted after it was opened, by one assignment; one that was counted and not
   returned is returned then. So nothing is lost, and nothing comes twice.
3. A `stop` from a handler in the middle of our own work only sets a mark; the work itself stops at its end. (The
   alternative, to close descriptors that a line further up the stack is about to use, could write to strangers.)
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.control.backend import Backend, EndOfStream, Stopped
from mpqueue.control.epoch_end import EpochEnd
from mpqueue.control.ledger import Ledger
from mpqueue.control.lifetime import Life, Lifetime
from mpqueue.control.outcomes import Outcome, Result, Unreadable
from mpqueue.control.progress import Place
from mpqueue.control.recovery import Recovery
from mpqueue.control.schedule import EpochSchedule, StreamSchedule, Ticket
from mpqueue.control.skips import NOTHING_LEFT, Skips
from mpqueue.system import forked
from mpqueue.telemetry.recorder import Recorder

_clock = time.perf_counter_ns
_NOTHING: Any = object()


class Pipeline:
    """One stream of batches out of one source.

    Args:
        ledger: The tickets; the backend has the same one.
        epoch_end: Called once per epoch, after its last batch; None: there is nothing to call.
        timed_epoch_end: Run a due epoch end by itself after 0.1 s.
        skips: What the source raises is left out, and entered here; None: it is raised.
        recorder: Where is counted how long the consumer waits; the backend has the same one.

    Attributes:
        lock: Held around every call of the backend but `start` and `wake`.
        wait_ns: Nanoseconds that the consumer waited for batches.
        skips: What is left out, None if errors are raised.
        recorder: As given.
    """

    backend: Backend  # from `start` on

    def __init__(
        self,
        ledger: Ledger,
        *,
        epoch_end: Callable[[], Any] | None = None,
        timed_epoch_end: bool = True,
        skips: Skips | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.ledger, self.recovery = ledger, Recovery(ledger)
        self.lock = threading.RLock()
        self.wait_ns = 0
        self.recorder = recorder or Recorder()
        self.lifetime = Lifetime(self.lock)
        self.skips = skips
        self._last_epoch: int | None = None  # nothing behind it is handed out
        self._end = EpochEnd(epoch_end, timed=timed_epoch_end)
        forked.watch(self)

    def start(self, backend: Backend) -> None:
        """Set a backend to work.

        Raises:
            Exception: What `Backend.start` raised.
        """
        self.backend = backend
        backend.start()
        self.recorder.begin()
        self.lifetime.state = Life.RUNNING

    # -- The consumer's side

    def next(self) -> Any:
        """Return the next batch.

        Raises:
            EndOfStream: There are no more, or none before the next epoch is opened.
            Stopped: The pipeline was stopped.
            RuntimeError: This process was forked from the one that owns the pipeline.
            Exception: What the source raised for this batch, or its epoch end.
        """
        batch = _NOTHING
        try:
            with self.lock:
                batch = self._take()
            if self.lifetime.late_stop is not None:
                self.lifetime.stop_late(self.stop)
            return batch  # noqa: TRY300 - a signal may still strike here
        except BaseException:
            if batch is not _NOTHING:
                self.recovery.keep(batch)
            if self.lifetime.late_stop is not None:
                self.lifetime.stop_late(self.stop)
            raise

    def _take(self) -> Any:
        ledger, backend = self.ledger, self.backend
        ticket, batch = None, _NOTHING
        try:
            while True:
                if ledger.needs_attention:
                    self._attend()
                    if self.recovery.unclaimed:
                        return self.recovery.unclaimed.popleft()
                taken = ledger.take()
                if taken is None:
                    self._wait()
                    continue
                ticket, outcome = taken
                if not outcome.is_plain:
                    left = self._take_rare(ticket, outcome)
                    if left is None:
                        continue
                    outcome = left
                if ledger.credit - len(ledger.tickets) >= backend.chunk:
                    backend.pump()
                try:
                    batch = outcome.open()
                except Unreadable as unreadable:  # no interrupt: to compute it again would give the same again
                    outcome = Result.failed(unreadable.settle(f"index {ticket.unit} of epoch {ticket.epoch}"))
                else:
                    if ledger.count(ticket):
                        self._fall_due()
                    return batch
                self._take_rare(ticket, outcome)
        except BaseException:
            self._note_escape(ticket, batch)
            raise

    def _take_rare(self, ticket: Ticket, outcome: Outcome) -> Outcome | None:
        """Enter the end of a worker's stream, leave out what failed, or raise the exception of a batch."""
        ledger = self.ledger
        if outcome.is_end:
            assert isinstance(ledger.schedule, StreamSchedule)
            ledger.schedule.end_lane(ticket.lane)
            return None
        if self.skips is not None and ticket.position >= 0:
            outcome = self.skips.sort_out(ticket, outcome)
            if outcome.is_plain:
                return outcome
        place = ledger.progress.place()
        if ticket.position >= 0 and ledger.count(ticket):
            self._fall_due()
        if outcome is not NOTHING_LEFT:
            self.recovery.expect(place)
            outcome.open()
        return None

    def _wait(self) -> None:
        ledger, backend = self.ledger, self.backend
        if not self._has_enough_dealt():
            backend.pump()
        if len(ledger.ready) == len(ledger.tickets):  # nobody is at work who could tell of anything
            if ledger.tickets or ledger.needs_attention:
                return
            raise self.recovery.own(EndOfStream())
        started = _clock()
        backend.wait(ledger.head)
        waited_ns = _clock() - started
        self.wait_ns += waited_ns
        self.recorder.wait(ledger.num_batches, waited_ns)

    def _has_enough_dealt(self) -> bool:
        """Return True if it is not worth while to deal: see `Backend.chunk`."""
        ledger, backend = self.ledger, self.backend
        num_dealt = len(ledger.tickets)
        return ledger.credit - num_dealt < backend.chunk and num_dealt - len(ledger.ready) >= backend.low_water

    def _attend(self) -> None:
        """Do what is to be done before a batch can be handed out."""
        self._refuse_foreign()
        self.ledger.needs_attention = False  # before the look: a stop from another thread may come right now
        if self.is_stopped:
            self.ledger.needs_attention = True
            raise self.recovery.own(Stopped())
        self.raise_failure()
        if self.recovery.is_inconsistent:
            self._recover()
        if self._end.is_due:
            self.finish_epoch()
        self.raise_failure()
        if self._last_epoch is not None and self.ledger.progress.epoch > self._last_epoch:
            self.ledger.needs_attention = True
            raise self.recovery.own(EndOfStream())

    def _refuse_foreign(self) -> None:
        if self.lifetime.state is Life.FOREIGN:
            raise self.recovery.own(self.lifetime.refusal())

    def raise_failure(self) -> None:
        """Raise what belongs to no ticket, if it was not raised yet: what an epoch end has raised."""
        ledger = self.ledger
        if ledger.failure is not None:
            failure, ledger.failure = ledger.failure, None
            raise self.recovery.own(failure)

    # -- Interrupts

    def _note_escape(self, ticket: Ticket | None = None, batch: Any = _NOTHING) -> None:
        """Note an exception that leaves `next`: the engine's own, or an interrupt. See NOTE [ Interrupts ]."""
        recovery = self.recovery
        if not recovery.note_escape() or not recovery.is_counted(ticket):
            return
        assert ticket is not None
        if self.ledger.recount(ticket) and not self._end.is_due:
            self._fall_due()
        if batch is not _NOTHING:
            recovery.keep(batch)

    def _recover(self) -> None:
        """Discard the work in flight and roll back to the last place that was counted."""
        ledger = self.ledger
        self.recovery.begin()
        self.backend.reset()
        if self._end.is_due:
            ledger.stand_before(ledger.progress.epoch)
        else:
            ledger.go_to(ledger.progress.place())
            self.backend.pump()
        self.recovery.end()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Do what `next` does around its work, for the others."""
        try:
            with self.lock:
                try:
                    self._refuse_foreign()
                    yield
                except BaseException:
                    self._note_escape()
                    raise
        finally:
            if self.lifetime.late_stop is not None and not self.lifetime.is_inside:
                self.lifetime.stop_late(self.stop)

    # -- Epochs

    def _fall_due(self) -> None:
        self.recorder.mark(f"epoch {self.ledger.progress.epoch - 1} ends")
        if self._end.fall_due(self.finish_epoch) or self._last_epoch is not None:
            self.ledger.needs_attention = True

    def finish_epoch(self) -> None:
        """Run the epoch end if it is due, and begin the next epoch; what it raises is kept for the next `next`."""
        with self._turn():
            end = self._end
            if not end.is_due or self.is_stopped:
                return
            end.cancel_timer()
            schedule = self.ledger.schedule
            assert isinstance(schedule, EpochSchedule)
            try:
                end.run_hook()
                if not self.is_stopped:
                    self.recovery.is_inconsistent = True  # as long as it lasts
                    self.backend.refresh()  # workers begin the next epoch from the source's present state
                    schedule.open_epoch()
                    self.backend.pump()
                    self.recovery.is_inconsistent = end.is_due = False
            except BaseException as error:
                self.ledger.fail(error)

    def is_outdated(self) -> bool:
        """Return whether what is computed ahead, or the workers' source, may be older than the source is now.

        Raises:
            Exception: What the length of the source raised, or its pickling.
        """
        with self._turn():
            self.finish_epoch()  # its hook may change the source
            schedule = self.ledger.schedule
            return (isinstance(schedule, EpochSchedule) and schedule.has_new_length()) or self.backend.is_stale()

    def restart_at(self, place: Place, *, refresh: bool = False) -> None:
        """Drop all that is under way and go to another place in the order; ``refresh``: the source may have changed."""
        with self._turn():
            if self.is_stopped:
                raise self.recovery.own(Stopped())
            self.finish_epoch()
            self.backend.cancel()
            self.recovery.unclaimed.clear()
            self.ledger.allowance = self.ledger.credit
            if refresh:
                self.backend.refresh()
            self.ledger.go_to(place)
            self.backend.pump()

    def hand_out(self, epoch: int) -> None:
        """Have `next` end behind this epoch of a sequence, and not behind the one before."""
        with self._turn():
            self.recorder.mark(f"epoch {epoch} begins")
            self._last_epoch = epoch
            self.ledger.forget_undealt()
            self.ledger.needs_attention = True
            if not self.is_stopped:
                self.backend.pump()

    def pause(self) -> None:
        """Deal nothing until `resume`, and wait until nothing is at work; what is ready stays."""
        ledger = self.ledger
        with self._turn():
            ledger.allowance = 0
            while not self.is_stopped and ledger.failure is None and (at_work := ledger.at_work()):
                self.backend.wait(min(at_work))  # the oldest: the one that a `batch_timeout` can end

    def resume(self) -> None:
        """Go on after a `pause`, and with all of the credit."""
        with self._turn():
            self.ledger.allowance = self.ledger.credit
            if not self.is_stopped:
                self.backend.pump()

    # -- Anybody

    @property
    def num_ready(self) -> int:
        """Batches that are computed and not handed out."""
        with self._turn():
            if self.is_stopped or self.recovery.is_inconsistent:
                return 0
            self.backend.pump()
            self.backend.wait(self.ledger.head, block=False)
            return len(self.ledger.ready)

    @property
    def is_stopped(self) -> bool:
        """True if it was asked to stop, or has not begun."""
        return self.lifetime.state is not Life.RUNNING

    @property
    def has_ended(self) -> bool:
        """True if nothing of it is left in this process."""
        return self.lifetime.state in {Life.ENDED, Life.FOREIGN}

    def disown(self) -> None:
        """Refuse all calls, in a forked child: the workers are the parent's, and its locks may be held for ever."""
        self.lock = threading.RLock()
        self.lifetime.disown(self.lock)
        self.ledger.needs_attention = True

    def stop(self, timeout_s: float | None = None) -> None:
        """End the stream: frees whoever waits in `next`, ends the workers. Idempotent, from any thread.

        Raises:
            StopTimeout: Workers outlived the deadline.
        """
        if not self.lifetime.ask_to_stop():
            return
        self.ledger.close()
        self.backend.wake()
        if self.lifetime.is_inside and not self._end.is_calling:
            self.lifetime.late_stop = (timeout_s,)  # a signal handler; see NOTE [ Interrupts ]
        else:
            self.lifetime.stop(timeout_s, self._end.cancel_timer, self._end_workers)

    def _end_workers(self, timeout_s: float | None) -> None:
        self.ledger.tickets.clear()
        self.recovery.unclaimed.clear()
        self.backend.stop(timeout_s)
