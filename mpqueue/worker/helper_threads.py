"""Threads that help a worker: in them, user code computes several samples at once.

    worker's thread    begins calls, in order, at most `4 * threads` of them ahead; takes their results in that order
    helper threads     each takes the call that was begun first, and computes it

When all calls of a batch are begun, those of the next ones are, as far as these are known, within the same bound: else
all threads would wait for the slowest call of each batch. Samples that wait for 20 ms by their median, and some for
130, came at twice the rate by it, beside a busy program: 956 in a second in place of 489, by two workers of 16 threads.

Or the worker's thread computes the calls itself, one by one, as `mpqueue.worker.thread_choice` has it. Then one helper
watches: if the batch is not over in time, it hands the calls behind the one at work to all of them. So a call that
waits for another one is not alone for ever.

No call outlives its batch: where one raises, those that were not begun are forgotten, and those at work are waited for,
before the error goes on. So no code of the user's is at work when an epoch ends. But what strikes the waiting thread
itself (Ctrl-C, with the caller as the worker) is not held up: the threads are given up as they are, and end when they
are done; the next batch has others.

A worker process that is killed takes its threads along. In the trainer they are daemons, as worker threads are, and
nobody waits for them at its end.

A child that user code forks has one thread only, the one that has forked it, and no work for it: it leaves when the
user's code returns there, or raises, be it a helper or the worker's own thread with a call of `InOrder`. One that the
worker's own thread forks elsewhere would wait for ever for threads that it has not: it gets an error instead.
"""

import errno
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, Self

from mpqueue.system.interrupts import defer_signals
from mpqueue.system.leaving import leave_as_child, without_children
from mpqueue.system.locks import Lock
from mpqueue.system.own_process import ProcessMark, make_mark
from mpqueue.telemetry.clock import clock_ns

THREAD_NAME = "mpqueue-helper"
# So many calls for each thread are begun and not taken. By a simulation of waits of 20 ms by the median and some of
# 125, threads come to 0.56 of what they can do with 2, to 0.80 with 4, and to 0.95 with 8, and as many samples wait.
AHEAD = 4
_LOOK_EVERY_NS = 20_000_000


