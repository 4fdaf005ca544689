"""Connects a program to the queues of a server: those of one shared name are one queue for all that are connected.

    Hello("queues")  ------------------------------>    to the server's socket, as a consumer of batches
                     <------------------------------    Welcome: path and token of the hub; the connection ends
    the messages of a queue that is elsewhere  ---->    to the hub, see `mpqueue.tf1.queues.wire`

The hub serves processes of the server's own user only: all of them can write to the memory in which elements lie, so
that they trust each other with their data, as threads do. But nothing that one of them sends is run by another one.
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
_PAUSE_S = 0.02  # after a server that was gone before it answered


def connect(name: str, timeout: float | None = None, *, uid: int | None = None) -> "QueueConnection":
    """Use the queues of a server inside of a ``with`` block.

    A `FIFOQueue`, `PaddingFIFOQueue` or `RandomShuffleQueue` with a ``shared_name`` that is made in the block, in this
    thread or in one that is in no such block itself, is one queue for all processes that are connected to this server.
    It lives there until the server ends, and keeps its elements while nobody is connected. A queue without a
    ``shared_name`` stays this process's own. Queues that were made in the block work on after it.

    Workers of loaders and runners that are started in the block, and forked processes, are connected, too. Blocks may
    be nested: the innermost one counts.

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
        name: The server's name, or the path of its folder.
        timeout: Seconds to wait for a server that is not there yet; None: as long as it takes.
        uid: The user whose server is meant, by number; a server of any other user is refused. None: this user. Queues
            are for the server's own user, and root.

    Returns:
        The context manager; the connection is made when the block is entered.

    Raises:
        TypeError: ``name`` is no text, or ``timeout`` or ``uid`` no number.
        ValueError: It is no name of a server, or no user; or ``timeout`` is negative.
    """
    return QueueConnection(ServerDirectory.of(name, uid), checked_timeout(timeout))


class QueueConnection:
    """A block in which the queues of a server are used; see `connect`.

    Args:
        directory: Where the server lives.
        timeout: Seconds to wait for it, None: as long as it takes.
    """

    def __init__(self, directory: ServerDirectory, timeout: float | None) -> None:
        self._directory, self._timeout = directory, timeout
        self._entry: ExitStack | None = None

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            ServiceError: There was no server in time, or it has refused; or what has the name is another user's. The
                text says why.
            RuntimeError: The block was entered already.
        """
        if self._entry is not None:
            raise RuntimeError(f"{self!r} is entered already: call mpqueue.train.connect again for another block")
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
    """Ask a server where its queues are, and see that they can be used.

    Raises:
        ServiceError: There was no server in time, it has refused, or it cannot be reached from here.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        welcome = _greet(directory, deadline)
        if welcome is not None:
            break
        if deadline is not None and time.monotonic() >= deadline:
            raise ServiceError(
                f"the server {directory.name!r} ends each connection without an answer: see what it has logged"
            )
        time.sleep(_PAUSE_S)
    address = Address(_path_in(directory, welcome), directory.uid, bytes.fromhex(welcome.queues_token or ""))
    found = QueueDirectory(address, welcome.pid, welcome.name)
    try:
        connection(QueuePlace(address, 0, found.process_id, found.server))
    except OpError as error:
        raise ServiceError(
            f"the queues of the server {welcome.name!r} cannot be used from here, at {address}: {error}. Both "
            "must be of one user, on one machine; in containers that share the server's folder"
        ) from error
    return found


def _greet(directory: ServerDirectory, deadline: float | None) -> Welcome | None:
    """Exchange handshakes; None if the server was gone before it answered."""
    connection_to_server = directory.connect(deadline)
    try:
        patience = None if deadline is None else max(deadline, time.monotonic() + _ANSWER_S)  # it is there, and busy
        found = converse(
            connection_to_server, Hello(purpose="queues"), patience,
            f"the server {directory.name!r} has not answered in time: it is busy, or stopped by a signal",
        )  # fmt: skip
    finally:
        descriptors.close_object(connection_to_server)
    if found is None:
        return None
    welcome, fds = found
    close_descriptors(fds)  # an answer about queues has none
    return welcome


def _path_in(directory: ServerDirectory, welcome: Welcome) -> str:
    """The whole path of the hub's socket; a file's name is one in the folder of the server, as it is seen from here."""
    path = welcome.queues
    if not path:
        raise ServiceError(f"the server {directory.name!r} has no queues: it serves batches only (mpqueue.attach)")
    if path.startswith("\0"):
        return path
    if os.path.basename(path) != path:
        raise ServiceError(
            f"the server {directory.name!r} says that its queues are at {path!r}, which is no file of its"
        )
    return os.path.join(directory.folder, path)
