"""The core: one stream of batches, driven by steps that never wait.

    step ------> a batch with its work item, or None: nothing is there now; what is raised is in a batch's place
    fileno ----> readable when there is something for `step` to do
    timeout_s -> the seconds after which `step` has to be called all the same; None: there is no such time

Whoever has a loop of his own (a server's, an event loop) waits for these two and calls `step`; everybody else calls
`next`, which is `step` and `wait` by turns.

*Cancellation.* A `step` that has returned None has done nothing that must be undone, so whoever waits for `fileno` may
give up at any moment, and loses nothing. What a `step` has returned counts as handed out: who cannot pass it on returns
it by `give_back`, and the next `step` hands it out again. So a batch is to be passed on without a wait in between, or
given back when that wait is cancelled. Several threads and tasks may step: each batch goes to one of them, and when one
has taken in what arrived for others, `fileno` is made readable once more. A stop makes it readable, and closes it then:
who may be late for that is one of the `watchers`. The descriptor is the backend's: never read from it, nor close it.

There is no feeder thread. `step` takes the outcomes that have arrived and deals more work items; workers run ahead on
the credit that they hold. One lock orders the threads that may call (several consumers, a `stop` from elsewhere, the
one-shot thread of an epoch's end). User code that is called here (`on_epoch_end`) runs inside the lock and may call
back.

The `Ledger`, which the backend shares, holds the work items that were dealt and their outcomes. A `Backend` runs the
work items: worker processes, worker threads, or the caller itself, whose `step` computes. It pulls them: `Ledger.deal`
gives it the next work item as long as there is credit, so that the ledger alone counts.

# NOTE [ Interrupts ]
A signal handler runs in the main thread, and may raise (Ctrl-C, `sys.exit`, a time-out by SIGALRM) or call `stop`.
CPython (3.11 to 3.13) runs it at these places only: where a Python function begins or a generator goes on, at a jump
backward, after a call of C code, and inside calls that wait. Between two of them nothing can strike: a row of
assignments to attributes and the return from a Python function are as one step. ``next(iterator)``, ``popleft()`` and
``pop()`` are calls of C: what they have returned is lost if a handler raises behind them. Four rules keep the stream
whole, and cost nothing as long as none strikes:

1. While we wait, nothing is half done: what was raised passes through, and the next `step` goes on where it was.
2. Anywhere else the state may be *inconsistent*. The next `step` discards the work in flight and rolls back to the last
   place that was counted. It is marked by assignments alone, so that a second interrupt does not undo the mark.
3. A batch is counted after it was opened, by one assignment (`Ledger.latest`). From there to its caller it is in a
   local variable of a frame that gives it back (`Progress.unclaimed`) if anything is raised: it is handed out first, in
   its turn, before the end of its epoch. Until then it has not come, and no state counts it (`Progress.place`). The
   layers between (`next`, iterators) return what they got at once: by a call of a Python method, and no other call
   behind it.
4. A `stop` from a handler in the middle of our own work only sets a mark; the work itself stops at its end. (The
   alternative, to close descriptors that a line further up the stack is about to use, could write to strangers.)

So, if the interrupt's traceback ends in a frame of ours, or of the source that we have called: nothing is lost and
nothing comes twice, and a state counts what has come. What nobody can know is whether the caller's own frame got its
batch. ``next(batches)`` is a call of C code in that frame: a handler may raise behind it, before the assignment. Such a
batch was handed out, and counts; the frames of the traceback tell (no frame of ours is in it). In ``for batch in
batches`` there is no such place: the loop's variable has the batch before a handler runs.

The lanes of a stream go on from their last snapshots, or from their beginning: what was handed out is computed again
and dropped. A bare iterator gives its elements once: where an interrupt falls so that one may be gone, the next `step`
raises a RuntimeError that says so, each time, until the stream is begun anew. An interrupt inside of the code of a
source without workers is told from its errors by the traceback, which leads through the handler
(`mpqueue.system.interrupts.is_of_handler`): the function that is set as handler now, or one that was called with the
number of a signal and the very frame that called it. A handler that sets another one in its place *and* deletes, or
binds anew, its parameters cannot be told: what it raises there counts as the source's error for that batch.
"""

