"""Locks whose ``with`` statement is entered as a whole, whatever a signal handler raises.

Up to Python 3.13 ``with lock:`` looks for signals before it takes the lock, and next in its block. From 3.14 on it also
looks between the two: a Ctrl-C that comes there leaves the lock taken, and whoever asks for it next, from another
thread or at the end, waits for ever. (Of 7,954 timers that raised in a loop of ``with``, 4,413 left it so.) Here the
lock is taken inside of a list's building, behind which Python looks for nothing, and the return of a function written
in Python is no place to look either. The exit stays that of the interpreter, which lets go before it looks.
"""

import sys
import threading

if sys.version_info >= (3, 14):
    import _thread

    _ONCE = (True,)

    class RLock(_thread.RLock):
        """A reentrant lock."""

        def __enter__(self) -> bool:
            _ = [*map(self.acquire, _ONCE)]
            return True

    class Lock:
        """A lock; its methods are those of the interpreter's, `with` finds its exit there, too."""

        __slots__ = ("__exit__", "acquire", "locked", "release")

        def __init__(self) -> None:
            lock = _thread.allocate_lock()
            self.acquire, self.release, self.locked, self.__exit__ = (
                lock.acquire, lock.release, lock.locked, lock.__exit__,
            )  # fmt: skip

        def __enter__(self) -> bool:
            _ = [*map(self.acquire, _ONCE)]
            return True

else:
    RLock, Lock = threading.RLock, threading.Lock
