"""Waits for many descriptors, also from several threads: `select.epoll`, or `select.poll` on systems without epoll.

Several threads may wait for one epoll at the same time. It accepts descriptors during a wait, and its own descriptor
can be polled. `PollPoller` offers the same without epoll: each wait polls its own list, and a pipe ends the waits when
the list changes.
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
        """Watch a descriptor for these events."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Change the watched events of a descriptor."""

    def unregister(self, fd: int, /) -> None:
        """Stop watching a descriptor."""

    def poll(self, timeout: float | None = None, /) -> Events:
        """Wait for at most `timeout` seconds; return the ready descriptors. The result may be empty early."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when `poll` would return immediately."""

    def close(self) -> None:
        """Close its own descriptors."""


class PollPoller:
    """A poller that uses `select.poll`.

    If several threads wait with a timeout other than 0, the pipe may end only one of the waits, without an event. The
    caller must then wake the others.
    """

    def __init__(self) -> None:
        self._events: dict[int, int] = {}
        self._changed = Wakeup()

    def register(self, fd: int, eventmask: int) -> None:
        """Watch a descriptor for these events."""
        self.modify(fd, eventmask)

    def modify(self, fd: int, eventmask: int) -> None:
        """Change the watched events of a descriptor."""
        self._events[fd] = eventmask
        self._changed.wake()

    def unregister(self, fd: int) -> None:
        """Stop watching a descriptor."""
        self._events.pop(fd, None)
        self._changed.wake()

    def poll(self, timeout: float | None = None) -> Events:
        """Wait for at most `timeout` seconds; return the ready descriptors. Return early when the list changes."""
        poll = select.poll()
        # Use a copy of the list: other threads may change it during this wait, which then ends early.
        for fd, events in list(self._events.items()):
            poll.register(fd, events)
        poll.register(self._changed.fd, READABLE)
        ready = poll.poll(None if timeout is None else timeout * 1000)
        # With a timeout of 0, leave the pipe readable for the threads that wait.
        if timeout != 0 and any(fd == self._changed.fd for fd, _ in ready):
            self._changed.clear()
        return [(fd, event) for fd, event in ready if fd != self._changed.fd]

    def fileno(self) -> int:
        """Raise an `OSError`: a `PollPoller` has no descriptor."""
        raise OSError(errno.ENOSYS, "a poller without epoll has no descriptor to wait for")

    def close(self) -> None:
        """Close the pipe."""
        self._changed.close()


def make_poller() -> Poller:
    """Return a new poller, registered in `descriptors`; close it with `close_poller`."""
    if not platform_support.HAS_EPOLL:
        return PollPoller()
    with descriptors.apart_from_standard():
        poller = select.epoll()
    descriptors.own_object(poller)
    return poller


def close_poller(poller: Poller) -> None:
    """Close a poller of `make_poller`."""
    descriptors.close_object(poller)


def wait_readable(fd: int, deadline: float | None) -> bool:
    """Wait until a descriptor is readable or hung up; return False at the deadline.

    Args:
        fd: The descriptor.
        deadline: Time by `time.monotonic`; None for no limit.
    """
    poll = select.poll()
    poll.register(fd, READABLE)
    return bool(poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000))


def has_hung_up(fd: int) -> bool:
    """Return whether the peer has closed the connection, even if there is data left to read."""
    # Without requested events, `poll` reports hang-ups and errors only, not readable data.
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