import functools
import time
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from mpqueue.engine.backend import Backend, EndOfStream, NotYet, Stopped
from mpqueue.engine.epoch_end import EpochEnd
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.lifetime import Life, Lifetime
from mpqueue.engine.outcomes import Outcome, Result, Unreadable, is_interrupt
from mpqueue.engine.skips import NOTHING_LEFT, Skips
from mpqueue.plan.cursors import Place, WorkItem
from mpqueue.system import forked
from mpqueue.system.interrupts import is_of_handler
from mpqueue.system.living import Living
from mpqueue.system.locks import RLock
from mpqueue.telemetry.recorder import Recorder

_P = ParamSpec("_P")
_T = TypeVar("_T")
_clock = time.perf_counter_ns


class Bar(Protocol):
    """Shows how far an epoch is: a `mpqueue.loader.progress.ProgressBar`."""

    def step(self, work_item: WorkItem) -> None:
        """Show one more batch, before its caller has it; what is raised here gives the batch back."""

    def close(self) -> None:
        """Leave the bar as it is."""


def _locked(method: Callable[Concatenate["Pipeline", _P], _T]) -> Callable[Concatenate["Pipeline", _P], _T]:
    """Have a method do around its work what `Pipeline.step` does around its own.

    A context manager would not do: an interrupt in the code of `contextlib`, just behind the entry, leaves the lock
    taken for as long as its traceback is kept.
    """

    @functools.wraps(method)
    def call(self: "Pipeline", /, *args: _P.args, **options: _P.kwargs) -> _T:
        try:
            with self.lock:
                try:
                    if self.lifetime.state is Life.FOREIGN:
                        raise self._own(self.lifetime.refusal())
                    return method(self, *args, **options)
                except BaseException:
                    ledger = self.ledger  # by assignments alone, as in `step`
                    if not (ledger.is_waiting or self._is_raising):
                        self.is_inconsistent = ledger.needs_attention = True
                    self._has_failed = self._is_raising
                    ledger.is_waiting = self._is_raising = False
                    raise
        finally:
            if self.lifetime.late_stop is not None and not self.lifetime.is_inside:
                self.lifetime.stop_late(self.stop)

    return call