class HelperCall:
    """A call that a helper thread computes, for one thread that waits for it.

    A `concurrent.futures.Future` takes 2.4 us where this takes 0.4, for a condition, with its lock and list of waiters,
    and all of it under the interpreter's lock: elements of a stream that two threads compute in 50 us each cost 84 us
    with the one, and 70 with the other.

    Args:
        function: What is called,
        arguments: and with what.

    Attributes:
        is_done: Its result or its error is there.
        ns: Nanoseconds that the call took in the helper thread.
    """

    __slots__ = ("_done", "_error", "_todo", "_value", "is_done", "ns")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._todo = [(function, arguments)]  # whoever takes it out computes the call, or has cancelled it
        self._done = Lock()  # free from the end of the call on
        self._done.acquire()
        self._value: Any = None
        self._error: BaseException | None = None
        self.is_done = False
        self.ns = 0

    def cancel(self) -> bool:
        """Have it not computed any more; return False if a helper has begun it."""
        try:
            self._todo.pop()
        except IndexError:
            return False
        return True

    def compute(self, own: ProcessMark, clock: "CallClock") -> None:
        """Compute it in this thread, if it is not cancelled.

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
        done, self.is_done = self._done, True  # in this order: who waits may be struck by a signal behind the lock
        del self  # the traceback of the error keeps this frame
        done.release()

    def wait(self) -> None:
        """Wait for its end; for one thread."""
        if not self.is_done:
            self._done.acquire()

    def exception(self) -> BaseException | None:
        """Wait for it, and return what it raised."""
        self.wait()
        return self._error

    def result(self) -> Any:
        """Wait for it, and return what it returned.

        Raises:
            BaseException: What it raised.
        """
        self.wait()
        if self._error is None:
            return self._value
        try:
            raise self._error
        finally:
            del self  # the traceback of the error keeps this frame


class CallClock:
    """The share of the time of calls in which their thread is not on a CPU.

    The CPU time of a thread is a system call of up to 25 us, so only one call in `_LOOK_EVERY_NS` is looked at. A race
    between two helpers costs no more than a second look.
    """

    __slots__ = ("_due_ns", "waiting_share")

    def __init__(self) -> None:
        self._due_ns = 0
        self.waiting_share = 0.0

    def busy_ns(self) -> int | None:
        """Return the CPU time of this thread if the next call is to be looked at, else None."""
        now = clock_ns()
        if now < self._due_ns:
            return None
        self._due_ns = now + _LOOK_EVERY_NS
        return time.thread_time_ns()

    def look(self, ns: int, busy_ns: int) -> None:
        """Enter a call that took this long, and began at this CPU time of its thread."""
        self.waiting_share = max(0.0, 1 - (time.thread_time_ns() - busy_ns) / ns) if ns else 0.0


class Helpers:
    """So many threads; they end by `dismiss`, or when nobody holds this object any more.

    Args:
        threads: How many.

    Attributes:
        threads: As given.
        own: The mark of the process that has them.
        clock: Times their calls.

    Raises:
        OSError: There are not enough of them.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.own, self.clock = make_mark(), CallClock()
        self._calls: SimpleQueue[HelperCall | None] = SimpleQueue()
        self._lock = Lock()  # no call is put behind the end, where it would wait for ever
        # No method, and without this object: the threads would keep it for ever.
        self._end = weakref.finalize(self, _dismiss, self._calls, threads)
        self._end.atexit = False
        # A signal handler that raises within `start` would have it say that a thread that runs could not be started.
        with defer_signals():
            for number in range(threads):
                thread = threading.Thread(
                    target=_serve, args=(self._calls, self.clock), name=f"{THREAD_NAME}-{number}", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # "can't start new thread"
                    raise OSError(
                        errno.EAGAIN, f"{error}, the {number + 1}th of {threads}; check `ulimit -u`, or lower threads"
                    ) from error

    def submit(self, function: Callable[..., Any], *arguments: Any) -> HelperCall:
        """Have a call computed; calls are begun in the order of this.

        Raises:
            RuntimeError: The threads were dismissed, or are another process's.
        """
        self.check()
        call = HelperCall(function, arguments)
        with self._lock:
            if not self._end.alive:
                raise RuntimeError("the threads of this worker have ended: its loader was stopped")
            self._calls.put(call)
        return call

    def check(self) -> None:
        """Refuse to wait in a child that was forked since.

        Raises:
            RuntimeError: The threads are its parent's.
        """
        if not self.own[0]:
            raise RuntimeError(
                "this process was forked while threads of its parent computed samples or elements, and has no such "
                "threads: iterate anew here"
            )

    def dismiss(self) -> None:
        """Have the threads end, behind what they were given; not to be called by a handler that strikes a `submit`."""
        with self._lock:
            self._end()


class InOrder:
    """Several calls, whose results come in order; used by ``with``, whose end is that of all of them.

    Args:
        helpers: Who computes them.
        call: What is called,
        arguments: and with what, each time.
        patience_s: This thread computes the calls alone; after so many seconds the helpers come in. None: they compute
            them all.

    Attributes:
        helpers: As given.
        find_next: Asked when all calls are begun: returns those that come next, None if nobody knows them yet.
        is_given_up: What struck this thread while it waited has left calls at work: the helpers are not to be used
            again.
        is_over: All has come to its end.
        is_alone: This thread has computed all calls so far.
        beside_ns: Nanoseconds that helpers spent on the calls whose results were taken, without the time that this
            thread waited for them: what the calls took beyond the time of this thread.
    """

    def __init__(
        self, helpers: Helpers, call: Callable[..., Any], arguments: Iterable[tuple[Any, ...]],
        patience_s: float | None = None,
    ) -> None:  # fmt: skip
        self.helpers, self._call, self._arguments = helpers, call, iter(arguments)
        self.find_next: Callable[[], InOrder | None] | None = None
        self._next: InOrder | None = None
        self._call_alone = without_children(call, helpers.own)
        self._pending: deque[HelperCall] = deque()
        self.is_given_up = self.is_over = False
        self.beside_ns = 0
        self.is_alone = patience_s is not None
        if self.is_alone:
            self._lock = Lock()  # of the arguments, while a helper watches
            self._end = Lock()
            self._end.acquire()
            helpers.submit(self._watch, patience_s)

    def next(self) -> Any:
        """Return the next result.

        Raises:
            IndexError: There are no more.
            BaseException: What the call raised.
        """
        arguments = self._next_own()
        return self._take().result() if arguments is None else self._call_alone(*arguments)

    def next_error(self) -> tuple[Any, BaseException | None]:
        """Return the next result, or what was raised in its place.

        Raises:
            IndexError: There are no more.
        """
        arguments = self._next_own()
        if arguments is not None:
            try:
                return self._call_alone(*arguments), None
            except BaseException as error:
                return None, error
        call = self._take()
        error_of = call.exception()
        return (call.result(), None) if error_of is None else (None, error_of)

    def _next_own(self) -> tuple[Any, ...] | None:
        """Return the arguments of the next call, if this thread is to compute it."""
        if not self.is_alone:
            return None
        with self._lock:
            return next(self._arguments, None) if self.is_alone else None

    def _fill(self, ahead: int) -> None:
        """Begin calls, these or those that come next, until so many of them are not taken."""
        calls: InOrder | None = self
        while calls is not None and (ahead := calls._fill_own(ahead)):
            calls = calls._found_next()

    def _fill_own(self, ahead: int) -> int:
        """Begin these; return how many are missing when all of them are begun."""
        pending = self._pending
        while len(pending) < ahead:
            arguments = next(self._arguments, None)
            if arguments is None:
                return ahead - len(pending)
            pending.append(self.helpers.submit(self._call, *arguments))
        return 0

    def _found_next(self) -> "InOrder | None":
        if self._next is None and self.find_next is not None:
            self._next = self.find_next()
        return self._next

    def _watch(self, patience_s: float) -> None:
        """Wait for the end of the batch, in a helper thread; have all helpers come in if it is late."""
        if not self._end.acquire(timeout=patience_s):
            with self._lock:
                self._fill(AHEAD * self.helpers.threads)
                # Only now: the worker's thread, which looks at this without the lock, goes on filling at once, and two
                # that fill side by side would put results out of order.
                self.is_alone = False

    def _take(self) -> HelperCall:
        self._fill(AHEAD * self.helpers.threads)
        call = self._pending[0]
        self._wait(call)
        self.beside_ns += call.ns
        return self._pending.popleft()

    def _wait(self, call: HelperCall) -> None:
        if not call.is_done:
            self.helpers.check()
            self.is_given_up = True  # until it is over: what is raised by the wait itself is not of the call
            started = clock_ns()
            call.wait()
            self.beside_ns -= clock_ns() - started
            self.is_given_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alone:
            with self._lock:
                self._arguments = iter(())  # it may be late just now
            self._end.release()
        at_work = [call for call in self._pending if not call.cancel()]
        while at_work and not self.is_given_up:
            self._wait(at_work.pop())
        self._pending.clear()
        self.find_next = self._next = None  # whoever gives the next calls holds these
        self.is_over = True


# By process, too: a child that is forked has the objects of its parent's threads, and none of the threads.
_shared: "weakref.WeakValueDictionary[tuple[int, int], Helpers]" = weakref.WeakValueDictionary()
_shared_lock = Lock()


def _unlock() -> None:
    global _shared_lock
    _shared_lock = Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_unlock)


def shared_helpers(threads: int) -> Helpers:
    """Return so many threads of this process, the same ones for all stages of datasets that ask for that number."""
    key = os.getpid(), threads
    with _shared_lock:
        helpers = _shared.get(key)
        if helpers is None:
            helpers = _shared[key] = Helpers(threads)
        return helpers


def _dismiss(calls: "SimpleQueue[HelperCall | None]", threads: int) -> None:
    for _ in range(threads):
        calls.put(None)


def _serve(calls: "SimpleQueue[HelperCall | None]", clock: CallClock) -> None:
    """The life of a helper thread."""
    own = make_mark()
    while (call := calls.get()) is not None:
        call.compute(own, clock)
        del call  # or an idle thread would keep the sample
