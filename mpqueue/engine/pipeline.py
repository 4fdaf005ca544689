"""The engine's core: one stream of batches, driven by non-blocking steps.

    step ------> a batch with its work item, or None if it is not ready; raises an error in place of a batch
    fileno ----> readable when `step` has something to do
    timeout_s -> the seconds after which `step` is due even without a report, or None for no limit

An event loop, such as a server's, waits for the descriptor and the timeout and calls `step`. Other callers use `next`,
which alternates `step` and `wait`. No feeder thread is needed: `step` takes the outcomes that have arrived and deals
more work items, and workers run ahead on the credit that they hold.

*Who owns what.* The `Ledger`, which the backend shares, holds the dealt work items and their outcomes. The `Backend`
runs work items in worker processes, in threads, or in the caller's `step` itself. It pulls them from `Ledger.deal`
while there is credit. One lock orders all threads that may call: several consumers, a `stop` from another thread, the
one-shot thread of an epoch end. User code that is called here (`on_epoch_end`) runs under the lock and may call back.

*Cancellation.* A `step` that returned None needs no cleanup, so a caller that waits for `fileno` may give up at any
time. A batch that `step` returned counts as delivered, so pass it on without waiting. A caller that cannot do that
`holds` the batch, see `mpqueue.engine.deliveries`.

*Several consumers.* Several threads and tasks may call `step`. Each batch goes to one consumer. If a consumer has
processed reports for the others, `fileno` becomes readable again. A stop makes `fileno` readable and then closes it.
The backend owns the descriptor: do not read or close it.

# NOTE [ Interrupts ]
A signal handler may raise in any line of the main thread (Ctrl-C, `sys.exit`, a timeout by SIGALRM). If its exception
leaves a call, the run stands at the last batch that a call has returned (`Progress.place`): the next `step` drops the
work in flight and computes it again. So no line has to be safe against an exception. Three rules:

1. An exception that we raise on purpose is named by `_expected`. After any other one, the pipeline `is_inconsistent`,
   and the next `step` restarts it at the place of its user. An exception in `wait` changes nothing.
2. A batch counts when its user gets it. Whoever works on a batch on the way to its user holds it, and counts it as
   returned by assignments, as its last statements (`mpqueue.engine.deliveries`). CPython (3.11 to 3.13) runs handlers
   where a function begins, at a backward jump and after a call of C code: not between two assignments, and not at the
   return from a Python function.
3. A `stop` by a handler inside of our own step waits for the end of that step, which may be using a descriptor.

An iterator yields its elements only once: if some may be lost, every `step` raises a RuntimeError that reports the
loss, until the next loop begins. Code of the source that runs in the main thread is told from a handler that raises in
it by `mpqueue.system.signals.interrupts.is_interrupt`.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from mpqueue.engine.backend import Backend, EndOfStream, NotYet, Stopped
from mpqueue.engine.deliveries import Delivery
from mpqueue.engine.epoch_end import EpochEnd
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.lifetime import Life, Lifetime
from mpqueue.engine.outcomes import Outcome, Result, Unreadable
from mpqueue.engine.skips import NOTHING_LEFT, LeftOut, Skips
from mpqueue.plan.position.cursors import Place, WorkItem
from mpqueue.plan.position.lanes import BEGINNING, LaneStart
from mpqueue.system.processes import forked
from mpqueue.system.signals.exceptions import matches
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.signals.locks import RLock
from mpqueue.telemetry.recorder import Recorder

_P = ParamSpec("_P")
_T = TypeVar("_T")
_clock = time.perf_counter_ns
_LOOK_S = 1.0  # between looks at a time limit: a wait that takes longer shows that this process was stopped


class DeliveredBatch(NamedTuple):
    """A batch that a user has got.

    Attributes:
        work_item: Its work item.
        epoch: Its epoch.
        position: Its position in the epoch.
        skipped: Its samples that were left out because they raised.
        start: For a stream: the newest snapshot of its lane that is not after it.
        step: The number of batches that the loops of a loader returned before it; `mpqueue.loader.run` sets
            this field.
    """

    work_item: WorkItem
    epoch: int
    position: int
    skipped: LeftOut = LeftOut()
    start: LaneStart = BEGINNING
    step: int = 0


class Bar(Protocol):
    """A display of an epoch's progress: a `mpqueue.loader.progress.ProgressBar`."""

    def step(self, work_item: WorkItem) -> None:
        """Show one more batch, before it is counted."""

    def close(self) -> None:
        """Leave the bar as it is."""


