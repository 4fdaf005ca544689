"""The consumer's side: hands out batches in order, ends epochs, and keeps the workers in work.

There is no feeder thread. The consumer's own `next` takes the outcomes that have arrived, deals more tickets, and waits
if the next batch is not there; workers run ahead on the credit that they hold. One lock orders the threads that may
call (several consumers, a `stop` from elsewhere, the one-shot thread of an epoch's end). User code that is called here
(`on_epoch_end`) runs inside the lock and may call back.

The `Ledger`, which the backend shares, holds the tickets that were dealt and their outcomes; the `Recovery` holds what
an interrupt has left. A `Backend` runs the tickets: worker processes, worker threads, or the caller itself. It pulls
them: `Ledger.deal` gives it the next ticket as long as there is credit, so that the ledger alone counts.

# NOTE [ Interrupts ]
A signal handler runs in the main thread, and may raise (Ctrl-C, `sys.exit`, a time-out by SIGALRM) or call `stop`.
CPython (3.11 to 3.13) runs it at these places only: where a Python function begins or a generator goes on, at a jump
backward, after a call of C code, and inside calls that wait. Between two of them nothing can strike: a row of
assignments to attributes and the return from a Python function are as one step. ``next(iterator)``, ``popleft()`` and
``pop()`` are calls of C: what they have returned is lost if a handler raises behind them. Four rules keep the stream
whole, and cost nothing as long as none strikes:

1. While we wait, nothing is half done: what was raised passes through, and the next `next` goes on where it was.
2. Anywhere else the state may be *inconsistent*. The next `next` discards the work in flight and rolls back to the last
   place that was counted. It is marked by assignments alone, so that a second interrupt does not undo the mark.
3. A batch is counted after it was opened, by one assignment (`Ledger.latest`). From there to its caller it is in a
   local variable of a frame that gives it back (`Progress.unclaimed`) if anything is raised: it is handed out first, in
   its turn, before the end of its epoch. Until then it has not come, and no state counts it (`Progress.place`). The
   layers between (iterators) return what they got at once: by a call of a Python method, and no other call behind it.
4. A `stop` from a handler in the middle of our own work only sets a mark; the work itself stops at its end. (The
   alternative, to close descriptors that a line further up the stack is about to use, could write to strangers.)

So, if the interrupt's traceback ends in a frame of ours, or of the source that we have called: nothing is lost and
nothing comes twice, and a state counts what has come. What nobody can know is whether the caller's own frame got its
batch. ``next(batches)`` is a call of C code in that frame: a handler may raise behind it, before the assignment. Such a
batch was handed out, and counts; the frames of the traceback tell (no frame of ours is in it). In ``for batch in
batches`` there is no such place: the loop's variable has the batch before a handler runs.

A stream (a generator) gives its elements once. Where an interrupt falls so that an element may be gone, the next `next`
raises a RuntimeError that says so, each time, until the stream is begun anew. An interrupt inside of the code of a
source without workers is told from its errors by the traceback, which leads through the handler
(`mpqueue.system.interrupts.is_of_handler`): the function that is set as handler now, or one that was called with the
number of a signal and the very frame that called it. A handler that sets another one in its place *and* deletes, or
binds anew, its parameters cannot be told: what it raises there counts as the source's error for that batch.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from mpqueue.engine.backend import Backend, EndOfStream, Stopped
from mpqueue.engine.epoch_end import EpochEnd
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.lifetime import Life, Lifetime
from mpqueue.engine.outcomes import Outcome, Result, Unreadable, is_interrupt
from mpqueue.engine.recovery import Recovery
from mpqueue.engine.schedule import Place, Ticket
from mpqueue.engine.skips import NOTHING_LEFT, Skips
from mpqueue.system import forked
from mpqueue.system.interrupts import is_of_handler
from mpqueue.telemetry.recorder import Recorder

_clock = time.perf_counter_ns


class Bar(Protocol):
    """Shows how far an epoch is: a `mpqueue.loader.progress.ProgressBar`."""

    def step(self, ticket: Ticket) -> None:
        """Show one more batch, before its caller has it; what is raised here gives the batch back."""

    def close(self) -> None:
        """Leave the bar as it is."""


class Pipeline:
    """One stream of batches out of one source.

    Args:
        ledger: The tickets; the backend has the same one.
        epoch_end: Called once per epoch, after its last batch; None: there is nothing to call.
        timed_epoch_end: Run a due epoch end by itself after 0.1 s.
        skips: What the source raises is left out, and entered here; None: it is raised.
        recorder: Where is counted how long the consumer waits; the backend has the same one.

    Attributes:
        bar: Shows each batch; None: there is none.
        lock: Held around every call of the backend but `start` and `wake`.
        loop: The number of the loop that batches go to; who asks for an earlier one is told that it was stopped.
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
        self.ledger, self.recovery = ledger, Recovery()
        self.lock = threading.RLock()
        self.loop = self.wait_ns = 0
        self.recorder = recorder or Recorder()
        self.bar: Bar | None = None
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

    def next(self, loop: int = 0) -> Any:
        """Return the next batch.

        Args:
            loop: What `loop` was when the caller's loop began; 0 where there is but one.

        Raises:
            EndOfStream: There are no more, or none before the next epoch is opened.
            Stopped: The pipeline was stopped, or another loop has begun.
            RuntimeError: This process was forked from the one that owns the pipeline.
            Exception: What the source raised for this batch, or its epoch end.
        """
        taken = None
        try:
            with self.lock:
                taken = self._take(loop)
            if self.lifetime.late_stop is not None:
                self.lifetime.stop_late(self.stop)
            if self.bar is not None:
                self.bar.step(taken[0])
            return taken[1]
        except BaseException as error:
            if taken is not None:  # with its own ticket: another thread's batch may have been counted since
                progress = self.ledger.progress
                progress.unclaimed = (taken, *progress.unclaimed)
                self.ledger.needs_attention = True
            if self.lifetime.late_stop is not None:
                self.lifetime.stop_late(self.stop)
            if self.bar is not None and isinstance(error, EndOfStream | Stopped):
                self.bar.close()
            raise

    def _take(self, loop: int) -> tuple[Ticket, Any]:
        ledger, backend = self.ledger, self.backend
        progress, ticket, taken = ledger.progress, None, None
        try:
            while True:
                if loop != self.loop:  # looked at after each wait, and under the lock: what comes is another's
                    raise self.recovery.own(Stopped())
                if ledger.needs_attention:
                    self._attend()
                    if progress.unclaimed:
                        taken, progress.unclaimed = progress.unclaimed[0], progress.unclaimed[1:]
                        return taken
                found = ledger.take()
                if found is None:
                    self._wait()
                    continue
                ticket, outcome = found
                if not outcome.is_plain:
                    left = self._take_rare(ticket, outcome)
                    if left is None:
                        continue
                    outcome = left
                if ledger.credit - len(ledger.tickets) >= backend.chunk:
                    backend.pump()
                try:
                    taken = ticket, outcome.open()
                except Unreadable as unreadable:  # no interrupt: to compute it again would give the same again
                    outcome = Result.failed(unreadable.settle(f"index {ticket.unit} of epoch {ticket.epoch}"))
                else:
                    if ledger.count(ticket):
                        self._fall_due()
                    return taken
                self._take_rare(ticket, outcome)
        except BaseException:
            recovery = self.recovery  # up to the last line by assignments alone: see NOTE [ Interrupts ]
            if not (ledger.is_waiting or recovery.is_raising):
                recovery.is_inconsistent = ledger.needs_attention = True
                if ticket is not None and ticket is ledger.latest:
                    recovery.half_counted = ticket
                    ledger.failure = recovery.failure or ledger.failure
                    if taken is not None:
                        progress.unclaimed = (taken, *progress.unclaimed)
            recovery.has_failed, recovery.failure = recovery.is_raising, None
            ledger.is_waiting = recovery.is_raising = False
            raise

    def _take_rare(self, ticket: Ticket, outcome: Outcome) -> Outcome | None:
        """Enter the end of a worker's stream, leave out what failed, or raise the exception of a batch."""
        ledger = self.ledger
        if outcome.is_end:
            ledger.schedule.end_lane(ticket.lane)
            return None
        if self.skips is not None and ticket.position >= 0:
            outcome = self.skips.sort_out(ticket, outcome)
            if outcome.is_plain:
                return outcome
        try:
            if outcome is not NOTHING_LEFT:
                outcome.open()
        except BaseException as error:
            if is_interrupt(error, outcome):
                raise
            self.recovery.failure = error
            self._count(ticket)
            self.recovery.failure, self.recovery.is_raising = None, True
            raise
        self._count(ticket)
        return None

    def _count(self, ticket: Ticket) -> None:
        """Count what is no batch."""
        if ticket.position >= 0 and self.ledger.count(ticket):
            self._fall_due()

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
        self._finish_count()
        if self.ledger.progress.unclaimed:
            self.ledger.needs_attention = True
            return
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

    def _finish_count(self) -> None:
        """Finish the counting of a batch that an interrupt has broken off; may be repeated."""
        ticket = self.recovery.half_counted
        if ticket is not None:
            if self.ledger.recount(ticket) and not self._end.is_due:
                self._fall_due()
            self.recovery.half_counted = None

    def _recover(self) -> None:
        """Discard the work in flight and roll back to the last place that was counted; tried again until it is done."""
        ledger, recovery = self.ledger, self.recovery
        self._finish_count()
        recovery.is_raising = ledger.needs_attention = True  # what cannot be computed again is an error
        self.backend.reset()
        if self._end.is_due:
            ledger.stand_before(ledger.progress.epoch)
        else:
            ledger.go_to(ledger.progress.counted())
            self.backend.pump()
        recovery.is_raising = recovery.is_inconsistent = False  # attention stays: a `stop` may have asked for it

    def is_failure(self, error: BaseException) -> bool:
        """Return whether what `next` has raised is a failure of the stream, and not what a signal handler raised."""
        return self.recovery.has_failed and not is_of_handler(error)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Do what `next` does around its work, for the others."""
        try:
            with self.lock:
                try:
                    self._refuse_foreign()
                    yield
                except BaseException:
                    ledger, recovery = self.ledger, self.recovery  # by assignments alone, as in `_take`
                    if not (ledger.is_waiting or recovery.is_raising):
                        recovery.is_inconsistent = ledger.needs_attention = True
                    recovery.has_failed = recovery.is_raising
                    ledger.is_waiting = recovery.is_raising = False
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
            if not end.is_due or self.is_stopped or self.ledger.progress.unclaimed:
                return
            end.cancel_timer()
            schedule = self.ledger.schedule
            try:
                end.run_hook()
                if not self.is_stopped:
                    self.recovery.is_inconsistent = True  # until the epoch is open
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
            try:
                return schedule.has_new_length() or self.backend.is_stale()
            except Exception as error:
                # Both only ask, and leave all as it is: else the next loop would end the workers and begin anew.
                self.recovery.is_raising = not is_of_handler(error)
                raise

    def begin_loop(self) -> None:
        """Have batches go to another loop, with the next number, and free whoever waits for one in those before."""
        with self.lock:  # safe to interrupt: a number is left out
            self.loop += 1
        self.backend.wake()

    def restart_at(self, place: Place, *, refresh: bool = False) -> None:
        """Drop all that is under way and go to another place in the order; ``refresh``: the source may have changed."""
        with self._turn():
            if self.is_stopped:
                raise self.recovery.own(Stopped())
            ledger, recovery = self.ledger, self.recovery
            self._finish_count()
            ledger.progress.unclaimed = ()
            self.finish_epoch()
            ledger.allowance = ledger.credit
            if recovery.is_inconsistent:
                ledger.go_to(place)
                self.backend.reset(anew=True)
            else:
                self.backend.cancel()
            if refresh:
                self.backend.refresh()
            if not recovery.is_inconsistent:
                ledger.go_to(place)
            self.backend.pump()
            recovery.is_inconsistent = False

    def hand_out(self, epoch: int) -> None:
        """Have `next` end behind this epoch of a sequence, and not behind the one before."""
        with self._turn():
            self.recorder.mark(f"epoch {epoch} begins")
            self._last_epoch = epoch
            self.ledger.forget_undealt()
            self.ledger.needs_attention = True
            if not self.is_stopped:
                self.backend.pump()

    def bound_epoch(self, epoch: int, *, goes_on: bool) -> None:
        """Have nothing computed of the epochs behind this one, unless it ``goes_on``, and nothing is against that.

        What an order is drawn from is not asked before its epoch is; and if nobody can tell whether the source has
        changed since, no batch of a later epoch is computed before somebody asks for one.
        """
        may_go_on = goes_on and self.backend.tells_changes and not self.ledger.schedule.is_drawn
        self.ledger.schedule.last_epoch = None if may_go_on else epoch

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

    def place(self) -> Place:
        """Return the place where a stream goes on: behind all that has come to its consumer."""
        return self.ledger.progress.place()

    @property
    def epoch(self) -> int:
        """The epoch up to whose batches is counted; unclaimed ones may be of the one before."""
        return self.ledger.progress.epoch

    @property
    def is_endless(self) -> bool:
        """True if the epoch that is computed never ends."""
        return self.ledger.schedule.is_endless

    @property
    def num_ready(self) -> int:
        """Batches that are computed and not handed out."""
        with self._turn():
            if self.is_stopped or self.recovery.is_inconsistent:
                return 0
            self.backend.pump()
            self.backend.wait(self.ledger.head, block=False)
            return len(self.ledger.ready) + len(self.ledger.progress.unclaimed)

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
        progress = self.ledger.progress
        progress.unclaimed = tuple((ticket, None) for ticket, _ in progress.unclaimed)  # they have not come
        self.backend.stop(timeout_s)
