"""Waits for many descriptors, also on behalf of several threads: `select.epoll`, or `select.poll` where there is none.

An epoll may be waited on by several threads at once, takes descriptors while it is waited on, and may itself be waited
for. `PollPoller` offers the same for systems without it: each wait polls a list of its own, and a pipe ends the waits
when the list changes.
"""

import errno
import select
import time
from typing import Protocol

from mpqueue.system import descriptors, platform_support
from mpqueue.system.wakeup import Wakeup

READABLE, WRITABLE = select.POLLIN, select.POLLOUT  # the same numbers as EPOLLIN and EPOLLOUT

Events = list[tuple[int, int]]


class Poller(Protocol):
    """Waits for events of descriptors; any thread may call any method."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Wait for these events of a descriptor, too."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Wait for other events of it."""

    def unregister(self, fd: int, /) -> None:
        """Wait for it no more."""

    def poll(self, timeout: float | None = None, /) -> Events:
        """Wait, at most so many seconds; the descriptors that are ready. It may return early, with none."""

    def fileno(self) -> int:
        """A descriptor that is readable when a wait would not wait."""

    def close(self) -> None:
        """Let go of its own descriptors."""


class PollPoller:
    """A poller over `select.poll`.

    Only one wait with a timeout other than 0 may be under way at a time: the pipe ends one of them.
    """

    def __init__(self) -> None:
        self._events: dict[int, int] = {}
        self._changed = Wakeup()

    def register(self, fd: int, eventmask: int) -> None:
        """Wait for these events of a descriptor, too."""
        self.modify(fd, eventmask)

    def modify(self, fd: int, eventmask: int) -> None:
        """Wait for other events of it."""
        self._events[fd] = eventmask
        self._changed.wake()

    def unregister(self, fd: int) -> None:
        """Wait for it no more."""
        self._events.pop(fd, None)
        self._changed.wake()

    def poll(self, timeout: float | None = None) -> Events:
        """Wait, at most so many seconds; the descriptors that are ready. It returns early when the list changes."""
        return self.poll_beside(timeout, -1)

    def poll_beside(self, timeout: float | None, beside: int) -> Events:
        """Wait for one more descriptor."""
        poll = select.poll()
        for fd, events in list(self._events.items()):
            poll.register(fd, events)
        for fd in (self._changed.fd, beside):
            if fd >= 0:
                poll.register(fd, READABLE)
        ready = poll.poll(None if timeout is None else timeout * 1000)
        if timeout != 0 and any(fd == self._changed.fd for fd, _ in ready):
            self._changed.clear()
        return [(fd, event) for fd, event in ready if fd != self._changed.fd]

    def fileno(self) -> int:
        """Raise: there is none."""
        raise OSError(errno.ENOSYS, "only an epoll can be waited for by its descriptor")

    def close(self) -> None:
        """Close the pipe."""
        self._changed.close()


class _Beside:
    """A `PollPoller` and one descriptor more."""

    def __init__(self, poller: PollPoller, fd: int) -> None:
        self._poller, self._fd = poller, fd

    def poll(self, timeout: float | None = None) -> Events:
        return self._poller.poll_beside(timeout, self._fd)

    def close(self) -> None:
        """Do nothing: it has no descriptor of its own."""


class Waitable(Protocol):
    """A poller whose list is fixed."""

    def poll(self, timeout: float | None = None, /) -> Events:
        """Wait as `Poller.poll` does."""

    def close(self) -> None:
        """Let go of its own descriptors."""


def make_poller() -> Poller:
    """A new poller, noted in `descriptors`; to be closed by `close_poller`."""
    if not platform_support.HAS_EPOLL:
        return PollPoller()
    poller = select.epoll()
    descriptors.own_object(poller)
    return poller


def make_poller_beside(poller: Poller, fd: int) -> Waitable:
    """One that waits for all that ``poller`` waits for, and for the descriptor; to be closed by `close_poller`."""
    if isinstance(poller, PollPoller):
        return _Beside(poller, fd)
    both = select.epoll()
    descriptors.own_object(both)
    both.register(poller.fileno(), READABLE)
    both.register(fd, READABLE)
    return both


def close_poller(poller: Waitable) -> None:
    """Close what was made here."""
    descriptors.close_object(poller)


def wait_readable(fd: int, deadline: float | None) -> bool:
    """Wait until a descriptor has something to read, or is at its end; return False if it has not by the deadline.

    Args:
        fd: The descriptor.
        deadline: By `time.monotonic`; None: as long as it takes.
    """
    poll = select.poll()
    poll.register(fd, READABLE)
    return bool(poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000))


def has_hung_up(fd: int) -> bool:
    """Return whether the other end is closed, whatever is still to be read of it."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
