"""Finds, from another process, the process that owns a coordinator or a queue.

The owner listens on a Unix socket and puts the address, a string, into the pickle of a handle. Another process, which
has unpickled the handle or inherited it by a fork, connects at its first use. It does not connect while it unpickles:
that happens in the nursery, which must not get threads and connections that its forks would share.

On Linux the address is a random name in the abstract namespace, which leaves nothing in the file system however the
owner ends; elsewhere it is a socket in a private folder of the temporary directory. Only processes of the same user
are let in.
"""

import contextlib
import os
import secrets
import shutil
import socket
import struct
import sys
import tempfile
from pathlib import Path

_BACKLOG = 128  # connections that wait while the owner is busy; more of them block in connect


def listen(path: str | None = None) -> tuple[socket.socket, str]:
    """Return a listening socket and its address.

    Args:
        path: Where to make the socket, in a folder of the caller's, who removes it; None: where nobody else has one.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path is not None:
        address = path
    elif sys.platform == "linux":
        address = f"\0mpqueue-{secrets.token_hex(16)}"
    else:
        address = f"{tempfile.mkdtemp(prefix='mpqueue-')}/socket"  # the folder's mode is 0700
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    listener.listen(_BACKLOG)
    return listener, address


def accept(listener: socket.socket) -> socket.socket | None:
    """Return the next connection, or None for one that another user tried to make, or that is gone already."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    if _is_of_this_user(connection):
        return connection
    connection.close()
    return None


def connect(address: str) -> socket.socket:
    """Connect to the owner.

    Raises:
        ConnectionError: It is gone, or does not listen any more.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address)
    except OSError as error:
        connection.close()
        raise ConnectionError(f"nobody listens at {address!r} any more") from error
    return connection


def forget(address: str) -> None:
    """Remove the folder that `listen` has made, so that nobody finds it any more; the listener is closed apart."""
    if not address.startswith("\0"):
        with contextlib.suppress(OSError):
            shutil.rmtree(Path(address).parent)


def process_id_of(connection: socket.socket) -> int:
    """Return the process id of the other end at the time it connected, 0 where the system does not know it."""
    if sys.platform != "linux":
        return 0
    return _credentials(connection)[0]


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    size = struct.calcsize("3i")
    process_id, user, group = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return process_id, user, group


def _is_of_this_user(connection: socket.socket) -> bool:
    if sys.platform != "linux":
        return True  # nobody else can reach into the folder
    return _credentials(connection)[1] in (os.geteuid(), 0)
