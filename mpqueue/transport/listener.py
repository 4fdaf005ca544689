"""An owner listens on a Unix socket, and those who know where connect: by an `Address`, or by a path.

*An address* is what the pickled handles of a queue or a coordinator carry. Another process, which has unpickled a
handle or inherited it by a fork, connects at its first use. It does not connect while it unpickles: that happens in the
nursery, which must not get threads and connections that its forks would share. On Linux the socket has a random name in
the abstract namespace, which leaves nothing in the file system however the owner ends; elsewhere it is one in a private
folder of the temporary directory. When the owner is gone, anybody may take the name. So each end looks who the other
one is (see `credentials`): by its user, and by the token that only those have to whom a handle came.

*A path* in a folder of one user's is how servers and monitors are found, by whoever knows the folder. There the kernel
tells who the other end is, and there is no token.

    who listens                                who connects
    -----------                                ------------
    `Door`      an address, many connections   `connect`
    `listen_at` a path                         `connect_at`

All sockets made here are noted in `mpqueue.system.descriptors`: each belongs to one process, and a forked child closes
its copy. Its `close_object` closes them.
"""

import contextlib
import os
import socket
from collections.abc import Collection

from mpqueue.system import descriptors, platform_support
from mpqueue.system.interrupts import defer_signals
from mpqueue.transport.credentials import Address, ForeignPeer, Vetting, check_peer, new_token, prove
from mpqueue.transport.poller import READABLE, Poller

MAX_PATH_BYTES = 107
"""Longest path that a socket can have, its NUL apart."""

_BACKLOG = 128  # connections that wait while the owner is busy; more of them block in connect


class Door:
    """Listens at an address, and lets in who proves that it has the token.

        accept --> a stranger --its proof--> let in
                      |
                      +--> dropped: another user (at once), no proof, its end

    Args:
        poller: Waits for the listening socket, and for connections, also for those that were let in.
        path: Where to make the socket, in a folder of the caller's; None: where nobody else has one.

    Attributes:
        address: The address at which it listens.

    Raises:
        OSError: There is no place for a socket, or no descriptor.
    """

    def __init__(self, poller: Poller, path: str | None = None) -> None:
        self._poller, self._path = poller, path
        self._listener = _unix_socket(socket.SOCK_STREAM)
        try:
            self.address = Address(path or _new_path(), os.geteuid(), new_token())
            self._listener.bind(self.address.path)
            self._listener.listen(_BACKLOG)
            self._listener.setblocking(False)  # who has connected may be gone before it is accepted
        except BaseException:
            descriptors.close_object(self._listener)
            raise
        self._strangers: dict[int, Vetting] = {}
        poller.register(self._listener.fileno(), READABLE)

    def is_mine(self, fd: int) -> bool:
        """Return whether this descriptor, which is ready, is for `attend`."""
        return fd in self._strangers or fd == self._listener.fileno()

    def attend(self, fd: int) -> socket.socket | None:
        """See to a descriptor that is ready; return a connection that is to be let in, which does not block."""
        with defer_signals():  # what an interrupt made of a proof, its sender would wait for for ever
            if fd == self._listener.fileno():
                self._accept()
                return None
            vetting = self._strangers[fd]
            try:
                is_proven = vetting.hear()
            except OSError:  # it has not the token, or is gone
                self._poller.unregister(fd)
                descriptors.close_object(vetting.sock)
                is_proven = None
            # Let in, or dropped; else the rest of its proof is still to come.
            if is_proven is not False:
                del self._strangers[fd]
            return vetting.sock if is_proven else None

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # another user, or somebody who is gone
            connection = accept(self._listener, (os.geteuid(), 0))
            try:
                self._strangers[connection.fileno()] = Vetting(connection, self.address.token)
            except OSError:
                descriptors.close_object(connection)
                raise
            self._poller.register(connection.fileno(), READABLE)

    def forget(self) -> None:
        """Have nobody find the socket any more, before it is closed."""
        path = self._path or self.address.path
        if not path.startswith("\0"):
            with contextlib.suppress(OSError):
                os.unlink(path)
                if not self._path:
                    os.rmdir(os.path.dirname(path))  # made for it by `_new_path`

    def close(self) -> None:
        """Listen no more, and drop those who have not proven themselves; those who were let in are the caller's."""
        self.forget()
        for sock in (*(vetting.sock for vetting in self._strangers.values()), self._listener):
            self._poller.unregister(sock.fileno())
            descriptors.close_object(sock)
        self._strangers.clear()


def connect(address: Address) -> socket.socket:
    """Connect to the owner of an address; return a socket that blocks.

    Raises:
        ForeignPeer: It is gone, and somebody else listens there.
        ConnectionError: It is gone, or does not listen any more.
    """
    try:
        # Of its own user, too: it may be known by another number in another container.
        connection = connect_at(address.path, {address.uid, os.geteuid()}, waits=True)
        try:
            prove(connection, address.token)
        except BaseException:
            descriptors.close_object(connection)
            raise
    except ForeignPeer:
        raise
    except OSError as error:
        raise ConnectionError(f"nobody listens at {address} any more") from error
    return connection


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
    listener = _unix_socket(kind)
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
    connection = _unix_socket(kind)
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


def _new_path() -> str:
    if platform_support.HAS_ABSTRACT_ADDRESSES:
        return f"\0mpqueue-{os.urandom(16).hex()}"
    import tempfile

    return f"{tempfile.mkdtemp(prefix='mpqueue-')}/socket"  # the folder's mode is 0700


def _unix_socket(kind: socket.SocketKind) -> socket.socket:
    return descriptors.own_socket(socket.socket(socket.AF_UNIX, kind))