def _locked(method: Callable[Concatenate["Pipeline", _P], _T]) -> Callable[Concatenate["Pipeline", _P], _T]:
    """Wrap a method in the lock and in the interrupt handling of `Pipeline.step`."""
    # Not a context manager: an interrupt in the code of `contextlib`, right after the entry, would leave the lock held
    # for as long as its traceback exists.

    @functools.wraps(method)
    def call(self: "Pipeline", /, *args: _P.args, **options: _P.kwargs) -> _T:
        try:
            with self.lock:
                try:
                    if self.lifetime.state is Life.FOREIGN:
                        raise self._expected(self.lifetime.refusal())
                    return method(self, *args, **options)
                except BaseException as error:
                    self._has_failed, self._own = error is self._own, None
                    if not self._has_failed:
                        self.is_inconsistent = self.ledger.needs_attention = True
                    raise
        finally:
            self.lifetime.run_deferred_stop(self.stop)

    return call


def _starting(method: Callable[Concatenate["Pipeline", _P], _T]) -> Callable[Concatenate["Pipeline", _P], _T]:
    """Time a method as a part of an epoch's start, including its wait for the lock."""

    @functools.wraps(method)
    def call(self: "Pipeline", /, *args: _P.args, **options: _P.kwargs) -> _T:
        with self.recorder.starts.part("order"):
            return method(self, *args, **options)

    return call


