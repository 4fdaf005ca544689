"""Finds, from another process, the process that owns a coordinator or a queue.

The owner listens on a Unix socket and puts the `Address` into the pickle of a handle. Another process, which
has unpickled the handle or inherited it by a fork, connects at its first use. It does not connect while it unpickles:
that happens in the nursery, which must not get threads and connections that its forks would share.

On Linux the socket has a random name in the abstract namespace, which leaves nothing in the file system however the
owner ends; elsewhere it is one in a private folder of the temporary directory. When the owner is gone, anybody may take
the name: so both ends look who the other one is (see `credentials`), by its user, and by the token that is a part of
the address and that only those have to whom a handle came.
"""

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path

from mpqueue.system import platform_support
from mpqueue.transport.credentials import Address, ForeignPeer, Vetting, check_peer, credentials_of, new_token, prove

_BACKLOG = 128  # connections that wait while the owner is busy; more of them block in connect


def listen(path: str | None = None) -> tuple[socket.socket, Address]:
    """Return a listening socket and its address.

    Args:
        path: Where to make the socket, in a folder of the caller's, who removes it; None: where nobody else has one.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path is not None:
        address = path
    elif platform_support.HAS_ABSTRACT_ADDRESSES:
        address = f"\0mpqueue-{secrets.token_hex(16)}"
    else:
        address = f"{tempfile.mkdtemp(prefix='mpqueue-')}/socket"  # the folder's mode is 0700
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    listener.listen(_BACKLOG)
    return listener, Address(address, os.geteuid(), new_token())


def accept(listener: socket.socket, address: Address) -> Vetting | None:
    """Return the next connection, which has still to prove itself; None for one of another user, or that is gone.

    Args:
        listener: Listens.
        address: Its address.
    """
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    connection.setblocking(False)
    try:
        check_peer(connection, (os.geteuid(), 0))
        return Vetting(connection, address.token)
    except OSError:
        connection.close()
        return None


def connect(address: Address) -> socket.socket:
    """Connect to the owner.

    Raises:
        ForeignPeer: It is gone, and somebody else listens there.
        ConnectionError: It is gone, or does not listen any more.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address.path)
        # Of its own user, too: it may be known by another number in another container.
        check_peer(connection, {address.uid, os.geteuid()})
        prove(connection, address.token)
    except ForeignPeer:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        raise ConnectionError(f"nobody listens at {address} any more") from error
    except BaseException:
        connection.close()
        raise
    return connection


def forget(address: Address) -> None:
    """Remove the folder that `listen` has made, so that nobody finds it any more; the listener is closed apart."""
    if not address.path.startswith("\0"):
        with contextlib.suppress(OSError):
            shutil.rmtree(Path(address.path).parent)


def process_id_of(connection: socket.socket) -> int:
    """Return the process id of the other end at the time it connected, 0 where the system does not know it."""
    return credentials_of(connection).pid
