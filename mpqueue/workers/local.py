"""The backends that stay in this process: worker threads, and the caller itself.

Threads take tickets under the pipeline's lock and compute outside of it. They are daemons, and nobody waits for an
item at work: a `stop` lets the idle ones end and leaves the others to end after their item. One that takes longer than
`batch_timeout` is left alone for good, with whatever it is at, and another takes its place. They work on the caller's
own source, and draw from the global random generators that all threads share: only `mpqueue.rng()` is reproducible
here.

Inline, the caller computes the batch in its own `next`. With a given seed the global generators are seeded for the
batch and put back afterwards, so that the batches are those of worker processes, and the trainer's own numbers are
what they would have been.
"""

import contextlib
import errno
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.control.ledger import Ledger
from mpqueue.control.outcomes import END, Result
from mpqueue.control.schedule import Ticket
from mpqueue.control.seeds import BatchSeed, GlobalState, seed_globals
from mpqueue.errors import BatchTimeout, OutOfRangeError, StopTimeout
from mpqueue.stats import Statistics
from mpqueue.system.interrupts import let_through
from mpqueue.workers import context
from mpqueue.workers.context import WorkerInfo
from mpqueue.workers.worker_main import Payload

_TORN = "an interrupt fell between two elements of a generator, which gives them only once"


class _Lane:
    """Runs the source for one worker: an item of a Sequence, or the next element of this worker's stream."""

    def __init__(self, payload: Payload, info: WorkerInfo, *, is_stream: bool, skip: int = 0) -> None:
        self._payload, self.info, self._is_stream, self._skip = payload, info, is_stream, skip
        self._iterator: Iterator[Any] | None = None
        self._epoch = -1

    def compute(self, ticket: Ticket, *, seed_all: bool) -> Result:
        """Run user code for one ticket."""
        info = self.info
        unit = ticket.unit * info.num_workers + info.id if self._is_stream else ticket.unit
        batch = BatchSeed(info.seed, ticket.epoch, unit)
        saved = GlobalState() if seed_all else None
        context.enter_thread(info)
        context.begin_batch(batch)
        try:
            if seed_all:
                seed_globals(*batch)
            if self._is_stream:
                return self._next_element(ticket.epoch)
            return Result(self._payload.source[ticket.unit])
        except (KeyboardInterrupt, SystemExit):
            if threading.current_thread() is threading.main_thread():
                raise
            return Result(error=sys.exception())
        except BaseException as error:
            note = f"raised for index {ticket.unit} of epoch {ticket.epoch} in worker {info.id} of {info.num_workers}"
            error.add_note(note)
            return Result.failed(error)
        finally:
            context.enter_thread(None)
            if saved is not None:
                saved.restore()

    def _next_element(self, epoch: int) -> Result:
        source = self._payload.source
        if self._epoch != epoch:
            self._epoch = epoch
            self._iterator = iter(source()) if callable(source) else source
            for _ in range(self._skip):
                next(self._iterator, None)
            self._skip = 0
        if self._iterator is None:
            return END
        try:
            return Result(next(self._iterator))
        except (StopIteration, OutOfRangeError):
            return END
        except ValueError as error:
            if "already executing" not in str(error):
                raise
            raise RuntimeError(
                "this generator is not thread-safe: it was asked for an element while another thread ran it. "
                "Use workers=1, or protect it with a lock"
            ) from error


