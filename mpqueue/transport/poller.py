"""Waits for many descriptors, also from several threads.

Several threads may wait for one epoll at the same time. It accepts descriptors during a wait, and its own descriptor
can be polled.
"""

import select
import time
from typing import TypeAlias

from mpqueue.system.descriptors import descriptors
from mpqueue.system.platform_support import require_unpatched

READABLE, WRITABLE = select.POLLIN, select.POLLOUT  # the same numbers as EPOLLIN and EPOLLOUT

require_unpatched()  # `select.epoll` would be missing below

Events = list[tuple[int, int]]
Poller: TypeAlias = select.epoll


def make_poller() -> Poller:
    """Return a new poller, registered in `descriptors`; close it with `close_poller`."""
    with descriptors.apart_from_standard():
        poller = select.epoll()
    # A forked child shares the epoll itself: it would change the registrations of its parent, so it closes its copy.
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
    # Not `select.select`, which cannot watch numbers from 1,024 on.
    poll.register(fd, READABLE)
    return bool(poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000))


def has_hung_up(fd: int) -> bool:
    """Return whether the peer has closed the connection, even if there is data left to read."""
    # Without requested events, `poll` reports hang-ups and errors only, not readable data.
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
