"""A lock for what threads hold long and take again and again; it does not let them form a convoy.

A `threading.Lock` is given to a thread that sleeps before it while that thread has no interpreter lock::

    A  ...read]     [compute ........ wants the lock: sleeps      ...read] [compute ... sleeps
    B  sleeps  gets the lock, waits for the interpreter ─► [read] [compute ... wants the lock: sleeps

A runs on and finds the lock taken by B, which cannot run before A sleeps. From then on every piece of work costs two
switches of threads, and this does not end by itself. It begins when a thread is interrupted while it holds the lock,
which is the likelier the longer it holds it. (Where other programs keep the processors busy, a woken thread comes late
and A is faster: so such a program got slower on a quiet machine. Two threads of a runner that read and decode csv made
3,800 examples/s, with this lock 5,900; one thread alone makes 6,000.)

Here a release only wakes a thread. The lock is taken by whoever comes first while it runs, mostly the thread that has
just released it, which goes on for its whole share of time. So there is no order among the threads.

A signal handler that raises finds it taken and the block entered, or neither, and a release is never lost: the lock is
taken as in `mpqueue.system.locks`, and what a ``with`` statement calls at its end is C code, which does its work before
Python looks for signals. That is one call for the lock, and one that wakes a thread, each the end of its own::

    with lock.waking, lock:
        ...

The other way round a thread would be woken too early, and where the waking is left out none would be.
"""

import queue
import threading
import time
from typing import Any

_AT_ONCE = (False,)


class _Waking:
    """Wakes a thread when its block ends: one that sleeps, or the next one that wants to."""

    __slots__ = ("__exit__",)

    def __init__(self, released: "queue.SimpleQueue[Any]") -> None:
        # It is called with three arguments, of which the latter two say how long to wait for room: it never does.
        self.__exit__ = released.put

    def __enter__(self) -> None:
        pass


class BargingLock:
    """A lock that a woken thread has to take itself; not reentrant.

    Attributes:
        waking: What a ``with`` statement enters before the lock.
    """

    __slots__ = ("__exit__", "_lock", "_released", "waking")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A thread that takes something from here tries to take the lock next. So whoever lets go of the lock, or takes
        # from here and does not try, puts something there.
        self._released: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.waking = _Waking(self._released)
        self.__exit__ = self._lock.__exit__

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock, at the latest after so many seconds; False if they are over. None waits for ever."""
        released = self._released
        while not released.empty():  # of releases for which nobody slept; it is tried next in any case
            self._take_one(0.0)
        # Behind the building of a list Python looks for no signals, nor where a function of Python's returns.
        (has_lock,) = [*map(self._lock.acquire, _AT_ONCE)]
        return has_lock or self._wait(timeout)

    def release(self) -> None:
        """Let go of it, and wake a thread; where a handler may raise, that is what ``with`` is for."""
        self._lock.release()
        self._released.put(None)

    def _wait(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        has_lock, is_over = False, False
        while not has_lock and not is_over:
            is_over = not self._take_one(None if deadline is None else max(0.0, deadline - time.monotonic()))
            (has_lock,) = [*map(self._lock.acquire, _AT_ONCE)]
        return has_lock

    def _take_one(self, timeout: float | None) -> bool:
        try:
            self._released.get(timeout=timeout)
        except queue.Empty:
            return False
        return True

    def __enter__(self) -> None:
        self.acquire()