class ThreadBackend:
    """Worker threads.

    Args:
        ledger: Whose tickets they run.
        lock: Guards the ledger.
        payload: The source, and what each thread calls first.
        num_workers: How many threads.
        seed: Of the enqueuer.
        batch_timeout: Seconds after which a batch that the consumer waits for is given up.
        skip: Elements of each thread's stream to leave out at first.
    """

    def __init__(
        self,
        ledger: Ledger,
        lock: threading.RLock,
        payload: Payload,
        num_workers: int,
        seed: int,
        *,
        batch_timeout: float | None,
        skip: tuple[int, ...] = (),
    ) -> None:
        self.ready = ledger.ready
        self.chunk = self.low_water = 1
        self.compute_ns = self.wait_ns = 0
        self._ledger, self._lock, self._payload, self._batch_timeout = ledger, lock, payload, batch_timeout
        self._num_workers, self._seed, self._skip = num_workers, seed, skip
        self._is_stream = is_stream = ledger.is_stream
        self._condition = threading.Condition(lock)  # of the threads: there is work
        self._consumers: list[threading.Lock] = []  # of those in `wait`: each is released to wake one
        self._dealt: deque[Ticket] = deque()
        self._is_stopped = False
        shared = is_stream and not callable(payload.source)
        self._queues: list[deque[Ticket]] = [deque() for _ in range(num_workers)] if is_stream and not shared else []
        self._working: dict[int, tuple[Ticket, float]] = {}  # by worker: its ticket, since when
        self._busy: set[threading.Thread] = set()  # in user code
        self._stuck: Result | None = None  # a stream hangs: the answer to all its tickets
        self._shared = _Lane(payload, WorkerInfo(0, num_workers, seed), is_stream=True) if shared else None
        self._threads: dict[int, threading.Thread] = {}

    def start(self) -> None:
        """Start the threads.

        Raises:
            OSError: There are not enough of them.
        """
        for number in range(self._num_workers):
            info, skip = WorkerInfo(number, self._num_workers, self._seed), self._skip[number] if self._skip else 0
            self._begin(self._shared or _Lane(self._payload, info, is_stream=self._is_stream, skip=skip), info)
        with self._lock:
            self.pump()

    def _begin(self, lane: _Lane, info: WorkerInfo) -> None:
        name = f"mpqueue-worker-{info.id}"
        thread = threading.Thread(target=self._run, args=(info, lane), name=name, daemon=True)
        self._threads[info.id] = thread
        try:
            thread.start()
        except RuntimeError as error:  # "can't start new thread"
            with contextlib.suppress(StopTimeout):
                self.stop(0)
            raise OSError(errno.EAGAIN, f"{error}; check `ulimit -u` and `ulimit -v`") from error

    def pump(self) -> None:
        """Deal a ticket, and tell the threads that there is work."""
        for ticket in self._ledger.deal():
            (self._queues[ticket.lane] if self._queues else self._dealt).append(ticket)
        self._condition.notify_all()

    def wait(self, head: int, *, block: bool = True) -> None:
        """Wait until a batch is done, or somebody wakes us."""
        if not block:
            return
        if self._stuck is not None:
            self.ready[head] = self._stuck
            return
        left = None
        if self._batch_timeout is not None:
            now = time.monotonic()  # and that long if nothing is at work yet: nobody tells us when it begins
            since = min((since for _, since in self._working.values()), default=now)
            left = max(0.0, since + self._batch_timeout - now)
        self._ledger.is_waiting = True
        self._sleep(left)
        self._ledger.is_waiting = False
        if self._batch_timeout is not None:
            self._give_up_overdue(self._batch_timeout)

    def _sleep(self, timeout_s: float | None) -> None:
        """Without the pipeline's lock, until `_wake_consumers`.

        A condition would not do: a `stop` in a signal handler that strikes just before the wait would not be seen.
        """
        lock: Any = self._lock
        once = 1, threading.get_ident()
        state = struck = None
        waker = threading.Lock()
        waker.acquire()
        self._consumers.append(waker)
        try:
            if not self._ledger.is_closed:
                state = lock._release_save()  # as threading.Condition does it: all levels of a re-entrant lock
                waker.acquire(timeout=-1 if timeout_s is None else timeout_s)
        except BaseException as error:
            struck = error
        while True:
            try:
                if not lock._is_owned():
                    lock._acquire_restore(state or once)
                if waker in self._consumers:
                    self._consumers.remove(waker)
                break
            except BaseException as error:  # a handler strikes once more, and we must not leave without the lock
                struck = error
        if struck is not None:
            raise struck

    def _wake_consumers(self) -> None:
        for waker in list(self._consumers):
            with contextlib.suppress(RuntimeError):  # released by another
                waker.release()

    def _give_up_overdue(self, timeout_s: float) -> None:
        """Answer tickets that take too long with an error, and give their threads up."""
        for worker, (ticket, since) in list(self._working.items()):
            if time.monotonic() < since + timeout_s:
                continue
            del self._working[worker]
            frame = sys._current_frames().get(self._threads[worker].ident or 0)
            error = BatchTimeout(ticket.unit, ticket.epoch, timeout_s, "".join(traceback.format_stack(frame)))
            self.ready[ticket.number] = outcome = Result.failed(error)
            if self._is_stream:
                self._stuck = outcome
            else:
                info = WorkerInfo(worker, self._num_workers, self._seed)
                self._begin(_Lane(self._payload, info, is_stream=False), info)

    def cancel(self) -> None:
        """Forget what was dealt; items at work are dropped when they are done."""
        self.ready.clear()
        for queue in (self._dealt, *self._queues):
            queue.clear()
        self._working.clear()

    def reset(self) -> None:
        """Forget what was dealt.

        Raises:
            RuntimeError: The source is a generator, which does not give its elements again.
        """
        self.cancel()
        if self._is_stream:
            raise RuntimeError(_TORN)

    def is_stale(self) -> bool:
        """Threads work on the caller's own source: there is no other."""
        return False

    def refresh(self) -> None:
        """Threads work on the caller's own source: nothing is to be done."""

    def wake(self) -> None:
        """Free whoever waits in `wait`."""
        self._wake_consumers()

    def stop(self, timeout_s: float | None) -> None:
        """End the threads that wait; those at work end after their item, and are waited for only so long."""
        with self._condition:
            self._is_stopped = True
            busy = set(self._busy)
            self._condition.notify_all()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads.values():
            if thread is threading.current_thread() or (thread in busy and deadline is None):
                continue
            let_through(thread.join, None if deadline is None else max(0.0, deadline - time.monotonic()))
        stragglers = tuple(thread.name for thread in self._threads.values() if thread in busy and thread.is_alive())
        if stragglers and deadline is not None and timeout_s is not None:
            raise StopTimeout(stragglers, timeout_s)

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(compute_s=self.compute_ns / 1e9, credit_wait_s=self.wait_ns / 1e9)

    def _run(self, info: WorkerInfo, lane: _Lane) -> None:
        is_new, broken = True, None
        me = threading.current_thread()
        while True:
            waited = time.perf_counter_ns()
            with self._condition:
                self._busy.discard(me)
                if self._threads[info.id] is not me:
                    return  # it took too long, and has a successor
                ticket = self._take(info.id)
                while ticket is None and not self._is_stopped:
                    self._condition.wait()
                    ticket = self._take(info.id)
                if self._is_stopped or ticket is None:
                    return
                self._busy.add(me)
                self._working[info.id] = (ticket, time.monotonic())
            started = time.perf_counter_ns()
            if is_new:  # not before there is a ticket: what hangs is found by the time that its ticket takes
                is_new, broken = False, self._initialise(info)
            outcome = lane.compute(ticket, seed_all=False) if broken is None else Result.failed(broken)
            done = time.perf_counter_ns()
            with self._condition:
                self.compute_ns += done - started
                self.wait_ns += started - waited
                at_work = self._working.get(info.id)
                if at_work is not None and at_work[0] is ticket and not self._is_stopped:
                    del self._working[info.id]
                    self.ready[ticket.number] = outcome
                self._condition.notify_all()
                self._wake_consumers()
            del outcome  # or this thread would keep the batch alive until its next one

    def _initialise(self, info: WorkerInfo) -> BaseException | None:
        if self._payload.worker_init is None:
            return None
        context.enter_thread(info)
        try:
            self._payload.worker_init()
        except BaseException as error:
            return error
        finally:
            context.enter_thread(None)
        return None

    def _take(self, worker: int) -> Ticket | None:
        if self._is_stopped:
            return None
        try:
            if not self._queues:
                self._dealt.extend(() if self._dealt else self._ledger.deal())
                return self._dealt.popleft() if self._dealt else None
            while not self._queues[worker]:
                dealt = self._ledger.deal()
                if not dealt:
                    return None
                self._queues[dealt[0].lane].extend(dealt)
                if dealt[0].lane != worker:
                    self._condition.notify_all()
            return self._queues[worker].popleft()
        except Exception as error:
            self._ledger.fail(error)
            self._wake_consumers()
            return None


