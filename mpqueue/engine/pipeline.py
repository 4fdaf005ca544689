"""The engine's core: one stream of batches, driven by non-blocking steps.

    step ------> a batch with its work item, or None if it is not ready; raises an error in place of a batch
    fileno ----> readable when `step` has something to do
    timeout_s -> the seconds after which `step` is due even without a report, or None for no limit

An event loop, such as a server's, waits for the descriptor and the timeout and calls `step`. Other callers use `next`,
which alternates `step` and `wait`. No feeder thread is needed: `step` takes the outcomes that have arrived and deals
more work items, and workers run ahead on the credit that they hold.

*Who owns what.* The `Ledger`, which the backend shares, holds the dealt work items and their outcomes. The `Backend`
runs work items in worker processes, in threads, or in the caller's `step` itself. It pulls them from `Ledger.deal`
while there is credit. `Guard` has the lock that orders all threads that may call. `Epochs` opens and ends epochs, and
goes to other places in the order.

*Cancellation.* A `step` that returned None needs no cleanup, so a caller that waits for `fileno` may give up at any
time. A batch that `step` returned counts as delivered, so pass it on without waiting. A caller that cannot do that
holds the batch (`Ledger.holds`), see `mpqueue.engine.progress.deliveries`.

*Several consumers.* Several threads and tasks may call `step`. Each batch goes to one consumer. If a consumer has
processed reports for the others, `fileno` becomes readable again. A stop makes `fileno` readable and then closes it.
The backend owns the descriptor: do not read or close it.

# NOTE [ Interrupts ]
A signal handler may raise in any line of the main thread (Ctrl-C, `sys.exit`, a timeout by SIGALRM). If its exception
leaves a call, the run is at the last batch that a call has returned (`Progress.point`): the next `step` drops the
work in flight and computes it again. So no line has to be safe against an exception. Three rules:

1. An exception that we raise on purpose is named by `Guard.expected`. After other exceptions, the guard
   `is_inconsistent`, and the next `step` restarts the run at its user's point. An exception in `wait` does not change
   the run.
2. A batch counts when its user gets it. Code that works on a batch before its user gets it holds the batch, and counts
   it as returned by assignments, as its last statements (`mpqueue.engine.progress.deliveries`). CPython (3.11 to 3.13)
   runs handlers where a function begins, at a backward jump and after a call of C code: not between two assignments,
   and not at the return from a Python function.
3. A `stop` by a handler inside of our own step waits for the end of that step, which may be using a descriptor.

An iterator yields its elements only once: if some may be lost, every `step` raises a RuntimeError that reports the
loss, until the next loop begins. Code of the source that runs in the main thread is distinguished from a handler that
raises in it by `mpqueue.system.signals.interrupts`.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

from mpqueue.engine.backend import Backend, EndOfStream, NotYet, Stopped
from mpqueue.engine.dealing import Dealing
from mpqueue.engine.epoch_end import EpochEnd
from mpqueue.engine.epochs import Epochs
from mpqueue.engine.guard import Guard, locked
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.lifetime import Life
from mpqueue.engine.outcomes import Result, Unreadable
from mpqueue.engine.progress.deliveries import Delivery
from mpqueue.engine.rare_outcomes import RareOutcomes
from mpqueue.engine.skips import Skips
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.system.processes import forked
from mpqueue.system.signals.exceptions import matches
from mpqueue.telemetry.recorder import Recorder

_clock = time.perf_counter_ns
_LOOK_S = 1.0  # between checks of a time limit: a wait that takes longer shows that this process was stopped


class Bar(Protocol):
    """A display of an epoch's progress: a `mpqueue.loader.progress.ProgressBar`."""

    def step(self, work_item: WorkItem) -> None:
        """Show one more batch, before it is counted."""

    def close(self) -> None:
        """Leave the bar as it is."""


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
        progress: The point up to which batches are counted.
        guard: The lock around the ledger and the backend.
        epochs: Opens and ends epochs, and goes to other places in the order.
        dealing: Stops and continues the dealing of work items.
        rare: Processes outcomes that are not complete batches.
        bar: The progress bar, or None.
        loop: Id of the loop that receives batches; callers with an earlier id get `Stopped`.
        may_fail: No memory will be freed while the next batch is awaited, so that it may fail for lack of memory.
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
        self.ledger, self.progress = ledger, ledger.progress
        self.skips, self.recorder = skips, recorder or Recorder()
        self.guard = guard = Guard(ledger, EpochEnd(epoch_end, timed=timed_epoch_end), self.recorder)
        self.epochs = Epochs(guard, ends_epochs=ends_epochs, requests_epochs=requests_epochs)
        self.dealing = Dealing(guard)
        self.rare = RareOutcomes(guard, self.epochs, skips)
        self.loop = 0
        self.may_fail = True
        self.bar: Bar | None = None
        self._count = ledger.counts.count  # looked up once, as each batch is counted
        self._is_polled = False  # a caller waits for `fileno`
        forked.watch(self)

    def start(self, backend: Backend) -> None:
        """Start the stream with a backend.

        Raises:
            Exception: The exception that `Backend.start` raised.
        """
        self.backend = backend
        self.epochs.start(backend)
        self.guard.start(backend)

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
        guard, ledger, backend, taken = self.guard, self.ledger, self.backend, None
        try:
            with guard.lock:
                try:
                    # CPython 3.11 attributes an exception at a backward jump to the instruction before the loop:
                    # without this assignment inside the `try`, a handler could leave the lock locked.
                    poll_was_empty: bool | None = None  # the last poll brought no report; None: no poll yet
                    while True:
                        # Under the lock: otherwise the batch could belong to another loop.
                        if loop != self.loop:
                            raise guard.expected(Stopped())
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
                            left = self.rare.take(work_item, outcome)
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
                            which = f"index {work_item.source_index} of epoch {work_item.epoch}"
                            outcome = Result.failed(unreadable.settle(which))
                        else:
                            if self.bar is not None:
                                self.bar.step(work_item)
                            is_last, taken = self._count(work_item), (work_item, batch)
                            if is_last:
                                self.epochs.mark_due()
                            if ledger.holds:
                                ledger.counts.hold(work_item, self.skips)
                            break
                        self.rare.take(work_item, outcome)
                    if poll_was_empty is not None and self._is_polled and ledger.has_next:
                        # Other consumers' outcomes have arrived as well, and their descriptor was read here.
                        backend.wake()
                except BaseException as error:
                    guard.has_failed, guard.own = error is guard.own, None
                    if not guard.has_failed:
                        guard.is_inconsistent = ledger.needs_attention = True
                    raise
            if guard.lifetime.deferred_stop is not None:  # outside the lock: inside, `stop` would only set its mark
                guard.lifetime.run_deferred_stop(guard.stop)
        except BaseException as error:
            if taken is not None:  # it was counted
                ledger.progress.interrupted = taken[0]
                guard.is_inconsistent, ledger.needs_attention, guard.has_failed = True, True, False
            guard.lifetime.run_deferred_stop(guard.stop)
            if self.bar is not None and matches(error, EndOfStream, Stopped):
                self.bar.close()
            raise
        if taken is not None and not ledger.holds:  # the user has it: assignments alone from here on
            progress, skips = ledger.progress, self.skips
            progress.returned = work_item, progress.epoch, progress.position, skips and skips.latest
        return taken

    def _look(self) -> bool:
        """Deal work items and process the reports that have arrived; return whether anything has changed."""
        ledger, backend = self.ledger, self.backend
        # Deal first: only that reveals the end or a failure of the order.
        if not self._has_enough_dealt():
            backend.pump()
        if not ledger.work_items:
            if ledger.needs_attention:
                return True
            raise self.guard.expected(EndOfStream())
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
        with self.guard.lock:
            # After a stop, no one would close a descriptor that the backend creates now.
            if self.is_stopped:
                raise ValueError("a stopped stream has no descriptor")
            self._is_polled = True
            return self.backend.fileno()

    @locked
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
        """Block until the next batch is ready, and return it after its delivery, for a loop that `holds` batches.

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

    def wait(self, loop: int = 0, deadline: float | None = None) -> float | None:
        """Block until `step` may have something to do; an interrupt of this method does not change the run.

        The lock is held, except where the backend releases it.

        Returns:
            The deadline, extended by the time that this process was stopped (SIGSTOP, Ctrl-Z), as its workers mostly
            were, too.
        """
        # Other consumers wait for the lock in the meantime, and share the reports that this thread waits for. A `stop`
        # needs the lock before it closes any descriptor, so it wakes this thread first.
        guard, ledger = self.guard, self.ledger
        try:
            with guard.lock:
                # Between our `step` and this line, another thread may have processed the report of our batch.
                if loop == self.loop and not (ledger.needs_attention or ledger.has_next):
                    started = _clock()
                    timeout_s = guard.timeout_s()
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
                    self.recorder.wait(ledger.counts.num_batches, _clock() - started)
        finally:
            guard.lifetime.run_deferred_stop(guard.stop)
        return deadline

    # -- Rare events

    def _attend(self) -> None:
        """Do the rare work that is due before a batch; the flag remains set if some of it is left."""
        guard, ledger = self.guard, self.ledger
        if guard.lifetime.state is Life.FOREIGN:
            raise guard.expected(guard.lifetime.refusal())
        if guard.is_stopped:
            raise guard.expected(Stopped())
        self.epochs.attend()
        if self.recorder.starts.is_pending:
            self.recorder.starts.settle(ledger.progress.epoch)
        ledger.needs_attention = False
        # Checked after the flag was cleared: another thread, or a handler, may have stopped the stream since the test.
        if ledger.is_closed:
            ledger.needs_attention = True

    def begin_loop(self) -> None:
        """Deliver batches to another loop, with the next id, and unblock consumers of earlier loops."""
        with self.guard.lock:  # an interrupt is harmless: it only skips an id
            self.loop += 1
        self.backend.wake()

    # -- For all callers

    @property
    def is_stopped(self) -> bool:
        """True if a stop was requested, or the stream has not started."""
        return self.guard.is_stopped

    def stop(self, timeout_s: float | None = None) -> None:
        """End the stream: unblock waiting consumers and stop the workers. Idempotent, from any thread.

        Raises:
            StopTimeout: Some workers did not exit in time.
        """
        self.guard.stop(timeout_s)

    def disown(self) -> None:
        """Refuse all calls in a forked child: the parent owns the workers."""
        self.guard.disown()

    @locked
    def look(self) -> None:
        """Process the reports that have arrived, without taking a batch."""
        if self.is_stopped:
            return
        if self.guard.is_inconsistent:
            self.epochs.recover()
        self.backend.take_in(None, may_fail=False)

    @locked
    def is_next_plain(self) -> bool | None:
        """Return whether the next outcome is a complete batch, without taking it; None: it is not ready.

        False also means that only a `step` can determine it.
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
    @locked
    def num_ready(self) -> int:
        """Number of batches that are computed and not delivered."""
        if self.is_stopped or self.guard.is_inconsistent:
            return 0
        self.backend.pump()
        self.backend.take_in(None, may_fail=False)
        # As in `step`: a task that waits for the descriptor has not seen the reports that were read here.
        if self._is_polled and self.ledger.has_next:
            self.backend.wake()
        return len(self.ledger.ready)
