"""Threads that help a worker: they run user code for several samples at once.

    worker's thread    starts calls in order, at most `4 * threads` ahead, and takes their results in the same order
    helper threads     each takes the oldest call and computes it

When all calls of a batch are started, those of the next batches follow, if known and within the same limit. Otherwise
all threads would wait for the slowest call of each batch. Measured with samples that wait for 20 ms (median, some for
130 ms), next to a busy program: 956 samples/s instead of 489, with two workers of 16 threads.

No call outlives its batch. After an error, calls that have not started are cancelled, and running ones must end
before the error is raised. So no user code runs when an epoch ends. An interrupt of the waiting thread itself (Ctrl-C,
if the caller is the worker) is not delayed: the helpers are abandoned, end after their calls, and the next batch gets
new ones.

A worker process that is killed takes its threads along. In the trainer they are daemon threads, like worker threads,
and its exit does not wait for them.

A child that user code forks in a helper has only the thread that forked it, and no work: it exits when the user's code
returns or raises. A child that the worker's own thread forks would wait forever for threads that it lacks: it gets an
error instead.
"""

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue
from typing import Any, Self

from mpqueue.system.built_in_calls import BuiltInCalls
from mpqueue.system.interrupts import defer_signals
from mpqueue.system.joined_threads import start_thread
from mpqueue.system.leaving import leave_as_child
from mpqueue.system.locks import Lock
from mpqueue.system.own_process import ProcessMark, make_mark
from mpqueue.telemetry.clock import clock_ns

THREAD_NAME = "mpqueue-helper"
# Calls per thread that are started and not taken. In a simulation with waits of 20 ms (median) and some of 125 ms,
# threads reach 0.56 of their maximum rate with 2, 0.80 with 4, and 0.95 with 8; the number of waiting samples grows
# alike.
AHEAD = 4
_LOOK_EVERY_NS = 20_000_000


class HelperCall:
    """A call that a helper thread computes, for one thread that waits for it.

    A `concurrent.futures.Future` takes 2.4 µs instead of 0.4, because of its condition, lock and list of waiters, all
    under the interpreter's lock. Elements that two threads compute in 50 µs each cost 84 µs with a future, and 70 with
    this class.

    Args:
        function: The function to call.
        arguments: Its arguments.

    Attributes:
        is_done: The result or the error is available.
        ns: Duration of the call in the helper thread, in nanoseconds.
    """

    __slots__ = ("_done", "_error", "_todo", "_value", "is_done", "ns")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._todo = [(function, arguments)]  # the thread that pops it computes the call, or has cancelled it
        self._done = Lock()  # released at the end of the call
        self._done.acquire()
        self._value: Any = None
        self._error: BaseException | None = None
        self.is_done = False
        self.ns = 0

    def cancel(self) -> bool:
        """Cancel the call; return False if a helper has started it."""
        try:
            self._todo.pop()
        except IndexError:
            return False
        return True

    def compute(self, own: ProcessMark, clock: "CallClock") -> None:
        """Compute the call in this thread, unless it is cancelled.

        Args:
            own: The mark of this process.
            clock: Times the call.
        """
        try:
            function, arguments = self._todo.pop()
        except IndexError:
            return
        busy_ns = clock.busy_ns()
        started = clock_ns()
        try:
            self._value = function(*arguments)
        except BaseException as error:
            if not own[0]:
                leave_as_child(error)
            self._error = error
        self.ns = clock_ns() - started
        if busy_ns is not None:
            clock.look(self.ns, busy_ns)
        if not own[0]:
            leave_as_child()
        # In this order: a signal may strike the waiting thread after it acquired the lock.
        done, self.is_done = self._done, True
        del self  # the traceback of the error keeps this frame, which would keep the call
        done.release()

    def wait(self) -> None:
        """Wait for the end of the call; only one thread may."""
        if not self.is_done:
            self._done.acquire()

    def exception(self) -> BaseException | None:
        """Wait for the call, and return its error or None."""
        self.wait()
        return self._error

    def result(self) -> Any:
        """Wait for the call, and return its result.

        Raises:
            BaseException: The error of the call.
        """
        self.wait()
        if self._error is None:
            return self._value
        try:
            raise self._error
        finally:
            del self  # the traceback of the error keeps this frame, which would keep the call


