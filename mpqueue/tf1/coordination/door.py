"""Authenticated sockets for the handles of queues and coordinators.

A pickled handle contains an `Address`. The owner of the queue or coordinator listens at it with a `Door`. A process
that has unpickled the handle, or inherited it by a fork, calls `connect` at its first use. It must not connect while
it unpickles, because that happens in the fork server, and its forks would share the threads and connections.

The socket has a random name in the abstract namespace, which leaves no file. After the owner has exited, any process
can take over the name. So each side checks the user of the other side, and that it knows the token of the handle (see
`mpqueue.transport.credentials`).
"""

import os
import select
import socket
import time

from mpqueue.errors import DeadlineExceededError
from mpqueue.system.descriptors import descriptors
from mpqueue.system.log import warn
from mpqueue.system.signals.deferred import allow_signals, defer_signals
from mpqueue.transport.credentials import Address, ForeignPeer, Vetting, new_token, prove
from mpqueue.transport.listener import SCARCE, accept, connect_at, unix_socket
from mpqueue.transport.poller import READABLE, Poller

_BACKLOG = 128  # connections that wait for `accept`; further ones block in `connect`
_PAUSE_S = 0.01


class Door:
    """A listening socket that accepts only connections that prove to know the token.

        accept --> unverified --proof--> returned to the caller
                      |
                      +--> closed: a different user (at once), a wrong proof, end of file

    Args:
        poller: Poller for the listening socket and all connections, including accepted ones.

    Attributes:
        address: The address that it listens at.

    Raises:
        OSError: The socket cannot be created, or there are not enough descriptors.
    """

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._listener = unix_socket(socket.SOCK_STREAM)
        try:
            self.address = Address(_new_path(), os.geteuid(), new_token())
            self._listener.bind(self.address.path)
            self._listener.listen(_BACKLOG)
            self._listener.setblocking(False)  # a client may disconnect before it is accepted
        except BaseException:
            descriptors.close_object(self._listener)
            raise
        self._strangers: dict[int, Vetting] = {}
        self._is_short = False
        poller.register(self._listener.fileno(), READABLE)

    def is_mine(self, fd: int) -> bool:
        """Return whether a ready descriptor must be passed to `attend`."""
        return fd in self._strangers or fd == self._listener.fileno()

    def attend(self, fd: int) -> socket.socket | None:
        """Handle a ready descriptor; return a non-blocking, verified connection if there is a new one."""
        # If an interrupt dropped a client's proof, the client would wait for an answer forever.
        with defer_signals():
            if fd == self._listener.fileno():
                self._accept()
                return None
            vetting = self._strangers[fd]
            try:
                is_proven = vetting.hear()
            except OSError:  # a wrong token, or the client has disconnected
                self._poller.unregister(fd)
                descriptors.close_object(vetting.sock)
                is_proven = None
            # True: verified. None: closed. False: the proof is incomplete.
            if is_proven is not False:
                del self._strangers[fd]
            return vetting.sock if is_proven else None

    def _accept(self) -> None:
        try:
            connection = accept(self._listener, (os.geteuid(), 0))
        except OSError as error:
            if error.errno in SCARCE:
                self._pause(error)
            return  # with any other error, it was a different user, or the client has disconnected
        self._is_short = False
        try:
            self._strangers[connection.fileno()] = Vetting(connection, self.address.token)
        except OSError:  # the client has disconnected
            descriptors.close_object(connection)
            return
        self._poller.register(connection.fileno(), READABLE)

    def _pause(self, error: OSError) -> None:
        """Wait before the next attempt: the socket remains readable, and polling it would use a whole CPU."""
        if not self._is_short:
            self._is_short = True
            warn(
                f"process {os.getpid()} cannot accept connections to its queues and coordinators: {error}; check "
                "`ulimit -n`. Other processes wait until it can"
            )
        time.sleep(_PAUSE_S)

    def close(self) -> None:
        """Close the listening socket and all unverified connections. The caller closes the verified ones."""
        for sock in (*(vetting.sock for vetting in self._strangers.values()), self._listener):
            self._poller.unregister(sock.fileno())
            descriptors.close_object(sock)
        self._strangers.clear()


def connect(address: Address, timeout: float | None = None) -> socket.socket:
    """Connect to the owner of an address; return a blocking socket.

    Args:
        address: The address.
        timeout: Maximum time in seconds to wait for the owner's first answer, or None.

    Raises:
        ForeignPeer: The owner has exited, and another process listens at the address.
        ConnectionError: The owner has exited or no longer listens.
        DeadlineExceededError: The owner has not answered within ``timeout``.
    """
    try:
        # Also accept this process's user: the owner's user may have a different number in another container.
        connection = connect_at(address.path, {address.uid, os.geteuid()}, waits=True)
        try:
            # The owner writes first. If it is stopped, only the timeout or a signal handler can end this wait.
            first = select.poll()
            first.register(connection, select.POLLIN)
            if not allow_signals(first.poll, None if timeout is None else timeout * 1000):
                text = (
                    f"The process at {address} did not answer within {timeout} s: it is busy, or stopped by a signal."
                )
                raise DeadlineExceededError(None, None, text)
            prove(connection, address.token)
        except BaseException:
            descriptors.close_object(connection)
            raise
    except (ForeignPeer, DeadlineExceededError):
        raise
    except OSError as error:
        raise ConnectionError(f"No process listens at {address}.") from error
    return connection


def _new_path() -> str:
    return f"\0mpqueue-{os.urandom(16).hex()}"