class Pipeline:
    """One stream of batches out of one source.

    Args:
        ledger: The work items; the backend has the same one.
        epoch_end: Called once per epoch, after its last batch; None: there is nothing to call.
        timed_epoch_end: Run a due epoch end by itself after 0.1 s.
        ends_epochs: `step` runs a due epoch end; else it raises EndOfStream there until `finish_epoch` was called.
        skips: What the source raises is left out, and entered here; None: it is raised.
        recorder: Where is counted how long the consumer waits; the backend has the same one.

    Attributes:
        bar: Shows each batch; None: there is none.
        lock: Held around every call of the backend but `start` and `wake`.
        loop: The number of the loop that batches go to; who asks for an earlier one is told that it was stopped.
        may_fail: No memory will come free while the next batch is waited for, so that it may fail for want of it.
        failed: The last work item for which `step` has raised.
        is_inconsistent: An interrupt may have left anything half done: the next `step` discards the work in flight and
            rolls back to the last place that was counted.
        watchers: Those who wait for `fileno`: woken by `stop`, before descriptors are closed, and by a later loop.
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
        ends_epochs: bool = True,
        skips: Skips | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.ledger = ledger
        self.lock = RLock()
        self.loop = 0
        self.may_fail = True
        self.failed: WorkItem | None = None
        self.recorder = recorder or Recorder()
        self.bar: Bar | None = None
        self.watchers: Living[Any] = Living()
        self.lifetime = Lifetime(self.lock)
        self.skips = skips
        self.is_inconsistent = False
        self._is_raising = False  # the exception that is on its way was raised on purpose
        self._has_failed = False  # so was the last one: it was no interrupt
        self._failure: BaseException | None = None  # that of a batch which is being counted
        self._half_counted: WorkItem | None = None  # an interrupt has struck in its counting, which is to be finished
        self._is_polled = False  # somebody waits for `fileno`
        self._last_epoch: int | None = None  # nothing behind it is handed out
        self._ends_epochs = ends_epochs
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

    def step(self, loop: int = 0, *, looks: bool = True) -> tuple[WorkItem, Any] | None:
        """Return the next batch with its work item, None if it is not there. Never waits; see the module's head.

        Args:
            loop: What `loop` was when the caller's loop began; 0 where there is but one.
            looks: False: the caller calls `look` whenever `fileno` is readable, so that reports need not be asked for.

        Raises:
            EndOfStream: There are no more, or none before the next epoch is opened.
            Stopped: The pipeline was stopped, or another loop has begun.
            RuntimeError: This process was forked from the one that owns the pipeline.
            Exception: What the source raised for this batch, or its epoch end.
        """
        ledger, backend = self.ledger, self.backend
        progress, work_item, taken = ledger.progress, None, None
        try:
            with self.lock:
                try:
                    # CPython 3.11 takes a handler's exception at a jump backward for one of the instruction before the
                    # loop: this one, or neither would the lock be released nor the state be marked.
                    is_in_vain: bool | None = None  # the last look at what has arrived; None: there was none
                    while True:
                        if loop != self.loop:  # under the lock: else the batch could be another loop's
                            raise self._own(Stopped())
                        # One flag for all that is rare (a stop, an epoch's end, what an interrupt has left): a batch
                        # pays for no other test.
                        if ledger.needs_attention:
                            self._attend()
                            if progress.unclaimed:
                                taken, progress.unclaimed = progress.unclaimed[0], progress.unclaimed[1:]
                                break
                        # First what is there: to ask worker processes is a call of the system, and often several have
                        # reported.
                        found = ledger.take()
                        if found is None:
                            # Behind a look in vain once more round: what could not be dealt has its error in `ready`,
                            # of which no report tells. A second look would be a busy wait.
                            if is_in_vain or not (looks or self._has_work()):
                                break
                            is_in_vain = not self._look()
                            continue
                        work_item, outcome = found
                        if not outcome.is_plain:
                            left = self._take_rare(work_item, outcome)
                            if left is None:
                                continue
                            outcome = left
                        # Before the batch is opened: workers have their next grants while it is rebuilt here.
                        if ledger.credit - len(ledger.work_items) >= backend.chunk:
                            ledger.num_in_hand = 1  # else an epoch of n batches would have one more dealt
                            backend.pump()
                            ledger.num_in_hand = 0
                        try:
                            taken = work_item, outcome.open()
                        except Unreadable as unreadable:  # no interrupt: computed again it would be the same again
                            outcome = Result.failed(
                                unreadable.settle(f"index {work_item.unit} of epoch {work_item.epoch}")
                            )
                        else:
                            if ledger.count(work_item):
                                self._fall_due()
                            break
                        self._take_rare(work_item, outcome)
                    if is_in_vain is not None and self._is_polled and ledger.has_next:
                        backend.wake()  # what else has arrived with it is of others, whom nobody would wake
                except BaseException:  # up to the last line by assignments alone: see NOTE [ Interrupts ]
                    # Neither a wait nor an error of ours: an interrupt, and nobody knows between which lines.
                    if not (ledger.is_waiting or self._is_raising):
                        self.is_inconsistent = ledger.needs_attention = True
                        if work_item is not None and work_item is ledger.latest:
                            self._half_counted = work_item
                            ledger.failure = self._failure or ledger.failure
                            if taken is not None:
                                progress.unclaimed = (taken, *progress.unclaimed)
                    # It is unclaimed by now, or will be computed again: not to be entered once more further out.
                    taken = None
                    self._has_failed, self._failure = self._is_raising, None
                    ledger.is_waiting = self._is_raising = False
                    raise
            # Behind the lock: inside of it a `stop` would only be marked again.
            if self.lifetime.late_stop is not None:
                self.lifetime.stop_late(self.stop)
            if self.bar is not None and taken is not None:
                self.bar.step(taken[0])
        except BaseException as error:
            if taken is not None:  # with its own work item: another thread's batch may have been counted since
                progress.unclaimed = (taken, *progress.unclaimed)
                ledger.needs_attention = True
            if self.lifetime.late_stop is not None:
                self.lifetime.stop_late(self.stop)
            if self.bar is not None and isinstance(error, EndOfStream | Stopped):
                self.bar.close()
            raise
        return taken

    def _look(self) -> bool:
        """Deal, and take in what has arrived; return False if nothing has, and nothing has changed."""
        ledger, backend = self.ledger, self.backend
        # To deal comes first: nothing else finds out that the order has ended, or has failed.
        if not self._has_enough_dealt():
            backend.pump()
        # Extra work items may be at work beside an order that has ended: then there is something to wait for.
        if not ledger.num_in_order:
            if ledger.needs_attention:
                return True
            if not ledger.extras:
                raise self._own(EndOfStream())
        return backend.take_in(ledger.head, may_fail=self.may_fail)

    def _has_enough_dealt(self) -> bool:
        """Return True if there is nothing to deal, or it is not worth while: see `Backend.chunk`."""
        ledger, backend = self.ledger, self.backend
        num_dealt = len(ledger.work_items)
        room = ledger.credit - num_dealt
        return room <= 0 or (room < backend.chunk and num_dealt - len(ledger.ready) >= backend.low_water)

    def _has_work(self) -> bool:
        """Return whether there is something to do for a batch that is not there, though no report has come."""
        ledger = self.ledger
        return bool(ledger.extras or ledger.wanted) or not (self._has_enough_dealt() and self.backend.is_calm)

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something for `step` to do.

        Raises:
            ValueError: The pipeline was stopped: a backend that makes it now would have nobody to close it.
        """
        with self.lock:
            if self.is_stopped:
                raise ValueError("a stream that was stopped has no descriptor")
            self._is_polled = True
            return self.backend.fileno()

    @_locked
    def timeout_s(self) -> float | None:
        """Return the seconds after which `step` is to be called though nothing has arrived; None: it need not be."""
        return None if self.is_stopped else self.backend.timeout_s()

    def give_back(self, taken: tuple[WorkItem, Any]) -> None:
        """Have the following `step` hand this out again, which one has returned and nobody has got."""
        with self.lock:
            if not self.is_stopped:
                progress, self.ledger.needs_attention = self.ledger.progress, True
                progress.unclaimed = (taken, *progress.unclaimed)

    def next(self, loop: int = 0, deadline: float | None = None) -> Any:
        """Return the next batch, for those who may block: `step`, and a `wait` where nothing is there.

        Args:
            loop: As of `step`.
            deadline: When the wait ends, by `time.monotonic`; None: when there is a batch.

        Raises:
            NotYet: The deadline is over.
            Exception: As of `step`.
        """
        while True:
            taken = self.step(loop)
            if taken is not None:
                return taken[1]
            if deadline is not None and time.monotonic() >= deadline:
                raise NotYet
            self.wait(loop, deadline)

    def wait(self, loop: int = 0, deadline: float | None = None) -> None:
        """Sleep until `step` may have something to do; it tears nothing, wherever an interrupt strikes.

        With the lock, but where the backend lets go of it: other consumers wait for it meanwhile, and a `stop` ends the
        sleep before it closes any descriptor.
        """
        ledger = self.ledger
        try:
            with self.lock:
                # Another thread may have taken in what is ours between our `step` and here.
                if loop == self.loop and not (ledger.needs_attention or ledger.has_next):
                    started = _clock()
                    timeout_s = self._asked_timeout_s()
                    if deadline is not None:
                        left_s = max(0.0, deadline - time.monotonic())
                        timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
                    # To ask for the time may have dealt, and what cannot be dealt has its error in `ready` at once.
                    if not ledger.has_next:
                        self.backend.wait(ledger.head, timeout_s)
                    self.recorder.wait(ledger.num_batches, _clock() - started)
        finally:
            if self.lifetime.late_stop is not None and not self.lifetime.is_inside:
                self.lifetime.stop_late(self.stop)

    def _asked_timeout_s(self) -> float | None:
        """Ask the backend when it is to be called at the latest, for which it may take grants back and deal."""
        try:
            return self.backend.timeout_s()
        except BaseException:  # by assignments alone, as in `step`
            self.is_inconsistent = self.ledger.needs_attention = True
            raise

    def _take_rare(self, work_item: WorkItem, outcome: Outcome) -> Outcome | None:
        """Enter the end of a lane, leave out what failed, or raise the exception of a batch."""
        # Of a lane, and not of the stream, which ends when nothing can be dealt of any lane.
        if outcome.is_end:
            self.ledger.cursor.end_lane(work_item.lane, work_item.unit)
            return None
        # When it is its turn, and not when it came: the bound of errors is one of the consumer's epoch. An error in
        # dealing, which has no position, belongs to no batch that could be left out.
        if self.skips is not None and work_item.position >= 0:
            outcome = self.skips.sort_out(work_item._replace(epoch=self.epoch_of(work_item)), outcome)
            if outcome.is_plain:
                return outcome
        try:
            if outcome is not NOTHING_LEFT:
                outcome.open()
        except BaseException as error:
            if is_interrupt(error, outcome):
                raise
            # Counted like a batch, or it would come again for ever. If an interrupt strikes in the counting, the next
            # `step` raises the error that is kept here.
            self._failure, self.failed = error, work_item
            self._count(work_item)
            self._failure, self._is_raising = None, True
            raise
        if self.ledger.cursor.lane_share.is_endless:  # the epoch gets another batch for it
            self.ledger.progress.pass_over(work_item)
        else:
            self._count(work_item)
        return None

    def _count(self, work_item: WorkItem) -> None:
        """Count what is no batch."""
        if work_item.position >= 0 and self.ledger.count(work_item):
            self._fall_due()

    # -- What is rare

    def _attend(self) -> None:
        """Do what is to be done before a batch can be handed out; where it is not all done, attention stays needed."""
        ledger, lifetime = self.ledger, self.lifetime
        if lifetime.state is Life.FOREIGN:
            raise self._own(lifetime.refusal())
        if self.is_stopped:
            raise self._own(Stopped())
        # First, for it says whether the epoch is over; then what has not come, for all else is behind it.
        self._finish_count()
        if ledger.progress.unclaimed:
            return
        # Twice: an epoch end, which runs below, keeps what its hook has raised.
        self.raise_failure()
        if self.is_inconsistent:
            self._recover()
        if self._end.is_due:
            if not self._ends_epochs:
                raise self._own(EndOfStream())
            self.finish_epoch()
        self.raise_failure()
        if self._last_epoch is not None and ledger.progress.epoch > self._last_epoch:
            raise self._own(EndOfStream())
        ledger.needs_attention = False
        if ledger.is_closed:  # by the stop of another thread, or of a handler, since we looked
            ledger.needs_attention = True

    def _own(self, error: BaseException) -> BaseException:
        """Return an exception that is about to be raised on purpose: it is no interrupt."""
        self._is_raising = True
        return error

    def raise_failure(self) -> None:
        """Raise what belongs to no work item, if it was not raised yet: what an epoch end has raised."""
        ledger = self.ledger
        if ledger.failure is not None:
            failure, ledger.failure = ledger.failure, None
            raise self._own(failure)

    # -- Interrupts

    def _finish_count(self) -> None:
        """Finish the counting of a batch that an interrupt has broken off; may be repeated."""
        work_item = self._half_counted
        if work_item is not None:
            if self.ledger.recount(work_item) and not self._end.is_due:
                self._fall_due()
            self._half_counted = None

    def _recover(self) -> None:
        """Discard the work in flight and roll back to the last place that was counted; tried again until it is done."""
        ledger = self.ledger
        self._finish_count()
        self._is_raising = True  # what cannot be computed again is an error
        # Before the ledger goes back: a bare iterator says by an error that its elements are lost.
        self.backend.reset()
        if self._end.is_due:
            ledger.stand_before(ledger.progress.epoch)
        else:
            ledger.go_to(ledger.progress.counted())
            self.backend.pump()
        self._is_raising = self.is_inconsistent = False

    def is_failure(self, error: BaseException) -> bool:
        """Return whether what `step` has raised is a failure of the stream, and not what a signal handler raised."""
        return self._has_failed and not is_of_handler(error)

    # -- Epochs

    def _fall_due(self) -> None:
        self.recorder.mark(f"epoch {self.ledger.progress.epoch - 1} ends")
        if self._end.fall_due(self.finish_epoch) or self._last_epoch is not None:
            self.ledger.needs_attention = True

    @_locked
    def finish_epoch(self) -> None:
        """Run the epoch end if it is due, and begin the next epoch; what it raises is kept for the next `step`."""
        end = self._end
        # An unclaimed batch is one of the epoch that would end here: that goes first.
        if not end.is_due or self.is_stopped or self.ledger.progress.unclaimed:
            return
        # Else its thread might wake behind this, and end the next epoch sooner than it should.
        end.cancel_timer()
        try:
            end.run_hook()
            if not self.is_stopped:
                self.is_inconsistent = True  # until the epoch is open
                self.backend.refresh()  # workers begin the next epoch from the source's present state
                self.ledger.cursor.open_epoch()
                self.backend.pump()
                self.is_inconsistent = end.is_due = False
        except BaseException as error:
            # Not raised here: the timer's thread has no caller.
            self.ledger.fail(error)

    @_locked
    def is_outdated(self) -> bool:
        """Return whether what is computed ahead, or the workers' source, may be older than the source is now.

        Raises:
            Exception: What the length of the source raised, or its pickling.
        """
        self.finish_epoch()  # its hook may change the source
        try:
            return self.ledger.cursor.has_new_length() or self.backend.is_stale()
        except Exception as error:
            # Both only ask, and leave all as it is: else the next loop would end the workers and begin anew.
            self._is_raising = not is_of_handler(error)
            raise

    def begin_loop(self) -> None:
        """Have batches go to another loop, with the next number, and free whoever waits for one in those before."""
        with self.lock:  # safe to interrupt: a number is left out
            self.loop += 1
        self.backend.wake()
        self._wake_watchers()

    def _wake_watchers(self) -> None:
        for watcher in self.watchers:
            watcher.wake()

    @_locked
    def restart_at(self, place: Place, *, refresh: bool = False) -> None:
        """Drop all that is under way and go to another place in the order; ``refresh``: the source may have changed."""
        if self.is_stopped:
            raise self._own(Stopped())
        ledger = self.ledger
        self._finish_count()
        # What has not come is dropped with the rest, and the place that is asked for does not count it.
        ledger.progress.unclaimed = ()
        self.finish_epoch()
        ledger.resume()
        # What an interrupt has left inconsistent is not to be asked which work items it has: `reset` ends all of it.
        if self.is_inconsistent:
            ledger.go_to(place)
            self.backend.reset(anew=True)
        else:
            self.backend.cancel()
        if refresh:
            self.backend.refresh()
        if not self.is_inconsistent:
            ledger.go_to(place)
        self.backend.pump()
        self.is_inconsistent = False

    @_locked
    def begin_epoch(self, epoch: int) -> None:
        """Have the epoch begin where an endless stream is now; what is computed ahead stays."""
        self._finish_count()
        if not (self.is_stopped or self.is_inconsistent or self.ledger.progress.unclaimed):
            self.ledger.enter(epoch)

    @_locked
    def hand_out(self, epoch: int) -> None:
        """Have `step` end behind this epoch, which has a length, and not behind the one before."""
        ledger = self.ledger
        self.recorder.mark(f"epoch {epoch} begins")
        self._last_epoch = epoch
        ledger.forget_undealt()
        ledger.needs_attention = True  # what has ended with the epoch before has not any more
        if not self.is_stopped:
            self.backend.pump()
        progress = ledger.progress
        if progress.epoch == epoch and self.length_of(epoch, -1) == progress.position:
            ledger.enter(epoch + 1)  # all of it was handed out before, and nobody will count its last batch
            self._fall_due()

    def bound_epoch(self, epoch: int, *, goes_on: bool) -> None:
        """Have nothing computed of the epochs behind this one, unless it ``goes_on``, and nothing is against that.

        What an order is drawn from is not asked before its epoch is; and if nobody can tell whether the source has
        changed since, no batch of a later epoch is computed before somebody asks for one.
        """
        cursor = self.ledger.cursor
        is_known = self.backend.tells_changes and not cursor.is_drawn
        cursor.last_epoch = None if goes_on and is_known else epoch

    def pause(self, *, waits: bool = True) -> None:
        """Deal nothing until `resume`, and wait until nothing is at work; what is ready stays.

        Args:
            waits: False: what is at work goes on.
        """
        self._stop_routing()
        while waits and (head := self._oldest_at_work()) is not None:
            with self.lock:  # not `_locked`: an interrupt of a sleep tears nothing
                if not self.is_stopped:
                    timeout_s = self._asked_timeout_s()
                    if head in self.ledger.at_work():
                        self.backend.wait(head, timeout_s)

    @_locked
    def _stop_routing(self) -> None:
        self.ledger.pause()

    @_locked
    def _oldest_at_work(self) -> int | None:
        """Take in what has come; return the oldest work item at work, the one that a `batch_timeout` can end.

        It is asked again before each wait: in the meantime another thread may take, stop, or go elsewhere.
        """
        ledger = self.ledger
        while not self.is_stopped and ledger.failure is None and (at_work := ledger.at_work()):
            head = min(at_work)
            if not self.backend.take_in(head):
                return head
        return None

    @_locked
    def resume(self) -> None:
        """Go on after a `pause`, and with all of the credit."""
        self.ledger.resume()
        if not self.is_stopped:
            self.backend.pump()

    # -- Batches that are computed again

    @_locked
    def want(self, epoch: int, positions: Iterable[int]) -> None:
        """Have positions computed beside the order, of the epoch that is open or was handed out last.

        Raises:
            LookupError: There is none of these, or it is not kept; those before it are computed.
        """
        try:
            for position in positions:
                self.ledger.want(epoch, position)
        except LookupError:
            self._is_raising = True
            raise
        finally:
            if not self.is_stopped:
                self.backend.pump()

    def settle_by(self, settle: Callable[[WorkItem, Outcome], bool]) -> None:
        """Have this called with what is no plain batch, before it is taken; False: not now."""
        self.ledger.settle = settle

    def forget_wanted(self) -> None:
        """Nobody wants the extra ones that were not dealt."""
        self.ledger.wanted.clear()

    @property
    def has_wanted(self) -> bool:
        """True if there are extra ones to come."""
        return bool(self.ledger.extras or self.ledger.wanted)

    @_locked
    def step_extra(self) -> tuple[WorkItem, Outcome] | None:
        """Return the next outcome beside the order with its work item, None if it is not there. Never waits."""
        if self.is_stopped:
            return None
        if self.is_inconsistent:
            self._recover()
        ledger = self.ledger
        if ledger.wanted:
            self.backend.pump()
        while (taken := ledger.take_extra()) is None and ledger.extras:
            if not self.backend.take_in(ledger.extras[0], may_fail=self.may_fail):
                break
        return taken

    # -- Anybody

    @property
    def is_paused(self) -> bool:
        """True from a `pause` to the `resume`."""
        return not self.ledger.allowance

    def length_of(self, epoch: int, default: int | None = None) -> int | None:
        """Return the number of batches of the epoch that is open; None: it has no end, or nobody knows."""
        length = self.ledger.cursor.length_of(epoch)
        return default if length is None else length

    @property
    def num_batches(self) -> int:
        """Batches that were counted."""
        return self.ledger.num_batches

    @property
    def num_taken(self) -> int:
        """Batches that have come to the consumer."""
        return self.ledger.num_taken

    def is_stale(self) -> bool:
        """Return whether the workers' source differs from the caller's, or may do so."""
        return self.backend.is_stale()

    def has_unsharded(self) -> bool:
        """Return whether each of several lanes has ended, and its stream never asked which one it is."""
        return len(self.ledger.unsharded) == self.ledger.cursor.num_lanes > 1

    def place(self) -> Place:
        """Return the place where a stream goes on: behind all that has come to its consumer."""
        return self.ledger.progress.place()

    @property
    def epoch(self) -> int:
        """The epoch up to whose batches is counted; unclaimed ones may be of the one before."""
        return self.ledger.progress.epoch

    def epoch_of(self, work_item: WorkItem) -> int:
        """Return the epoch of a batch that is being handed out, or was just counted."""
        ledger = self.ledger
        if not ledger.cursor.lane_share.is_endless:
            return work_item.epoch
        progress = ledger.progress
        has_ended_it = work_item is ledger.latest and not progress.position
        return progress.epoch - has_ended_it

    @property
    def is_endless(self) -> bool:
        """True if the epoch that is computed never ends."""
        return self.ledger.cursor.is_endless

    @_locked
    def look(self) -> None:
        """Take in what has arrived, for nobody."""
        if self.is_stopped:
            return
        if self.is_inconsistent:
            self._recover()
        self.backend.take_in(None, may_fail=False)

    @property
    def is_full(self) -> bool:
        """True if all that may be computed ahead is there, or waits for room: nothing goes on before some is taken."""
        ledger = self.ledger
        return bool(ledger.num_in_order) and (self.backend.has_waiting or not ledger.at_work())

    @property
    @_locked
    def num_ready(self) -> int:
        """Batches that are computed and not handed out."""
        if self.is_stopped or self.is_inconsistent:
            return 0
        self.backend.pump()
        self.backend.take_in(None, may_fail=False)
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
        self.lock = RLock()
        self.lifetime.disown(self.lock)
        self.ledger.needs_attention = True

    def stop(self, timeout_s: float | None = None) -> None:
        """End the stream: frees whoever waits, ends the workers. Idempotent, from any thread.

        Raises:
            StopTimeout: Workers outlived the deadline.
        """
        if not self.lifetime.ask_to_stop():
            return
        # Before the wake-ups: who wakes finds it closed, and does not wait again.
        self.ledger.close()
        self.backend.wake()
        self._wake_watchers()
        # A hook that stops its own stream is inside of the lock as well, but nothing of ours is half done then.
        if self.lifetime.is_inside and not self._end.is_calling:
            self.lifetime.late_stop = (timeout_s,)  # a signal handler; see NOTE [ Interrupts ]
        else:
            self.lifetime.stop(timeout_s, self._end.cancel_timer, self._end_workers)

    def _end_workers(self, timeout_s: float | None) -> None:
        self.ledger.work_items.clear()
        self.ledger.extras.clear()
        progress = self.ledger.progress
        progress.unclaimed = tuple((work_item, None) for work_item, _ in progress.unclaimed)  # they have not come
        self.backend.stop(timeout_s)
