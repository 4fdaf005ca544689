"""Tells who is at the other end of a connection, by the kernel's word and by a secret, and refuses what is foreign.

*The kernel* has noted the user of each end: of the process that connected, and of the one that listens. Whoever
connects asks it, too, before it sends or believes a byte: a name is free when its owner is gone, or has not come yet,
and any user of the machine may take it. Abstract names are even listed for all, in ``/proc/net/unix``.

*The token* is 32 random bytes that the owner of a queue or a coordinator, or the trainer of an agent, has made. It
travels with the handle and is never said over the connection: both ends prove that they have it::

    who listens                                who connects
    ───────────                                ────────────
    a challenge, 16 random bytes      ───►     asks the kernel whose process this is
                                      ◄───     a challenge of its own, and the proof of both
    the proof of both                 ───►     what follows

A proof is a keyed digest of both challenges and of the end that gives it, so that none fits another connection, or the
other end. The kernel tells users apart; the token tells apart who has the same user and is still somebody else, as in
two containers with one network, or who comes from another machine, of whose users the kernel knows nothing.

Servers and monitors have no token: they are found by a name, not by a handle, and whoever could put a socket into their
folder could read a token there. Whose the folder is, `mpqueue.system.folders` looks.
"""

import errno
import os
import socket
import struct
from collections.abc import Collection
from typing import NamedTuple

from mpqueue.system import descriptors, platform_support, socket_support
from mpqueue.transport.framing import receive_exactly
from mpqueue.transport.poller import has_hung_up

_SO_PEERPIDFD = 77  # since Linux 6.5

UNKNOWN = -1
"""The user, where the system does not tell; sockets are in private folders there."""

_TOKEN_BYTES = 32
_CHALLENGE_BYTES = 16
_PROOF_BYTES = 32
_CONNECTS, _LISTENS = b"connects", b"listens"
_UCRED = struct.Struct("iII")
# macOS, which the socket module does not name: <sys/un.h>, and struct xucred, of which the version comes first.
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2
_XUCRED = struct.Struct("IIh2xI")
_XUCRED_BYTES = 76


class Credentials(NamedTuple):
    """The other end of a connection, as it was when it connected (for who connects: when the other began to listen).

    Attributes:
        pid: Its process id, 0 if that means nothing here (another container), or the system does not tell.
        uid: Its user; `UNKNOWN`: the system does not tell.
        gid: Its group.
    """

    pid: int
    uid: int
    gid: int


class Address(NamedTuple):
    """A place where a process listens, as its handles carry it.

    Attributes:
        path: Of the socket.
        uid: The user of the process.
        token: See the module's head.
    """

    path: str
    uid: int
    token: bytes

    def __repr__(self) -> str:
        return f"{self.path!r} of uid {self.uid}"  # a token has no place in a message


class ForeignPeer(ConnectionError):
    """The other end of a connection is not who it should be.

    Attributes:
        credentials: Whose it is; None: it has no token.
    """

    def __init__(self, text: str, credentials: Credentials | None = None) -> None:
        super().__init__(text)
        self.credentials = credentials


def credentials_of(connection: socket.socket) -> Credentials:
    """Return who is at the other end, as the kernel has noted it."""
    if socket_support.HAS_PEER_CREDENTIALS:
        return Credentials(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))
    if platform_support.IS_MACOS:
        found = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES)
        _version, uid, _num_groups, gid = _XUCRED.unpack_from(found)
        return Credentials(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID), uid, gid)
    return Credentials(0, UNKNOWN, UNKNOWN)


def check_peer(connection: socket.socket, uids: Collection[int]) -> Credentials:
    """Return who is at the other end of a connection, if it is one of these users.

    Raises:
        ForeignPeer: It is none of them.
    """
    found = credentials_of(connection)
    if found.uid != UNKNOWN and found.uid not in uids:
        expected = " or ".join(map(str, sorted(set(uids))))
        raise ForeignPeer(f"the other end is of uid {found.uid}, expected {expected}", found)
    return found


