"""Facts that the engine and the queues exchange; neither imports the other.

A worker is told where its trainer's queues are, so that a queue with a shared name is the same one in both. The
trainer knows which processes have used its queues, or a server's: a generator function that did so is not replayed
after a death, because the queue knows what was taken, and would give the next elements to the replay.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mpqueue.transport.credentials import Address


class QueueDirectory(NamedTuple):
    """A process in which queues are found by their shared names.

    Attributes:
        address: The address at which it listens; None if it has no queues that could be shared.
        process_id: Its own.
        server: Its name if it is a server, else "".
    """

    address: "Address | None" = None
    process_id: int = 0
    server: str = ""


users: set[int] = set()
"""Ids of the processes that have connected to the queues of this one; of its workers until their end."""

report_use: Callable[[], None] | None = None
"""In a worker: tells the trainer that this process uses the queues of a server, which the trainer would not learn."""

directory: QueueDirectory | None = None
"""In a worker: where it finds queues by their names; set as it begins. Elsewhere None."""

provider: Callable[[], QueueDirectory | None] | None = None
"""Asked for the directory of queues: queues set it when they are imported."""


def directory_for_workers() -> QueueDirectory:
    """Return the directory for workers; one without an address if there are no queues that they could use."""
    if directory is not None:
        return directory
    return (provider() if provider is not None else None) or QueueDirectory()


def note_server_used() -> None:
    """This process uses the queues of a server from now on."""
    global report_use
    report, report_use = report_use, None  # once is enough
    if report is not None:
        report()
