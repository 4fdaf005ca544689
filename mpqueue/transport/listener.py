"""Unix sockets at a path: `listen_at`, `connect_at` and `accept`.

Servers are found by a path in a folder of their user. The kernel reports the user of the peer (see
`credentials`), without a token. The queues of `mpqueue.tf1` listen at an `Address` and need a token.

All sockets created here are registered in `mpqueue.system.descriptors.descriptors`: each belongs to one process, and a
forked child closes its copy. Close them with `close_object`.
"""

import errno
import os
import socket
from collections.abc import Callable, Collection

from mpqueue.system.descriptors import descriptors
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.transport.credentials import check_peer

_MAX_PATH_BYTES = 107  # of a socket's path, without the final NUL
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Errors of `accept` that leave the connection in the backlog. With any other error, the peer has disconnected."""


def listen_at(
    path: str, *, until: str, mode: int, backlog: int, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket:
    """Return a non-blocking socket that listens at a path.

    Args:
        path: The final path, where every connection is accepted.
        until: The path until the socket listens.
        mode: File mode of the socket.
        backlog: Maximum number of waiting connections.
        kind: Kind of the socket.

    Raises:
        OSError: The socket cannot be created at this path, or the process has no free descriptors.
    """
    listener = unix_socket(kind)
    try:
        call_with_path(listener.bind, until)
        # `bind` creates the file with the permissions that the umask allows, before anything could be set.
        os.chmod(until, mode)
        listener.listen(backlog)
        listener.setblocking(False)  # a peer may disconnect before it is accepted, and `accept` would block then
        # Rename last: a process that finds the socket under its final path can connect. Connections to a socket that
        # does not listen yet fail.
        os.rename(until, path)
    except BaseException:
        descriptors.close_object(listener)
        raise
    return listener


def connect_at(
    path: str, uids: Collection[int], *, kind: socket.SocketKind = socket.SOCK_STREAM, waits: bool = False
) -> socket.socket:
    """Connect to the listener at a path, if it belongs to one of these users.

    Args:
        path: Path of the socket.
        uids: Users who may listen there.
        kind: Kind of the socket.
        waits: Whether to block while the backlog is full; the socket is blocking then.

    Raises:
        ForeignPeer: A different user listens there.
        BlockingIOError: The backlog is full.
        OSError: No process listens there, or this user may not connect.
    """
    connection = unix_socket(kind)
    try:
        connection.setblocking(waits)
        # A Unix socket is connected as soon as it is in the backlog, so this does not wait for `accept`.
        call_with_path(connection.connect, path)
        # Check before sending or trusting a byte: any user may have taken the path.
        check_peer(connection, uids)
    except BaseException:
        descriptors.close_object(connection)
        raise
    return connection


def accept(listener: socket.socket, uids: Collection[int] | None) -> socket.socket:
    """Return the next connection, non-blocking.

    Args:
        listener: The listening socket, non-blocking.
        uids: Users who may connect; None if the caller checks this.

    Raises:
        ForeignPeer: A different user connected.
        OSError: The peer has disconnected, or the process has no free descriptors.
    """
    connection = descriptors.own_socket(listener.accept()[0])
    try:
        connection.setblocking(False)
        if uids is not None:
            check_peer(connection, uids)
    except BaseException:
        descriptors.close_object(connection)
        raise
    return connection


def call_with_path(method: Callable[[str], object], path: str) -> None:
    """Call ``bind`` or ``connect`` of a Unix socket with a path of any length.

    Raises:
        OSError: The call has failed, or the folder cannot be opened.
    """
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        method(path)
        return
    # The descriptor of its folder makes the path of the socket short enough.
    folder, name = os.path.split(path)
    with HeldDescriptor(os.open, folder, os.O_PATH | os.O_CLOEXEC) as held:
        method(f"/proc/self/fd/{held.fd}/{name}")


def unix_socket(kind: socket.SocketKind) -> socket.socket:
    """Return a new Unix socket that belongs to this process."""
    return descriptors.own_socket(socket.socket(socket.AF_UNIX, kind))
