"""Locks with an atomic ``with`` statement, even if a signal handler raises.

Up to Python 3.13, ``with lock:`` checks for signals before it acquires the lock, and then inside its block. From Python
3.14 on it also checks between the two: a Ctrl-C at that point leaves the lock locked, and the next thread that acquires
it hangs. (Of 7,954 timers that raised in a loop of ``with`` statements, 4,413 left it locked.)

Here the lock is acquired while a list is built, after which Python does not check for signals, nor when a Python
function returns. The exit is the interpreter's, which releases the lock before it checks.
"""

import sys
import threading
from collections.abc import Iterator
from itertools import starmap
from typing import Any, Protocol


class _Acquirable(Protocol):
    def acquire(self, blocking: bool = True) -> bool: ...

    def release(self) -> None: ...


def acquire(lock: _Acquirable, *, blocking: bool) -> bool:
    """Acquire a lock without ``with``, and return whether it was acquired; enter a ``try`` statement right after that.

    A signal handler that raised between the method ``acquire`` and that statement would leave the lock locked.
    """
    [is_acquired] = map(lock.acquire, (blocking,))
    return is_acquired


def releasing(lock: _Acquirable) -> Iterator[None]:
    """Return an iterator with one step, which releases a lock: ``_ = [*releases]`` does it without a check for signals.

    After a ``with`` statement, a signal handler may raise before the next line. Then the work done inside is lost.
    """
    return starmap(lock.release, ((),))


if sys.version_info >= (3, 14):
    import _thread

    _ONCE = (True,)

    class RLock(_thread.RLock):
        """A reentrant lock."""

        def __enter__(self) -> bool:
            _ = [*map(self.acquire, _ONCE)]
            return True

    class Lock:
        """A lock with the interpreter's methods, including ``__exit__``, where `with` finds it."""

        __slots__ = ("__exit__", "acquire", "locked", "release")

        def __init__(self) -> None:
            lock = _thread.allocate_lock()
            self.acquire, self.release = lock.acquire, lock.release
            self.locked, self.__exit__ = lock.locked, lock.__exit__

        def __enter__(self) -> bool:
            _ = [*map(self.acquire, _ONCE)]
            return True

else:
    RLock, Lock = threading.RLock, threading.Lock


def is_owned(lock: Any) -> bool:
    """Return whether the calling thread holds a reentrant lock."""
    owned: bool = lock._is_owned()  # a private method, which `threading.Condition` also uses
    return owned
