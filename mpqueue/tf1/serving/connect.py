"""Connects a program to the queues of a server. Queues with the same shared name are one queue for all programs.

    Hello("queues")  ------------------------------>    to the server's socket, as for a consumer of batches
                     <------------------------------    Welcome: path and token of the hub; the connection ends
    records of remote queues  --------------------->    to the hub, see `mpqueue.tf1.queues.wire`

The hub only serves processes of the server's own user, since all of them can write to the memory of the elements. Like
threads, they must trust each other with their data. But no process runs code that another process has sent.
"""

import os
import time
from contextlib import ExitStack
from typing import Self

from mpqueue.engine.queue_address import QueueDirectory
from mpqueue.errors import OpError, ServiceError
from mpqueue.service.handshake import Hello, Welcome
from mpqueue.service.server_directory import ServerDirectory, converse
from mpqueue.system import descriptors
from mpqueue.tf1.coordination.members import checked_timeout
from mpqueue.tf1.queues import lookup
from mpqueue.tf1.queues.lookup import Lookup
from mpqueue.tf1.queues.remote import connection
from mpqueue.tf1.queues.wire import QueuePlace
from mpqueue.transport.credentials import Address
from mpqueue.transport.framing import close_descriptors

_ANSWER_S = 5.0
_PAUSE_S = 0.02  # before the next attempt, if the server has closed the connection without an answer


def connect(name: str, timeout: float | None = None, *, uid: int | None = None) -> "QueueConnection":
    """Use the queues of a server inside a ``with`` block.

    Inside the block, a `FIFOQueue`, `PaddingFIFOQueue` or `RandomShuffleQueue` with a ``shared_name`` is one queue for
    all processes that are connected to the server. This applies to this thread, and to threads that are in no such
    block. The server owns the queue, which keeps its elements until the server stops, even if no program is connected.
    A queue without a ``shared_name`` is local. Queues that were created in the block remain usable after it.

    Workers of loaders and runners that are started in the block, and forked processes, are connected, too. Blocks can
    be nested; the innermost one applies.

    Example:
        Two programs with one queue::

            import mpqueue

            with mpqueue.Server("meeting", None):
                with mpqueue.train.connect("meeting", timeout=30):
                    queue = mpqueue.train.FIFOQueue(10, "int32", [()], shared_name="numbers")
                    queue.enqueue(7)
                with mpqueue.train.connect("meeting", timeout=30):  # in another program
                    same = mpqueue.train.FIFOQueue(10, "int32", [()], shared_name="numbers")
                    assert same.dequeue() == 7

    Args:
        name: The server's name, or the path of its directory.
        timeout: Maximum time in seconds to wait for the server to start. None: wait indefinitely.
        uid: Numeric id of the user that must own the server. None: this user. Only the server's own user and root can
            use its queues.

    Returns:
        A context manager. It connects when the block is entered.

    Raises:
        TypeError: ``name`` is not a string, or ``timeout`` or ``uid`` is not a number.
        ValueError: ``name`` is not a valid server name, ``uid`` is not a valid user, or ``timeout`` is negative.
    """
    return QueueConnection(ServerDirectory.of(name, uid), checked_timeout(timeout))


class QueueConnection:
    """Context manager for using the queues of a server; see `connect`.

    Args:
        directory: Directory of the server.
        timeout: Maximum time in seconds to wait for the server, or None.
    """

    def __init__(self, directory: ServerDirectory, timeout: float | None) -> None:
        self._directory, self._timeout = directory, timeout
        self._entry: ExitStack | None = None

    def __enter__(self) -> Self:
        """Connect to the server.

        Raises:
            ServiceError: The server did not start in time, rejected the connection, or belongs to a different user. The
                message states the reason.
            RuntimeError: The block was entered already.
        """
        if self._entry is not None:
            raise RuntimeError(f"{self!r} was entered already. Call mpqueue.train.connect again for another block.")
        directory = find_queues(self._directory, self._timeout)
        with ExitStack() as entry:
            entry.enter_context(lookup.at(Lookup(directory)))
            self._entry = entry.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._directory.name!r}: {'open' if self._entry is not None else 'closed'}>"


def find_queues(directory: ServerDirectory, timeout: float | None) -> QueueDirectory:
    """Request the address of a server's queues, and check that they are reachable.

    Raises:
        ServiceError: The server did not start in time, rejected the connection, or its queues cannot be reached.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        welcome = _greet(directory, deadline)
        if welcome is not None:
            break
        if deadline is not None and time.monotonic() >= deadline:
            raise ServiceError(
                f"Server {directory.name!r} closes each connection without an answer. See the server's log."
            )
        time.sleep(_PAUSE_S)
    address = Address(_path_in(directory, welcome), directory.uid, bytes.fromhex(welcome.queues_token or ""))
    queues = QueueDirectory(address, welcome.pid, welcome.name)
    try:
        place = QueuePlace(address, 0, queues.process_id, queues.server)
        connection(place, None if timeout is None else max(timeout, _ANSWER_S))
    except OpError as error:
        raise ServiceError(
            f"Cannot connect to the queues of server {welcome.name!r} at {address}: {error} Both processes must run as "
            "the same user on one machine. In containers, they must share the server's directory."
        ) from error
    return queues


def _greet(directory: ServerDirectory, deadline: float | None) -> Welcome | None:
    """Exchange handshakes; return None if the server closed the connection before it answered."""
    connection_to_server = directory.connect(deadline)
    try:
        # The server exists and may be busy, so wait at least `_ANSWER_S` for its answer.
        patience = None if deadline is None else max(deadline, time.monotonic() + _ANSWER_S)
        reply = converse(
            connection_to_server, Hello(purpose="queues"), patience,
            f"Server {directory.name!r} did not answer in time: it is busy, or stopped by a signal.",
        )  # fmt: skip
    finally:
        descriptors.close_object(connection_to_server)
    if reply is None:
        return None
    welcome, fds = reply
    close_descriptors(fds)  # answers about queues contain no descriptors
    return welcome


def _path_in(directory: ServerDirectory, welcome: Welcome) -> str:
    """Return the full path of the hub's socket. A file name is relative to the server's directory in this container."""
    path = welcome.queues
    if not path:
        raise ServiceError(f"Server {directory.name!r} has no queues. It serves only batches: use mpqueue.attach().")
    if path.startswith("\0"):
        return path
    # It must be a file name, because the server's directory may have a different path in this container.
    if os.path.basename(path) != path:
        raise ServiceError(
            f"Server {directory.name!r} sent the address {path!r} of its queues, which is not in its directory."
        )
    return os.path.join(directory.folder, path)
