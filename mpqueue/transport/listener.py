"""Unix sockets at a path: `listen_at`, `connect_at` and `accept`.

Servers and monitors are found by a path in a folder of their user. The kernel reports the user at the other end (see
`credentials`), and there is no token. The queues of `mpqueue.tf1` listen at an `Address` and need one.

All sockets made here are noted in `mpqueue.system.descriptors`: each belongs to one process, and a forked child closes
its copy. Its `close_object` closes them.
"""

import os
import socket
from collections.abc import Collection

from mpqueue.system import descriptors
from mpqueue.transport.credentials import check_peer

MAX_PATH_BYTES = 107
"""Longest path that a socket can have, its NUL apart."""


def listen_at(
    path: str, *, until: str, mode: int, backlog: int, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket:
    """Return a socket that listens at a path, and does not block.

    Args:
        path: From which on who connects is answered.
        until: Its path until it listens; who finds it under the other one can connect.
        mode: Of the file.
        backlog: Connections that may wait.
        kind: Of the socket.

    Raises:
        OSError: There is no place for it, or no descriptor.
    """
    listener = unix_socket(kind)
    try:
        listener.bind(until)
        os.chmod(until, mode)
        listener.listen(backlog)
        listener.setblocking(False)  # who has connected may be gone before it is accepted
        # Last: who finds it under its name is answered, and not refused as by a socket that listens later.
        os.rename(until, path)
    except BaseException:
        descriptors.close_object(listener)
        raise
    return listener


def connect_at(
    path: str, uids: Collection[int], *, kind: socket.SocketKind = socket.SOCK_STREAM, waits: bool = False
) -> socket.socket:
    """Connect to who listens at a path, if it is one of these users.

    Args:
        path: Of the socket.
        uids: Users who may listen there.
        kind: Of the socket.
        waits: Wait while too many others do; the socket blocks then.

    Raises:
        ForeignPeer: Another user listens there.
        BlockingIOError: Too many others wait there.
        OSError: Nobody listens there, or this user may not connect.
    """
    connection = unix_socket(kind)
    try:
        connection.setblocking(waits)
        connection.connect(path)
        # Before a byte is sent or believed: the path may be anybody's by now.
        check_peer(connection, uids)
    except BaseException:
        descriptors.close_object(connection)
        raise
    return connection


def accept(listener: socket.socket, uids: Collection[int] | None) -> socket.socket:
    """Return the next connection, which does not block.

    Args:
        listener: Listens; does not block.
        uids: Users who may connect; None: the caller looks.

    Raises:
        ForeignPeer: It was another user's.
        OSError: Who connected is gone, or there are no descriptors left.
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


def unix_socket(kind: socket.SocketKind) -> socket.socket:
    """Return a new Unix socket that belongs to this process."""
    return descriptors.own_socket(socket.socket(socket.AF_UNIX, kind))