class Pipeline:
    """One stream of batches from one source.

    Args:
        ledger: The work items; the backend has the same ledger.
        epoch_end: Called once per epoch, after its last batch; None for no call.
        timed_epoch_end: Run a due epoch end after 0.1 s without a call.
        ends_epochs: `step` runs a due epoch end. Otherwise it raises EndOfStream until `finish_epoch` was called.
        requests_epochs: Epochs follow each other without `hand_out`: the first `step` of an epoch requests it.
        skips: Records the errors of the source, which are skipped; if None, they are raised.
        recorder: Records how long the consumer waits; the backend has the same recorder.

    Attributes:
        bar: The progress bar, or None.
        lock: Held around every call of the backend except `start` and `wake`.
        loop: Number of the loop that receives batches; callers with an earlier number get `Stopped`.
        may_fail: No memory will be freed while the next batch is awaited, so that it may fail for lack of memory.
        failed: The last work item that made `step` raise.
        holds: The present loop takes batches ahead of its user: `step` adds each of them to `Progress.deliveries`.
        is_inconsistent: An interrupt may have left a change half done: the next `step` drops the work in flight and
            restarts at the place of the user.
        skips: The skipped errors, or None if errors are raised.
        recorder: The recorder.
    """

    backend: Backend  # from `start` on

    def __init__(
        self,
        ledger: Ledger,
        *,
        epoch_end: Callable[[], Any] | None = None,
        timed_epoch_end: bool = True,
        ends_epochs: bool = True,
        requests_epochs: bool = False,
        skips: Skips | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.ledger = ledger
        self.lock = RLock()
        self.loop = 0
        self.may_fail = True
        self.failed: WorkItem | None = None
        self.holds = False
        self.recorder = recorder or Recorder()
        self.bar: Bar | None = None
        self.lifetime = Lifetime(self.lock)
        self.skips = skips
        self.is_inconsistent = False
        self._own: BaseException | None = None  # the exception in flight, if it was raised on purpose
        self._has_failed = False  # the last exception was raised on purpose
        self._is_polled = False  # a caller waits for `fileno`
        self._last_epoch: int | None = None  # no batch after this epoch is delivered
        self._ends_epochs, self._requests_epochs = ends_epochs, requests_epochs
        self._end = EpochEnd(epoch_end, timed=timed_epoch_end)
        forked.watch(self)

    def start(self, backend: Backend) -> None:
        """Start the stream with a backend.

        Raises:
            Exception: The exception that `Backend.start` raised.
        """
        self.backend = backend
        self._requests_epochs = self._requests_epochs and backend.may_change_unseen
        if self._requests_epochs:
            self.ledger.cursor.last_epoch = self.ledger.progress.epoch
        backend.start()
        self.recorder.begin()
        self.lifetime.state = Life.RUNNING

    # -- The consumer's side

    def step(self, loop: int = 0, *, looks: bool = True) -> tuple[WorkItem, Any] | None:
        """Return the next batch with its work item, or None if it is not ready. Never blocks.

        Args:
            loop: The value of `loop` when the caller's loop began; 0 if there is only one loop.
            looks: False if the caller calls `look` whenever `fileno` is readable, so that `step` can skip the poll.

        Raises:
            EndOfStream: The stream is exhausted, or the next epoch must be opened first.
            Stopped: The pipeline was stopped, or another loop was started.
            RuntimeError: This process was forked from the one that owns the pipeline.
            Exception: The exception that the source raised for this batch, or that its epoch end raised.
        """
        ledger, backend, taken = self.ledger, self.backend, None
        try:
            with self.lock:
                try:
                    # CPython 3.11 attributes an exception at a backward jump to the instruction before the loop:
                    # without this assignment inside the `try`, a handler could leave the lock locked.
                    poll_was_empty: bool | None = None  # the last poll brought no report; None: no poll yet
                    while True:
                        # Under the lock: otherwise the batch could belong to another loop.
                        if loop != self.loop:
                            raise self._expected(Stopped())
                        # One flag for everything rare (a stop, an epoch's end, the state after an interrupt), so that a
                        # batch costs only one test.
                        if ledger.needs_attention:
                            self._attend()
                        # First the ready outcomes: polling worker processes is a system call, and often several of them
                        # have reported at once.
                        item = ledger.take()
                        if item is None:
                            # Once more after a poll without a report: a work item that could not be dealt has its error
                            # in `ready` without a report. More polls would be a busy wait.
                            if poll_was_empty or not (looks or self._has_work()):
                                break
                            poll_was_empty = not self._look()
                            continue
                        work_item, outcome = item
                        if not outcome.is_plain:
                            left = self._take_rare(work_item, outcome)
                            if left is None:
                                continue
                            outcome = left
                        # Before the batch is opened: workers get their next grants while it is rebuilt here.
                        if ledger.credit - len(ledger.work_items) >= backend.chunk:
                            ledger.num_in_hand = 1  # otherwise one work item too many of the last epoch is dealt
                            backend.pump()
                            ledger.num_in_hand = 0
                        try:
                            batch = outcome.open()
                        except Unreadable as unreadable:  # an error of the batch: computing it again would not help
                            which = f"index {work_item.unit} of epoch {work_item.epoch}"
                            outcome = Result.failed(unreadable.settle(which))
                        else:
                            if self.bar is not None:
                                self.bar.step(work_item)
                            is_last, taken = ledger.count(work_item), (work_item, batch)
                            if is_last:
                                self._mark_due()
                            if self.holds:
                                self._hold(work_item)
                            break
                        self._take_rare(work_item, outcome)
                    if poll_was_empty is not None and self._is_polled and ledger.has_next:
                        # Other consumers' outcomes have arrived as well, and their descriptor was read here.
                        backend.wake()
                except BaseException as error:
                    self._has_failed, self._own = error is self._own, None
                    if not self._has_failed:
                        self.is_inconsistent = self.ledger.needs_attention = True
                    raise
            if self.lifetime.deferred_stop is not None:  # outside the lock: inside, `stop` would only set its mark
                self.lifetime.run_deferred_stop(self.stop)
        except BaseException as error:
            if taken is not None:  # it was counted
                ledger.progress.interrupted = taken[0]
                self.is_inconsistent, ledger.needs_attention, self._has_failed = True, True, False
            self.lifetime.run_deferred_stop(self.stop)
            if self.bar is not None and matches(error, EndOfStream, Stopped):
                self.bar.close()
            raise
        if taken is not None and not self.holds:  # the user gets it: assignments alone from here on
            progress, skips = ledger.progress, self.skips
            progress.returned = work_item, progress.epoch, progress.position, skips and skips.latest
        return taken

    def _hold(self, work_item: WorkItem, error: BaseException | None = None) -> None:
        """Record that the front end of this loop has a batch, or an error in its place."""
        progress, skips = self.ledger.progress, self.skips
        record = work_item, progress.epoch, progress.position, skips and skips.latest
        self.ledger.hold(Delivery(record, error))

    def _look(self) -> bool:
        """Deal work items and process the reports that have arrived; return whether anything has changed."""
        ledger, backend = self.ledger, self.backend
        # Deal first: only that reveals the end or a failure of the order.
        if not self._has_enough_dealt():
            backend.pump()
        if not ledger.work_items:
            if ledger.needs_attention:
                return True
            raise self._expected(EndOfStream())
        return backend.take_in(ledger.head, may_fail=self.may_fail)

    def _has_enough_dealt(self) -> bool:
        """Return True if there is too little to deal to be worth its cost: see `Backend.chunk`."""
        ledger, backend = self.ledger, self.backend
        num_dealt = len(ledger.work_items)
        room = ledger.credit - num_dealt
        return room <= 0 or (room < backend.chunk and num_dealt - len(ledger.ready) >= backend.low_water)

    def _has_work(self) -> bool:
        """Return whether something can be done for the next batch without a new report."""
        return not (self._has_enough_dealt() and self.backend.is_calm)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `step` has something to do.

        Raises:
            ValueError: The pipeline was stopped.
        """
        with self.lock:
            # After a stop, no one would close a descriptor that the backend creates now.
            if self.is_stopped:
                raise ValueError("a stopped stream has no descriptor")
            self._is_polled = True
            return self.backend.fileno()

    @_locked
    def timeout_s(self) -> float | None:
        """Return the seconds after which `step` is due even without a report, or None for no limit."""
        if self.is_stopped:
            return None
        timeout_s = self.backend.timeout_s()
        # As in `wait`: since the caller's `step`, another caller may have processed the report of its batch, or the
        # line above may have dealt. Neither makes the descriptor readable.
        return 0.0 if self.ledger.needs_attention or self.ledger.has_next else timeout_s

    def next(self, loop: int = 0, deadline: float | None = None) -> Any:
        """Block until the next batch is ready, and return it.

        Args:
            loop: As for `step`.
            deadline: The time limit by `time.monotonic`; None for no limit.

        Raises:
            NotYet: The deadline has passed.
            Exception: As for `step`.
        """
        while True:
            taken = self.step(loop)
            if taken is not None:
                return taken[1]
            if deadline is not None and time.monotonic() >= deadline:
                raise NotYet
            deadline = self.wait(loop, deadline)

    def take(self, loop: int = 0, deadline: float | None = None) -> tuple[Delivery, Any] | None:
        """Block until the next batch is ready, and return it behind its delivery, for a loop that `holds` batches.

        At the end of the epoch, return None while anything is held: the end is not delivered yet.

        Args:
            loop: As for `step`.
            deadline: As for `next`.

        Raises:
            Exception: As for `next`.
        """
        while True:
            try:
                taken = self.step(loop)
            except EndOfStream:
                if not self.ledger.progress.has_missing:
                    raise
                return None
            if taken is not None:
                return self.ledger.progress.deliveries[-1], taken[1]
            if deadline is not None and time.monotonic() >= deadline:
                raise NotYet
            deadline = self.wait(loop, deadline)

    def restart_soon(self) -> None:
        """Make the next `step` drop the work in flight, and what is held, and restart at the place of the user."""
        self.is_inconsistent = self.ledger.needs_attention = True

    def pass_on(self, delivery: Delivery) -> bool:
        """Record that the user has got a batch that is held or lent; return False if it was dropped before."""
        progress = self.ledger.progress
        left = progress.without(delivery)
        if len(left) == len(progress.deliveries):
            return False
        progress.deliveries, progress.returned = left, delivery.record
        return True

    def drop_error(self, error: BaseException) -> None:
        """Record that the user gets an error that is held."""
        progress = self.ledger.progress
        progress.deliveries = tuple(each for each in progress.deliveries if each.error is not error)

    def end_soon(self) -> None:
        """End the epoch in 0.1 s, if the user has got all of its batches by then."""
        if self._end.is_due:
            self._start_timer()

    @_locked
    def _start_timer(self) -> None:
        self._end.start_timer(self._finish_ahead)

    def wait(self, loop: int = 0, deadline: float | None = None) -> float | None:
        """Block until `step` may have something to do; an interrupt of this method changes nothing.

        The lock is held, except where the backend releases it.

        Returns:
            The deadline, moved by the time in which this process was stopped (SIGSTOP, Ctrl-Z), as its workers mostly
            were, too.
        """
        # Other consumers wait for the lock in the meantime, and share the reports that this thread waits for. A `stop`
        # needs the lock before it closes any descriptor, so it wakes this thread first.
        ledger = self.ledger
        try:
            with self.lock:
                # Between our `step` and this line, another thread may have processed the report of our batch.
                if loop == self.loop and not (ledger.needs_attention or ledger.has_next):
                    started = _clock()
                    timeout_s = self._backend_timeout_s()
                    before = time.monotonic()
                    if deadline is not None:
                        left_s = min(_LOOK_S, max(0.0, deadline - before))
                        timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
                    # The call for the timeout may have dealt, and an error in dealing is in `ready` at once.
                    if not ledger.has_next:
                        self.backend.wait(ledger.head, timeout_s)
                    if deadline is not None and timeout_s is not None:
                        late_s = time.monotonic() - before - timeout_s
                        deadline += late_s if late_s > _LOOK_S else 0.0
                    self.recorder.wait(ledger.num_batches, _clock() - started)
        finally:
            self.lifetime.run_deferred_stop(self.stop)
        return deadline

    def _backend_timeout_s(self) -> float | None:
        """Return the backend's timeout. For that, the backend may take grants back and deal work items."""
        try:
            return self.backend.timeout_s()
        except BaseException:
            self.is_inconsistent = self.ledger.needs_attention = True
            raise

    def _take_rare(self, work_item: WorkItem, outcome: Outcome) -> Outcome | None:
        """Process the end of a lane, skip an error, or raise the exception of a batch."""
        # The end of a lane, not of the stream: the stream ends when no lane has anything to deal.
        if outcome.is_end:
            self._end_lane(work_item, outcome)
            return None
        # Skip in the order of delivery, not of arrival: the maximum number of errors applies to the consumer's epoch.
        # An error in dealing has no position, and belongs to no batch that could be skipped.
        if self.skips is not None and work_item.position >= 0:
            outcome = self.skips.resolve(work_item._replace(epoch=self.epoch_of(work_item)), outcome)
            if outcome.is_plain:
                return outcome
        try:
            if outcome is not NOTHING_LEFT:
                outcome.open()
        except BaseException as error:
            if outcome.is_own(error):
                # Counted like a batch, otherwise it would be raised forever.
                if work_item.position >= 0:
                    self._count_empty(work_item)
                    if self.holds:
                        self._hold(work_item, error)
                self.failed, self._own = work_item, error
            raise
        if work_item.lane >= 0:  # the epoch gets another batch instead, so that numbers of batches have no gaps
            self.ledger.parts.drop(work_item)
            self.ledger.progress.count_skipped(work_item)
        elif work_item.position >= 0:
            self._count_empty(work_item)
        return None

    def _count_empty(self, work_item: WorkItem) -> None:
        """Count an outcome that is not a batch."""
        ledger, progress = self.ledger, self.ledger.progress
        if ledger.count(work_item, is_empty=True):
            # After an interrupt of the next call, it is counted again, so that the epoch ends.
            progress.interrupted, ledger.num_empty = work_item, ledger.num_empty - 1
            self._mark_due()
            progress.interrupted, ledger.num_empty = None, ledger.num_empty + 1

    def _end_lane(self, work_item: WorkItem, outcome: Outcome) -> None:
        """Process the end of a lane, and the samples left out after its last element. It counts as no batch."""
        left: Outcome = NOTHING_LEFT
        if self.skips is not None and outcome.is_partial:
            left = self.skips.resolve(work_item._replace(epoch=self.epoch_of(work_item)), outcome)
        self.ledger.cursor.end_lane(work_item.lane, work_item.unit)
        if left is not NOTHING_LEFT:  # too many errors, which belong to no batch
            try:
                left.open()
            except BaseException as error:
                if left.is_own(error):
                    self._own = error
                raise

    # -- Rare events

    def _attend(self) -> None:
        """Do the rare work that is due before a batch; the flag remains set if some of it is left."""
        ledger, lifetime = self.ledger, self.lifetime
        if lifetime.state is Life.FOREIGN:
            raise self._expected(lifetime.refusal())
        if self.is_stopped:
            raise self._expected(Stopped())
        ledger.forget_epochs()
        # Called twice: an epoch end, which runs below, keeps the exception of its hook.
        self._raise_failure()
        if self.is_inconsistent:
            self._recover()
        if self._end.is_due:
            if not self._ends_epochs:
                raise self._expected(EndOfStream())
            self.finish_epoch()
        self._raise_failure()
        if self._last_epoch is not None and ledger.progress.epoch > self._last_epoch:
            raise self._expected(EndOfStream())
        if self._requests_epochs and ledger.cursor.last_epoch != ledger.progress.epoch:
            ledger.cursor.last_epoch = ledger.progress.epoch
            self.backend.pump()
        if self.recorder.starts.is_pending:
            self.recorder.starts.settle(ledger.progress.epoch)
        ledger.needs_attention = False
        # Checked after the flag was cleared: another thread, or a handler, may have stopped the stream since the test.
        if ledger.is_closed:
            ledger.needs_attention = True

    def _expected(self, error: BaseException) -> BaseException:
        """Name an exception that is raised on purpose, so that it does not count as an interrupt, and return it."""
        self._own = error
        return error

    def _raise_failure(self) -> None:
        """Raise an error that belongs to no work item, such as an epoch end's error, unless it was raised already."""
        ledger = self.ledger
        if (failure := ledger.failure) is not None:
            self._own, ledger.failure = failure, None
            raise failure

    # -- Interrupts

    def _recover(self) -> None:
        """Drop the work in flight, and restart at the place of the user; repeated until it succeeds.

        Raises:
            RuntimeError: Elements of an iterator, which cannot be computed again, may be lost.
            Exception: New workers cannot be started.
        """
        ledger, place = self.ledger, self.ledger.progress.place()
        if place.epoch < ledger.progress.epoch:
            self._end.forget()
        ledger.move(place)
        try:
            self.backend.reset()
        except BaseException as error:
            if not is_interrupt(error):
                self._own = error
            raise
        if self._end.is_due:
            ledger.stand_before(ledger.progress.epoch)
        else:
            ledger.go_to(place)
            self.backend.pump()
        self.is_inconsistent = False

    def is_failure(self, error: BaseException) -> bool:
        """Return whether the exception from `step` is a failure of the stream, rather than a signal handler's."""
        return self._has_failed and not is_interrupt(error)

    # -- Epochs

    def _mark_due(self) -> None:
        self.recorder.mark(f"epoch {self.ledger.progress.epoch - 1} ends")
        is_due = self._end.mark_due()
        # The user has not got what is held. When it gets the last batch, `end_soon` starts the timer.
        if is_due and not self.holds:
            self._end.start_timer(self._finish_ahead)
        self.ledger.needs_attention = True

    @_locked
    def _finish_ahead(self) -> None:
        """Run the epoch end in a thread, while the consumer does something else."""
        with self.recorder.starts.ahead():
            self.finish_epoch()

    @_locked
    def finish_epoch(self) -> None:
        """Run the epoch end if it is due, and begin the next epoch; its exception is kept for the next `step`."""
        end = self._end
        # A batch that is held belongs to the epoch that would end here.
        if not end.is_due or self.is_stopped or self.ledger.progress.has_missing:
            return
        # Otherwise its thread might wake later, and end the next epoch too early.
        end.cancel_timer()
        starts = self.recorder.starts
        try:
            with starts.part("hook"):
                end.run_hook()
            if not self.is_stopped:
                self.is_inconsistent = True  # until the epoch is open
                with starts.part("order"):
                    # Workers compute the next epoch from the current state of the source.
                    self.backend.refresh()
                    self.ledger.cursor.open_epoch()
                    self.backend.pump()
                self.is_inconsistent = end.is_due = False
        except BaseException as error:
            if is_interrupt(error):
                raise
            # Not raised here, because the timer's thread has no caller.
            self.ledger.fail(error)

    @_starting
    @_locked
    def is_outdated(self) -> bool:
        """Return whether the computed batches, or the workers' source, may be older than the source is now.

        Raises:
            Exception: The exception that the length of the source, or its pickling, raised.
        """
        self.finish_epoch()  # its hook may change the source
        self.ledger.forget_epochs()
        try:
            return self.ledger.cursor.has_new_length() or self.backend.is_stale()
        except BaseException as error:
            # Both calls only read. If the error counted as an interrupt, the next loop would restart the workers.
            if not is_interrupt(error):
                self._own = error
            raise

    def begin_loop(self) -> None:
        """Deliver batches to another loop, with the next number, and unblock consumers of earlier loops."""
        with self.lock:  # an interrupt is harmless: it only skips a number
            self.loop += 1
        self.backend.wake()

    @_starting
    @_locked
    def restart_at(self, place: Place, *, refresh: bool = False) -> None:
        """Drop the work in flight and go to another place in the order; ``refresh``: the source may have changed."""
        if self.is_stopped:
            raise self._expected(Stopped())
        ledger = self.ledger
        if place.epoch < ledger.progress.epoch:
            self._end.forget()
        ledger.move(place)
        self.finish_epoch()
        ledger.resume()
        # After an interrupt, the backend's records of its work items cannot be trusted: `reset` discards them all.
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
        ledger.needs_attention = True  # settles the times of this start
        self._end_delivered()

    @_locked
    def begin_epoch(self, epoch: int) -> None:
        """Begin the epoch at the current place of an endless stream; batches computed ahead remain valid.

        The place does not change if they are invalid; then call `restart_at`.
        """
        # A loop that was left early has computed batches of this epoch before it was requested.
        is_early = self.backend.may_change_unseen and bool(self.ledger.work_items)
        if not (self.is_stopped or self.is_inconsistent or self.ledger.progress.has_missing or is_early):
            self.ledger.enter(epoch)

    @_starting
    @_locked
    def hand_out(self, epoch: int) -> None:
        """Make `step` end after this epoch, which has a length, rather than after the previous one."""
        ledger = self.ledger
        self.recorder.mark(f"epoch {epoch} begins")
        self._last_epoch = epoch
        ledger.forget_deal_error()
        ledger.needs_attention = True  # the end of the previous epoch no longer counts
        if not self.is_stopped:
            self.backend.pump()
        self._end_delivered()

    def _end_delivered(self) -> None:
        """End the epoch of the loop if all of its batches were delivered: no last batch will end it."""
        epoch, progress = self._last_epoch, self.ledger.progress
        if epoch is not None and progress.epoch == epoch and self.length_of(epoch, -1) == progress.position:
            self.ledger.enter(epoch + 1)
            self._mark_due()

    def bound_epoch(self, epoch: int, *, goes_on: bool) -> None:
        """Compute no batch after this epoch, unless it ``goes_on`` and computing ahead is safe."""
        # An order must not be drawn before its epoch is requested. If a change of the source cannot be detected, no
        # batch of a later epoch must be computed before that epoch is requested, either.
        cursor, backend = self.ledger.cursor, self.backend
        is_known = backend.tells_changes and not backend.may_change_unseen and not cursor.is_drawn
        cursor.last_epoch = None if goes_on and is_known else epoch

    def pause(self, *, waits: bool = True) -> None:
        """Deal no work items until `resume`, and wait for the running ones; ready outcomes remain.

        Args:
            waits: If False, return while work items are running.
        """
        with self.lock:
            self.ledger.pause()
        if waits:
            self._await_running()

    def await_first_units(self) -> None:
        """Wait until each lane has computed its first element, or no more can be computed before a batch is taken."""
        self._await_running(first_units=True)

    def _await_running(self, *, first_units: bool = False) -> None:
        while (head := self._oldest_running(first_units=first_units)) is not None:
            with self.lock:  # not `_locked`: an interrupt of a sleep changes nothing
                if not self.is_stopped:
                    timeout_s = self._backend_timeout_s()
                    if head in self.ledger.at_work():
                        self.backend.wait(head, timeout_s)

    @_locked
    def _oldest_running(self, *, first_units: bool = False) -> int | None:
        """Process arrived reports; return the oldest running work item, which is the one a `batch_timeout` can end.

        Args:
            first_units: Consider only the first element of each lane, unless it may wait for room.
        """
        # Called before each wait: in the meantime another thread may take a batch, stop, or go to another place.
        ledger = self.ledger
        while not self.is_stopped and ledger.failure is None and (at_work := ledger.at_work()):
            if first_units:
                at_work = {number for number in at_work if not ledger.work_items[number].unit}
                if not at_work or self.backend.has_waiting:
                    break
            head = min(at_work)
            if not self.backend.take_in(head):
                return head
        return None

    @_locked
    def resume(self) -> None:
        """Continue after a `pause`, with the full credit."""
        self.ledger.resume()
        self.ledger.needs_attention = True  # settles the times of this start
        if not self.is_stopped:
            self.backend.pump()

    # -- For all callers

    def length_of(self, epoch: int, default: int | None = None) -> int | None:
        """Return the number of batches of the open epoch, or ``default`` if it has no end or the number is unknown."""
        length = self.ledger.cursor.length_of(epoch)
        return default if length is None else length

    def last(self) -> DeliveredBatch | None:
        """Return the batch that `step` returned last; None: none."""
        returned = self.ledger.progress.returned
        if returned is None:
            return None
        work_item, epoch, position, latest = returned
        skipped = latest[1] if latest is not None and latest[0] == work_item.number else LeftOut()
        if work_item.lane < 0:
            return DeliveredBatch(work_item, work_item.epoch, work_item.position, skipped)
        # An element belongs to no epoch; the consumer's place after it shows its position.
        epoch, position = self.ledger.progress.before(epoch, position)
        return DeliveredBatch(work_item, epoch, position, skipped, self.ledger.start_of_returned())

    def has_unsharded(self) -> bool:
        """Return whether several lanes returned elements, and none of them requested its number before its end."""
        num_lanes = self.ledger.cursor.num_lanes
        # `take(0)` and `repeat(0)` never open their source, so nothing is repeated.
        return len(self.ledger.unsharded) == num_lanes > 1 and any(self.ledger.progress.counts)

    def place(self) -> Place:
        """Return the place to resume a stream: after all batches that its user has got."""
        return self.ledger.progress.place()

    @property
    def epoch(self) -> int:
        """The epoch of the counted place; batches that are held may belong to the previous one."""
        return self.ledger.progress.epoch

    def epoch_of(self, work_item: WorkItem) -> int:
        """Return the epoch of a batch that is being delivered, or was just counted."""
        ledger = self.ledger
        if not ledger.cursor.lane_share.is_endless:
            return work_item.epoch
        progress = ledger.progress
        has_ended_it = work_item is ledger.latest and not progress.position
        return progress.epoch - has_ended_it

    @_locked
    def look(self) -> None:
        """Process the reports that have arrived, without taking a batch."""
        if self.is_stopped:
            return
        if self.is_inconsistent:
            self._recover()
        self.backend.take_in(None, may_fail=False)

    @_locked
    def is_next_plain(self) -> bool | None:
        """Return whether the next outcome is a complete batch, without taking it; None: it is not ready.

        False also means that only a `step` can tell.
        """
        ledger = self.ledger
        if self.is_stopped or ledger.needs_attention:
            return False
        self.backend.take_in(None, may_fail=False)
        outcome = ledger.next_outcome()
        if outcome is None:
            return None if ledger.work_items else False
        return outcome.is_plain

    @property
    def is_full(self) -> bool:
        """True if no more can be computed before a batch is taken: all is ready, or waits for room."""
        ledger = self.ledger
        return bool(ledger.work_items) and (self.backend.has_waiting or not ledger.at_work())

    @property
    @_locked
    def num_ready(self) -> int:
        """Number of batches that are computed and not delivered."""
        if self.is_stopped or self.is_inconsistent:
            return 0
        self.backend.pump()
        self.backend.take_in(None, may_fail=False)
        # As in `step`: a task that waits for the descriptor has not seen the reports that were read here.
        if self._is_polled and self.ledger.has_next:
            self.backend.wake()
        return len(self.ledger.ready)

    @property
    def is_stopped(self) -> bool:
        """True if a stop was requested, or the stream has not started."""
        return self.lifetime.state is not Life.RUNNING

    @property
    def has_ended(self) -> bool:
        """True if this process no longer holds resources of the stream."""
        return self.lifetime.state in {Life.ENDED, Life.FOREIGN}

    def disown(self) -> None:
        """Refuse all calls in a forked child: the parent owns the workers, and its locks may be held forever."""
        self.lock = RLock()
        self.lifetime.disown(self.lock)
        self.ledger.needs_attention = True

    def stop(self, timeout_s: float | None = None) -> None:
        """End the stream: unblock waiting consumers and stop the workers. Idempotent, from any thread.

        Raises:
            StopTimeout: Some workers did not exit in time.
        """
        if not self.lifetime.request_stop():
            return
        # Close before waking: a consumer that wakes up must see the stop, and not wait again.
        self.ledger.close()
        self.backend.wake()
        # An epoch end hook that stops its own stream holds the lock as well, but leaves none of our changes half done.
        if self.lifetime.is_inside and not self._end.is_calling:
            self.lifetime.deferred_stop = (timeout_s,)  # called by a signal handler; see NOTE [ Interrupts ]
        else:
            self.lifetime.stop(timeout_s, self._end.cancel_timer, self._end_workers)

    def _end_workers(self, timeout_s: float | None) -> None:
        self.ledger.work_items.clear()
        self.backend.stop(timeout_s)
