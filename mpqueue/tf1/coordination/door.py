"""Sockets at an `Address`, which the pickled handles of queues and coordinators carry.

The owner of a queue or a coordinator listens with a `Door`. Another process, which has unpickled a handle or inherited
it by a fork, calls `connect` at its first use. It does not connect while it unpickles: that happens in the fork server,
which must not have threads and connections that its forks would share.

On Linux the socket has a random name in the abstract namespace, which leaves no file behind. On other systems it is in
a private folder of the temporary directory. After the owner has exited, any process can take the name. So each end
checks the user of the other one, and that it has the token of the handle (see `mpqueue.transport.credentials`). An
owner of a coordinator sends one word, and its proxies send reports. An owner of queues sends answers, and receives
records by a pipe.
"""

import contextlib
import os
import socket

from mpqueue.system import descriptors, platform_support
from mpqueue.system.interrupts import defer_signals
from mpqueue.transport.credentials import Address, ForeignPeer, Vetting, new_token, prove
from mpqueue.transport.listener import accept, connect_at, unix_socket
from mpqueue.transport.poller import READABLE, Poller

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
        self._listener = unix_socket(socket.SOCK_STREAM)
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


def _new_path() -> str:
    if platform_support.HAS_ABSTRACT_ADDRESSES:
        return f"\0mpqueue-{os.urandom(16).hex()}"
    import tempfile

    return f"{tempfile.mkdtemp(prefix='mpqueue-')}/socket"  # the folder's mode is 0700
