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
"""

import contextlib
import threading
import time
from collections import deque


class BargingLock:
    """A lock that a woken thread has to take itself; not reentrant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()  # one gate for each thread that sleeps, held until it is woken

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock, at the latest after so many seconds; False if they are over. None waits for ever."""
        return self._lock.acquire(blocking=False) or self._wait(timeout)

    def release(self) -> None:
        """Let go of it, and wake the thread that has slept longest."""
        self._lock.release()
        self._wake_next()

    def _wait(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        is_woken, has_lock = True, False
        while is_woken and not has_lock:
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
            try:
                has_lock = self._lock.acquire(blocking=False)  # a release before the line above has woken nobody
                if not has_lock:
                    is_woken = gate.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic()))
                    has_lock = self._lock.acquire(blocking=False)
            finally:
                self._leave(gate, has_lock=has_lock)
        return has_lock

    def _leave(self, gate: threading.Lock, *, has_lock: bool) -> None:
        try:
            self._waiting.remove(gate)
        except ValueError:  # it was woken: who does not take the lock now wakes another thread instead
            if not has_lock and not self._lock.locked():
                self._wake_next()

    def _wake_next(self) -> None:
        if self._waiting:
            with contextlib.suppress(IndexError):  # its thread has left in this moment
                self._waiting.popleft().release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_exc_info: object) -> None:
        self.release()
