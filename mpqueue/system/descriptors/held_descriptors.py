"""Descriptors that C code closes when their last reference is dropped.

The `__del__` method of a class is Python code. So is the callback of `weakref.finalize`. A signal handler that raises
there (Ctrl-C) interrupts it: Python prints the exception and continues, the interrupt is lost, and the descriptor
remains open. So a `HeldDescriptor` has no such method. It refers to an object of a C type. Its deallocation closes
the descriptor. That object is an epoll, because `select.epoll.fromfd` accepts the descriptor of any file, and because
neither its deallocation nor its `close` warns. A file object of `io` would warn.

*Forks.* A child may close the parent's descriptors, and reuse their numbers. So it must not close them a second time,
and keeps the parent's objects until it exits.
"""

import fcntl
import os
import select
from collections.abc import Callable
from typing import Any, Self

from mpqueue.system.signals.weak_sets import Living


class HeldDescriptor:
    """A descriptor that is closed together with this object; a context manager closes it earlier.

    Args:
        make: A function that returns the descriptor. If it is a function of C, such as `os.open`, no handler can raise
            between its return and the first reference to the descriptor.
        arguments: Its arguments.

    Attributes:
        fd: The descriptor.

    Raises:
        Exception: ``make`` raised.
    """

    __slots__ = ("__weakref__", "_closer", "fd")

    def __init__(self, make: Callable[..., int], *arguments: Any) -> None:
        # In one call of C code, see `mpqueue.system.signals.locks`.
        [self._closer] = map(select.epoll.fromfd, map(make, *zip(arguments, strict=True)))
        self.fd = self._closer.fileno()
        _living.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def dup(self) -> int:
        """Return a duplicate with the same open file, which the caller closes."""
        return os.dup(self.fd)

    def above_standard(self) -> "HeldDescriptor":
        """Return this object, or one with a number above the standard streams."""
        return self if self.fd > 2 else HeldDescriptor(fcntl.fcntl, self.fd, fcntl.F_DUPFD_CLOEXEC, 3)

    def close(self) -> None:
        """Close the descriptor now; idempotent. No other thread may be using it."""
        self._closer.close()


_living: Living[HeldDescriptor] = Living()
_of_parents: list[HeldDescriptor] = []
os.register_at_fork(after_in_child=lambda: _of_parents.extend(_living))
# With its fork hooks, the interpreter keeps this list until its exit has flushed all files. That includes a file of a
# child that has reused a number.
os.register_at_fork(before=_of_parents.__len__)
