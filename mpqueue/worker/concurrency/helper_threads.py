"""Threads that help a worker: they run user code for several samples at once.

    worker's thread    starts calls in order, and takes their results in the same order:
    `mpqueue.worker.concurrency.in_order` helper threads     each takes the oldest call and computes it

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
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

from mpqueue.system.processes.exit import leave_as_child
from mpqueue.system.processes.own_process import ProcessMark, make_mark
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.joined_threads import start_thread
from mpqueue.system.signals.locks import Lock
from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker import context

THREAD_NAME = "mpqueue-helper"
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
        arguments: Its arguments.
        is_done: The result or the error is available.
        ns: Duration of the call in the helper thread, in nanoseconds.
    """

    __slots__ = ("_done", "_error", "_todo", "_value", "arguments", "is_done", "ns")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
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

    def wait(self, timeout_s: float = -1) -> bool:
        """Wait for the end of the call; return False after the timeout (-1 for none). Only one thread may wait."""
        return self.is_done or self._done.acquire(True, timeout_s)

    def stack(self) -> str:
        """Return where the call waits; empty if unknown."""
        return ""

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
        width: Number of threads.
        own: The mark of the process that has them.
        clock: Times their calls.

    Raises:
        OSError: The threads cannot be started.
    """

    def __init__(self, threads: int) -> None:
        self.width = threads
        self.own, self.clock = make_mark(), CallClock()
        # Not `Queue`: a finalizer puts the end into it, maybe in the middle of another `put`, and only this one is
        # reentrant.
        self._calls: SimpleQueue[HelperCall | None] = SimpleQueue()
        self._lock = Lock()  # no call is queued after the end, where it would wait forever
        # Functions without a reference to this object: the threads would keep it.
        # Registered before the first thread starts: if one cannot be started, the others end with this object.
        # At the interpreter's exit, daemon threads end without it.
        self._end = WhenCollected(self, _end_all, self._calls, threads, at_exit=False).call
        self._has_ended = False
        # Without this, a signal handler that raises within `start` would make a running thread look like a failed
        # start.
        with defer_signals():
            for index in range(threads):
                name = f"{THREAD_NAME}-{index}"
                start_thread(threading.Thread(target=_serve, args=(self._calls, self.clock), name=name, daemon=True))

    @staticmethod
    def in_context(ask: Callable[[Any], Any], seed: int, epoch: int) -> Callable[[int, Any], Any]:
        """Return a function that computes a sample with its own context."""
        return context.in_any_thread(ask, seed, epoch)

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

    def wait(self, call: HelperCall, until: float | None = None) -> bool:  # the trainer ends a hang
        """Wait for a call, and return True."""
        return call.wait()

    def cancel(self, calls: Sequence[HelperCall]) -> list[HelperCall]:
        """Cancel calls; return the calls that a thread has started."""
        return [call for call in calls if not call.cancel()]

    def dismiss(self) -> None:
        """End the threads after the queued calls; must not be called by a signal handler that interrupts a `submit`."""
        with self._lock:
            self._has_ended = True
            self._end()


# By process, too: a forked child has the objects of its parent's threads, but not the threads.
_shared: "weakref.WeakValueDictionary[tuple[int, Any, int], Any]" = weakref.WeakValueDictionary()
_shared_lock = Lock()
_Shared = TypeVar("_Shared")


def _unlock() -> None:
    global _shared_lock
    _shared_lock = Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_unlock)


def shared_helpers(make: Callable[[int], _Shared], width: int) -> _Shared:
    """Return the threads, or coroutines, of this process for a number of them, shared by all stages of datasets."""
    key = os.getpid(), make, width
    with _shared_lock:
        helpers: _Shared | None = _shared.get(key)
        if helpers is None:
            # Created under the lock: two threads that need it at the same time must not start it twice.
            helpers = _shared[key] = make(width)
        return helpers


def _end_all(calls: "SimpleQueue[HelperCall | None]", threads: int) -> None:
    for _ in range(threads):
        calls.put(None)


def _serve(calls: "SimpleQueue[HelperCall | None]", clock: CallClock) -> None:
    """Compute calls until the end of the queue; the main function of a helper thread."""
    own = make_mark()
    while (call := calls.get()) is not None:
        call.compute(own, clock)
        del call  # otherwise an idle thread would keep the sample
