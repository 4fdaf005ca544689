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

    Of several waits with a timeout other than 0 the pipe may end only one, with no event: its caller tells the others.
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
        poll = select.poll()
        # By a copy of the list: other threads may change it, and end this wait then.
        for fd, events in list(self._events.items()):
            poll.register(fd, events)
        poll.register(self._changed.fd, READABLE)
        ready = poll.poll(None if timeout is None else timeout * 1000)
        # A look that does not wait leaves the pipe readable for those that do.
        if timeout != 0 and any(fd == self._changed.fd for fd, _ in ready):
            self._changed.clear()
        return [(fd, event) for fd, event in ready if fd != self._changed.fd]

    def fileno(self) -> int:
        """Raise: there is none."""
        raise OSError(errno.ENOSYS, "only an epoll can be waited for by its descriptor")

    def close(self) -> None:
        """Close the pipe."""
        self._changed.close()


def make_poller() -> Poller:
    """A new poller, noted in `descriptors`; to be closed by `close_poller`."""
    if not platform_support.HAS_EPOLL:
        return PollPoller()
    with descriptors.apart_from_standard():
        poller = select.epoll()
    descriptors.own_object(poller)
    return poller


def close_poller(poller: Poller) -> None:
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
    # No event is asked for: the end and errors are told always, and what is to be read is not.
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