class CallClock:
    """The share of the time of calls that their thread spends off the CPU.

    Reading the CPU time of a thread takes a system call of up to 25 µs, so only one call in `_LOOK_EVERY_NS` is
    measured. A race between two helpers costs no more than a second measurement.
    """

    __slots__ = ("_due_ns", "waiting_share")

    def __init__(self) -> None:
        self._due_ns = 0
        self.waiting_share = 0.0

    def busy_ns(self) -> int | None:
        """Return the CPU time of this thread if the next call must be measured, otherwise None."""
        now = clock_ns()
        if now < self._due_ns:
            return None
        self._due_ns = now + _LOOK_EVERY_NS
        return time.thread_time_ns()

    def look(self, ns: int, busy_ns: int) -> None:
        """Record a call that took ``ns`` and started at this CPU time of its thread."""
        self.waiting_share = max(0.0, 1 - (time.thread_time_ns() - busy_ns) / ns) if ns else 0.0


class Helpers:
    """A group of helper threads; they end by `dismiss`, or when no reference to this object is left.

    Args:
        threads: Number of threads.

    Attributes:
        threads: Number of threads.
        own: The mark of the process that has them.
        clock: Times their calls.

    Raises:
        OSError: The threads cannot be started.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.own, self.clock = make_mark(), CallClock()
        # Not `Queue`: a finalizer puts the end into it, maybe in the middle of another `put`, and only this one is
        # reentrant.
        self._calls: SimpleQueue[HelperCall | None] = SimpleQueue()
        self._lock = Lock()  # no call is queued after the end, where it would wait forever
        # Functions without a reference to this object: the threads would keep it.
        # Registered before the first thread starts: if one cannot be started, the others end with this object.
        # At the interpreter's exit, daemon threads end without it.
        self._end = BuiltInCalls(self, *[partial(self._calls.put, None)] * threads).call
        self._has_ended = False
        # Without this, a signal handler that raises within `start` would make a running thread look like a failed
        # start.
        with defer_signals():
            for number in range(threads):
                name = f"{THREAD_NAME}-{number}"
                start_thread(threading.Thread(target=_serve, args=(self._calls, self.clock), name=name, daemon=True))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> HelperCall:
        """Queue a call; calls start in this order.

        Raises:
            RuntimeError: The threads were dismissed, or belong to another process.
        """
        self.check()
        call = HelperCall(function, arguments)
        with self._lock:
            if self._has_ended:
                raise RuntimeError("the threads of this worker have ended: its loader was stopped")
            self._calls.put(call)
        return call

    def check(self) -> None:
        """Raise an error in a child that was forked since.

        Raises:
            RuntimeError: The threads belong to its parent.
        """
        if not self.own[0]:
            raise RuntimeError(
                "this process was forked while threads of its parent computed samples or elements, and does not have "
                "these threads: create a new iterator in this process"
            )

    def dismiss(self) -> None:
        """End the threads after the queued calls; must not be called by a signal handler that interrupts a `submit`."""
        with self._lock:
            self._has_ended = True
            self._end()


class InOrder:
    """Several calls with results in order; a context manager. Its exit ends all of them.

    Args:
        helpers: The threads.
        call: The function to call.
        arguments: The arguments of each call.

    Attributes:
        helpers: The threads.
        find_next: Called when all calls are started: returns the next ones, or None if they are not known yet.
        is_given_up: An interrupt of this thread while it waited has left running calls: the helpers must not be used
            again.
        is_over: The exit is complete.
        beside_ns: Nanoseconds that helpers spent on the taken calls, minus the waiting time of this thread:
            the duration of the calls beyond the time of this thread.
    """

    def __init__(self, helpers: Helpers, call: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> None:
        self.helpers, self._call, self._arguments = helpers, call, iter(arguments)
        self.find_next: Callable[[], InOrder | None] | None = None
        self._next: InOrder | None = None
        self._pending: deque[HelperCall] = deque()
        self.is_given_up = self.is_over = False
        self.beside_ns = 0

    def next(self) -> Any:
        """Return the next result.

        Raises:
            IndexError: All results were taken.
            BaseException: The error of the call.
        """
        return self._take().result()

    def __getitem__(self, _index: object) -> Any:
        """Return the next result, as if this were the source of the samples."""
        return self.next()

    def take(self) -> Callable[[], Any]:
        """Wait for the next result; return a function that returns it, or raises the error of its call.

        Raises:
            IndexError: All results were taken.
        """
        return self._take().result

    def _fill(self, ahead: int) -> None:
        """Start calls, of this batch or the next ones, until ``ahead`` of them are not taken."""
        calls: InOrder | None = self
        while calls is not None and (ahead := calls._fill_own(ahead)):
            calls = calls._next_calls()

    def _fill_own(self, ahead: int) -> int:
        """Start calls of this batch; return how many more are allowed after the last one."""
        pending = self._pending
        while len(pending) < ahead:
            arguments = next(self._arguments, None)
            if arguments is None:
                return ahead - len(pending)
            # `arguments` is an iterator, so no call is submitted twice.
            pending.append(self.helpers.submit(self._call, *arguments))
        return 0

    def _next_calls(self) -> "InOrder | None":
        if self._next is None and self.find_next is not None:
            self._next = self.find_next()
        return self._next

    def _take(self) -> HelperCall:
        self._fill(AHEAD * self.helpers.threads)
        # The oldest call: results are taken in the order of the calls, whichever finishes first.
        call = self._pending[0]
        # Kept in `_pending` while waiting: after an interrupt, `__exit__` must still find the call.
        self._wait(call)
        self.beside_ns += call.ns
        return self._pending.popleft()

    def _wait(self, call: HelperCall) -> None:
        if not call.is_done:
            self.helpers.check()
            # Until the wait is over: an exception of the wait itself does not belong to the call.
            self.is_given_up = True
            started = clock_ns()
            call.wait()
            self.beside_ns -= clock_ns() - started
            self.is_given_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Cancelled ones can no longer start. The others run user code, which must end before the batch does.
        # All are cancelled before the first wait: in the meantime, helpers would start the next ones.
        at_work = [call for call in self._pending if not call.cancel()]
        while at_work and not self.is_given_up:
            self._wait(at_work.pop())
        self._pending.clear()
        self.find_next = self._next = None  # the iterator of the next calls holds these
        self.is_over = True


# By process, too: a forked child has the objects of its parent's threads, but not the threads.
_shared: "weakref.WeakValueDictionary[tuple[int, int], Helpers]" = weakref.WeakValueDictionary()
_shared_lock = Lock()


def _unlock() -> None:
    global _shared_lock
    _shared_lock = Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_unlock)


def shared_helpers(threads: int) -> Helpers:
    """Return the threads of this process for a number of threads, shared by all stages of datasets."""
    key = os.getpid(), threads
    with _shared_lock:
        helpers = _shared.get(key)
        if helpers is None:
            # Created under the lock: two threads that need it at the same time must not start it twice.
            helpers = _shared[key] = Helpers(threads)
        return helpers


def _serve(calls: "SimpleQueue[HelperCall | None]", clock: CallClock) -> None:
    """Compute calls until the end of the queue; the main function of a helper thread."""
    own = make_mark()
    while (call := calls.get()) is not None:
        call.compute(own, clock)
        del call  # otherwise an idle thread would keep the sample