class InlineBackend:
    """No workers: the caller computes each batch when it asks for it.

    Args:
        ledger: Whose tickets are run.
        payload: The source, and what is called first.
        seed: Of the enqueuer.
        seed_globals: Seed the global generators for each batch, and put them back.
        skip: How many elements of the stream to leave out at first, as a tuple of one.
    """

    def __init__(
        self,
        ledger: Ledger,
        payload: Payload,
        seed: int,
        *,
        seed_globals: bool,
        skip: tuple[int, ...] = (),
    ) -> None:
        self.ready = ledger.ready
        self.chunk = self.low_water = 1
        self.compute_ns = self.wait_ns = 0
        self._ledger, self._seed_globals, self._is_stream = ledger, seed_globals, ledger.is_stream
        self._lane = _Lane(payload, WorkerInfo(0, 1, seed), is_stream=ledger.is_stream, skip=skip[0] if skip else 0)
        self._tickets: deque[Ticket] = deque()
        self._init: Callable[[], Any] | None = payload.worker_init

    def start(self) -> None:
        """Nothing is to be started."""
        self.pump()

    def pump(self) -> None:
        """Take the next ticket, without computing it."""
        if not self._tickets:
            self._tickets.extend(self._ledger.deal())

    def wait(self, head: int, *, block: bool = True) -> None:  # noqa: ARG002 - there is only one ticket
        """Compute the next batch."""
        if not block or not self._tickets:
            return
        started = time.perf_counter_ns()
        self._ledger.is_waiting = True  # an interrupt here tears nothing: the caller may ask again
        try:
            outcome = self._initialise() or self._lane.compute(self._tickets[0], seed_all=self._seed_globals)
        finally:
            self.compute_ns += time.perf_counter_ns() - started
        self._ledger.is_waiting = False
        self.ready[self._tickets.popleft().number] = outcome

    def _initialise(self) -> Result | None:
        """Call what is called first; what it raises is the outcome of the batch, as it is in workers."""
        if self._init is not None:
            try:
                self._init()
            except Exception as error:
                return Result.failed(error)
            self._init = None
        return None

    def cancel(self) -> None:
        """Forget the ticket."""
        self.ready.clear()
        self._tickets.clear()

    def reset(self) -> None:
        """Forget the ticket.

        Raises:
            RuntimeError: The source is a generator, which does not give its elements again.
        """
        self.cancel()
        if self._is_stream:
            raise RuntimeError(_TORN)

    def is_stale(self) -> bool:
        """Nothing is computed ahead."""
        return False

    def refresh(self) -> None:
        """It is the caller's own source: nothing is to be done."""

    def wake(self) -> None:
        """Nobody waits."""

    def stop(self, timeout_s: float | None) -> None:
        """Nothing runs."""

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(compute_s=self.compute_ns / 1e9, credit_wait_s=self.wait_ns / 1e9)