def sentinel_of(connection: socket.socket, credentials: Credentials) -> int:
    """Return a pidfd of the process at the other end.

    Returns:
        A descriptor, noted in `mpqueue.system.descriptors`, whose `close` closes it.

    Raises:
        ProcessLookupError: The process has ended, and may be somebody else's by its id.
        NotImplementedError: Its end could not be seen from here.
        OSError: There are no descriptors left.
    """
    # Of the process that connected, whatever has become of its id; an older kernel knows the id only.
    try:
        return descriptors.own(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD))
    except OSError as error:
        if error.errno in {errno.ESRCH, errno.EINVAL}:
            raise ProcessLookupError(errno.ESRCH, f"process {credentials.pid} has ended") from error
        if error.errno != errno.ENOPROTOOPT:
            raise
    if credentials.pid == 0:
        raise NotImplementedError(
            "the other end runs in another container, and its end cannot be seen from here: share the process ids "
            "(docker run --pid), or use Linux 6.5 or later"
        )
    found = descriptors.own(os.pidfd_open(credentials.pid))
    # Behind the open: the id may have become a stranger's before it.
    if has_hung_up(connection.fileno()):
        descriptors.close(found)
        raise ProcessLookupError(errno.ESRCH, f"process {credentials.pid} has ended")
    return found


def new_token() -> bytes:
    """Return a token."""
    return os.urandom(_TOKEN_BYTES)


def _is_proof(given: bytes, right: bytes) -> bool:
    import hmac

    return hmac.compare_digest(given, right)


def _proof(token: bytes, end: bytes, of_listener: bytes, of_caller: bytes) -> bytes:
    import hmac  # 4 ms with what it imports, for those who meet others

    return hmac.digest(token, end + of_listener + of_caller, "sha256")


class Vetting:
    """The listening end of a connection, until the other end has proven that it has the token.

    Waits as the socket does: a call on one that does not block does not block.

    Args:
        sock: The connection; not owned.
        token: The token.

    Attributes:
        sock: As given.
    """

    def __init__(self, sock: socket.socket, token: bytes) -> None:
        self.sock, self._token = sock, token
        self._challenge, self._answer = os.urandom(_CHALLENGE_BYTES), b""
        _send(sock, self._challenge)

    def hear(self) -> bool:
        """Read what has come; return True when that was the proof, and this end's was sent.

        Raises:
            ForeignPeer: It was none.
            OSError: The connection has ended.
        """
        try:
            piece = self.sock.recv(_CHALLENGE_BYTES + _PROOF_BYTES - len(self._answer))
        except BlockingIOError:  # another thread has read it
            return False
        if not piece:
            raise ConnectionResetError("the other end has left")
        self._answer += piece
        theirs, proof = self._answer[:_CHALLENGE_BYTES], self._answer[_CHALLENGE_BYTES:]
        if len(proof) < _PROOF_BYTES:
            return False
        if not _is_proof(proof, _proof(self._token, _CONNECTS, self._challenge, theirs)):
            raise ForeignPeer("the other end has not the token of this one")
        _send(self.sock, _proof(self._token, _LISTENS, self._challenge, theirs))
        return True


def prove(sock: socket.socket, token: bytes) -> None:
    """Prove to the listening end of a connection that this one has the token, and have it prove the same.

    Args:
        sock: The connection; it blocks, or has a timeout.
        token: The token.

    Raises:
        ForeignPeer: The other end has not the token.
        OSError: The connection has ended.
    """
    # The proof has a challenge of either end in it: neither can be made ahead, or used again.
    theirs, own = receive_exactly(sock, _CHALLENGE_BYTES), os.urandom(_CHALLENGE_BYTES)
    _send(sock, own + _proof(token, _CONNECTS, theirs, own))
    if not _is_proof(receive_exactly(sock, _PROOF_BYTES), _proof(token, _LISTENS, theirs, own)):
        raise ForeignPeer("what listens there has not the token of the one that is looked for")


def _send(sock: socket.socket, data: bytes) -> None:
    # The user may have a handler of SIGPIPE. A TLS socket takes no flags, and ours are TCP.
    sock.sendall(data, socket_support.NO_SIGPIPE if sock.family == socket.AF_UNIX else 0)
