"""Addresses and process ids that workers and the queues exchange, so that neither side imports the other.

A worker receives the address of its trainer's queues, so that a queue with a shared name is the same queue in both. The
trainer records which processes have used its queues. After a worker crash, a generator function that used a queue is
not replayed: its elements were already taken from the queue, and the replay would get later ones.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mpqueue.transport.credentials import Address


class QueueDirectory(NamedTuple):
    """A process that serves queues by their shared names.

    Attributes:
        address: The address at which it listens; None if it has no queues to share.
        process_id: Its process id.
    """

    address: "Address | None" = None
    process_id: int = 0


users: set[int] = set()
"""Ids of the processes that have connected to the queues of this process; a worker's id is removed when it ends."""

directory: QueueDirectory | None = None
"""In a worker: where it finds queues by their names; set when the worker starts. None in other processes."""

provider: Callable[[], QueueDirectory | None] | None = None
"""Returns the directory of queues of this process; set when the queues are imported."""


def directory_for_workers() -> QueueDirectory:
    """Return the directory for workers; its address is None without queues to use."""
    if directory is not None:
        return directory
    return (provider() if provider is not None else None) or QueueDirectory()
