"""Authentication of the peer of a connection, by the kernel's credentials and by a token.

*Credentials.* The kernel knows the user at each end: of the process that connected, and of the one that listens. A
connecting process checks them, too, before it sends or believes a byte: if the owner of a name is not running, any user
of the machine can take that name.

*Token.* The owner of a queue or a coordinator, or the trainer of an agent, creates 32 random bytes. The token travels
with the handle and is never sent over the connection. Both ends prove that they know it::

    listener                                   connecting process
    ────────                                   ──────────────────
    a challenge, 16 random bytes      ───►     checks the kernel's credentials
                                      ◄───     its own challenge, and the proof of both
    the proof of both                 ───►     the protocol begins

A proof is a keyed digest of both challenges and of the role of the sender. So it is invalid for any other connection
and for the other role. Credentials distinguish users. The token distinguishes processes of one user, as in two
containers with a shared network, and processes on other machines, whose users the kernel does not know.

Servers have no token: they are found by name, and whoever could put a socket into their folder could also
read a token there. `mpqueue.system.paths.folders` checks the owner of the folder.
"""

import errno
import os
import socket
import struct
from collections.abc import Collection
from typing import NamedTuple

from mpqueue.system.descriptors import descriptors
from mpqueue.transport.framing import receive_exactly
from mpqueue.transport.poller import has_hung_up

_SO_PEERPIDFD = 77  # since Linux 6.5

# As long as the digest: a longer key would add nothing.
_TOKEN_BYTES = 32
_CHALLENGE_BYTES = 16
_PROOF_BYTES = 32
_CONNECTS, _LISTENS = b"connects", b"listens"
_UCRED = struct.Struct("iII")


class Credentials(NamedTuple):
    """The peer of a connection at the time of the connect; for the connecting side, at the time of the listen.

    Attributes:
        pid: Process id; 0 if it has no meaning here (another container).
        uid: User id.
        gid: Group id.
    """

    pid: int
    uid: int
    gid: int


class Address(NamedTuple):
    """The address of a listening process, as stored in its handles.

    Attributes:
        path: Path of the socket.
        uid: User id of the process.
        token: See the module's docstring.
    """

    path: str
    uid: int
    token: bytes

    def __repr__(self) -> str:
        return f"{self.path!r} of uid {self.uid}"  # without the token, which must not appear in messages


class ForeignPeer(ConnectionError):
    """The peer of a connection has the wrong user or no valid token."""


def credentials_of(connection: socket.socket) -> Credentials:
    """Return the kernel's credentials of the peer."""
    return Credentials(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def check_peer(connection: socket.socket, uids: Collection[int]) -> Credentials:
    """Return the credentials of the peer if it is one of these users.

    Raises:
        ForeignPeer: It is a different user.
    """
    peer = credentials_of(connection)
    if peer.uid not in uids:
        expected = " or ".join(map(str, sorted(set(uids))))
        raise ForeignPeer(f"expected a peer of uid {expected}, got uid {peer.uid}")
    return peer


def sentinel_of(connection: socket.socket, credentials: Credentials) -> int:
    """Return a pidfd of the peer's process.

    Returns:
        A descriptor, registered in `mpqueue.system.descriptors.descriptors`; close it with `close`.

    Raises:
        ProcessLookupError: The process has exited; its id may belong to another process.
        NotImplementedError: The exit of the process cannot be observed from here.
        OSError: The process has no free descriptors.
    """
    # The kernel's pidfd refers to the process that connected, even if its id was reused. Older kernels report only the
    # id.
    try:
        # The option has the size of an int, and the kernel opens the pidfd with the close-on-exec flag.
        return descriptors.own(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD))
    except OSError as error:
        if error.errno in {errno.ESRCH, errno.EINVAL}:
            raise ProcessLookupError(errno.ESRCH, f"process {credentials.pid} has ended") from error
        if error.errno != errno.ENOPROTOOPT:
            raise
    if credentials.pid == 0:
        raise NotImplementedError(
            "the peer runs in another container, and its exit cannot be observed from here: share the process ids "
            "(docker run --pid), or use Linux 6.5 or later"
        )
    sentinel = descriptors.own(os.pidfd_open(credentials.pid))
    # Check after opening: the id may have been reused before the open.
    if has_hung_up(connection.fileno()):
        descriptors.close(sentinel)
        raise ProcessLookupError(errno.ESRCH, f"process {credentials.pid} has ended")
    return sentinel


def new_token() -> bytes:
    """Return a new random token."""
    return os.urandom(_TOKEN_BYTES)


def _is_proof(received: bytes, expected: bytes) -> bool:
    import hmac

    # In constant time: the duration of `==` depends on the length of the common beginning.
    return hmac.compare_digest(received, expected)


def _proof(token: bytes, end: bytes, of_listener: bytes, of_caller: bytes) -> bytes:
    import hmac  # takes 4 ms, and many processes never need it

    return hmac.digest(token, end + of_listener + of_caller, "sha256")


class Vetting:
    """The listening end of a connection until the peer has proven that it knows the token.

    Calls block only if the socket blocks.

    Args:
        sock: The connection; not owned.
        token: The token.

    Attributes:
        sock: The connection.
    """

    def __init__(self, sock: socket.socket, token: bytes) -> None:
        self.sock, self._token = sock, token
        self._challenge, self._answer = os.urandom(_CHALLENGE_BYTES), b""
        # It fits into the empty buffer of a new connection, so it does not block.
        _send(sock, self._challenge)

    def hear(self) -> bool:
        """Read the received data; return True when the peer's proof was valid and this end's proof was sent.

        Raises:
            ForeignPeer: The proof is invalid.
            OSError: The connection was closed.
        """
        try:
            piece = self.sock.recv(_CHALLENGE_BYTES + _PROOF_BYTES - len(self._answer))
        except BlockingIOError:  # another thread has read it
            return False
        if not piece:
            raise ConnectionResetError("the peer closed the connection before its proof")
        self._answer += piece
        theirs, proof = self._answer[:_CHALLENGE_BYTES], self._answer[_CHALLENGE_BYTES:]
        if len(proof) < _PROOF_BYTES:
            return False
        if not _is_proof(proof, _proof(self._token, _CONNECTS, self._challenge, theirs)):
            raise ForeignPeer("the peer does not know the token of this process")
        _send(self.sock, _proof(self._token, _LISTENS, self._challenge, theirs))
        return True


def prove(sock: socket.socket, token: bytes) -> None:
    """Prove to the listening end of a connection that this process knows the token, and verify the listener's proof.

    Args:
        sock: The connection; blocking, or with a timeout.
        token: The token.

    Raises:
        ForeignPeer: The listener does not know the token.
        OSError: The connection was closed.
    """
    # The proof contains a challenge of each end, so it cannot be prepared or replayed.
    theirs, own = receive_exactly(sock, _CHALLENGE_BYTES), os.urandom(_CHALLENGE_BYTES)
    _send(sock, own + _proof(token, _CONNECTS, theirs, own))
    if not _is_proof(receive_exactly(sock, _PROOF_BYTES), _proof(token, _LISTENS, theirs, own)):
        raise ForeignPeer("the listener does not know the expected token")


def _send(sock: socket.socket, data: bytes) -> None:
    # Suppress SIGPIPE. TLS sockets take no flags; all of them are TCP.
    sock.sendall(data, socket.MSG_NOSIGNAL if sock.family == socket.AF_UNIX else 0)
