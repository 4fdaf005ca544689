"""The directory of a server: a folder of its own, by whose name consumers find it.

    photos/          0700, or 0711 if other users may attach: they pass through it, and list nothing
        lock         locked (`flock`) by the one server of that name, for as long as it lives; says its process id
        socket       on which it listens; 0600, or 0666: then the credentials of the peer decide
        new          the next socket, until it listens; renamed to ``socket``
        made         a server has made the folder, so that the last one removes it

The kernel drops the lock with its holder, however that ends, so a lock that can be had proves that what else lies in
the folder is nobody's: the next server takes it over. A server that leaves removes its socket and its lock, and the
folder too if a server has made it and it holds nothing else. One that waits for the lock file may then hold the lock of
a file that is gone; so whoever has locked it looks whether the name still leads to it, and else begins anew.

Servers come and leave while another one removes what it had. ``made`` is the token: the one that unlinks it, which it
does behind its own lock, sees to the folder. If the next server is in there by then, the token goes back for that one
to find; if that one has left meanwhile without it, its finder begins anew: the last one out removes the folder.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NoReturn, Self

from mpqueue.errors import ServiceError
from mpqueue.service.handshake import Hello, Refusal, Welcome, decode_answer
from mpqueue.service.records import MAX_HANDSHAKE
from mpqueue.system import descriptors
from mpqueue.system.folders import base_of, check_whose, make_or_check
from mpqueue.system.interrupts import allow_signals
from mpqueue.system.log import warn
from mpqueue.telemetry.monitor.places import NAME as MONITOR
from mpqueue.transport.credentials import ForeignPeer
from mpqueue.transport.framing import close_descriptors, receive_with_descriptors
from mpqueue.transport.listener import MAX_PATH_BYTES, connect_at, listen_at
from mpqueue.transport.poller import wait_readable
from mpqueue.transport.records import ProtocolError

_BACKLOG = 512  # connections that wait while the server is busy; for more of them, a consumer tries again
_SHORTEST_S, _LONGEST_S = 0.001, 0.02  # between two tries of a consumer
_PATIENCE_S = 5.0  # after which a wait without an end is told of: no such server is more often a mistake than early
_DENIED_S = 0.5  # a folder that a server is just making lets nobody in before it has its mode
_LOCK, _SOCKET, _NEW, _MADE = "lock", "socket", "new", "made"
_TRIES = 100  # at a folder that others remove meanwhile


@dataclass(frozen=True)
class ServerDirectory:
    """The folder of a server, made or not. See `ServerDirectory.of`.

    Attributes:
        name: Of the server.
        folder: Its path.
        uid: The user whose server lives there.
        base: The folder of all servers of that user, in which it lies; None: the user has chosen another place.
    """

    name: str
    folder: str
    uid: int
    base: str | None = None

    @classmethod
    def of(cls, name: str, uid: int | None = None) -> Self:
        """Return the directory of a server.

        Args:
            name: Its name, which stands for ``$MPQUEUE_HOME/NAME``, else ``$XDG_RUNTIME_DIR/mpqueue/NAME``, else
                ``mpqueue-UID/NAME`` in the folder for temporary files; or, with a slash in it, the path of the folder.
            uid: The user whose server it is; None: this one.

        Raises:
            TypeError: The name is no text, or the user no number.
            ValueError: It is no name of a folder, or its path is too long for a socket; or no number of a user.
        """
        _check_name(name)
        uid = os.geteuid() if uid is None else _checked_uid(uid)
        if "/" in name:
            folder = os.path.abspath(name)
            directory = cls(os.path.basename(folder), folder, uid)
        elif chosen := os.environ.get("MPQUEUE_HOME"):
            directory = cls(name, os.path.join(os.path.abspath(chosen), name), uid)
        else:
            base = base_of(uid)
            directory = cls(name, os.path.join(base, name), uid, base)
        length = len(os.fsencode(directory.socket_path))
        if length > MAX_PATH_BYTES:
            raise ValueError(
                f"the path {directory.socket_path} has {length} bytes, and a socket's may have {MAX_PATH_BYTES}: "
                "choose a shorter name, or a folder with a shorter path by the environment variable MPQUEUE_HOME"
            )
        return directory

    @property
    def socket_path(self) -> str:
        """The path of the socket on which the server listens."""
        return self._path(_SOCKET)

    def claim(self, *, is_open_to_others: bool) -> "Claim":
        """Become the one server of this name, and listen.

        Args:
            is_open_to_others: Let other users connect; who of them may attach, the server decides.

        Raises:
            ServiceError: Another server has the name; or the folder is another user's, or can be written by others, or
                cannot be had.
        """
        try:
            lock = self._lock(0o711 if is_open_to_others else 0o700)
            try:
                listener = self._listen(0o666 if is_open_to_others else 0o600)
            except BaseException:
                self._leave(lock)
                raise
        except OSError as error:
            raise ServiceError(
                f"cannot serve {self.name!r} in {self.folder}: {error}. Choose a folder of a local file system in "
                "which this user may write, by the environment variable MPQUEUE_HOME or by its path"
            ) from error
        return Claim(self, listener, lock)

    def _lock(self, mode: int) -> int:
        """Return the lock file, locked."""
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):  # a server that leaves has removed a folder in this moment
                self._make_folder(mode)
                # Not emptied here: another server may have it locked, and its process id is in it.
                fd = os.open(self._path(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                fd = descriptors.own(fd)  # or a forked child would hold the lock, too
                try:
                    if self._has_locked(fd):
                        os.ftruncate(fd, 0)
                        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
                        return fd
                except BaseException:
                    descriptors.close(fd)
                    raise
                descriptors.close(fd)
        raise FileNotFoundError(errno.ENOENT, "something removes it again and again", self.folder)

    def _has_locked(self, fd: int) -> bool:
        """Lock an open lock file; return False if it is no longer the one in the folder."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._refuse(fd)
        # Behind the lock: a server that has left meanwhile has unlinked this file, and another may have made the next.
        return os.path.samestat(os.fstat(fd), os.stat(self._path(_LOCK), follow_symlinks=False))

    def _refuse(self, fd: int) -> NoReturn:
        pid = os.pread(fd, 64, 0).decode("ascii", "replace").strip()
        raise ServiceError(
            f"{self.name!r} is served already, by process {pid or 'of unknown id'} (folder {self.folder}): "
            "stop that server, or choose another name"
        )

    def _make_folder(self, mode: int) -> None:
        """Have the folder, with the mode."""
        if self.base is not None:
            make_or_check(self.base, mode)
        else:
            os.makedirs(os.path.dirname(self.folder), 0o755, exist_ok=True)
        if make_or_check(self.folder, mode):
            self._mark()  # also if another server gets the lock, which then removes the folder

    def _mark(self) -> None:
        os.close(os.open(self._path(_MADE), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def _listen(self, mode: int) -> socket.socket:
        path = self._path(_NEW)
        _unlink(path)  # of one that was killed at this place
        return listen_at(self.socket_path, until=path, mode=mode, backlog=_BACKLOG, kind=socket.SOCK_SEQPACKET)

    def _leave(self, lock: int) -> None:
        """Remove what servers have made, and unlock."""
        try:
            # The lock last: while it has its name no other server is in the folder.
            for name in (_SOCKET, _NEW, _LOCK):
                _unlink(self._path(name))
            # From here on the next server may be in the folder: nothing of it is touched.
            while _unlink(self._path(_MADE)):
                if not set(os.listdir(self.folder)) <= {_SOCKET, _NEW, _MADE, _LOCK} or _is_removed(self.folder):
                    break
                self._mark()
                if os.path.lexists(self._path(_LOCK)):
                    break  # it unlinks its lock first, and finds the token then
            if self.base is not None:
                _is_removed(self.base)
        except FileNotFoundError:
            pass  # somebody has removed the folder
        finally:
            descriptors.close(lock)

    def connect(self, deadline: float | None, is_wanted: Callable[[], bool] = lambda: True) -> socket.socket:
        """Connect to the server; wait for one that is not there yet. A wait without an end is told of, once.

        Args:
            deadline: When to give up, by `time.monotonic`; None: never.
            is_wanted: Tells whether to wait on; asked before each further try.

        Returns:
            A blocking socket, noted in `mpqueue.system.descriptors`, whose `close_object` closes it.

        Raises:
            ServiceError: There was none until then, or this user may not connect; or what is there is another user's
                than the one whose server is looked for.
        """
        began, wait_s, is_told = time.monotonic(), _SHORTEST_S, deadline is not None
        reason: OSError
        while True:
            try:
                return self._connect()
            except ForeignPeer as error:
                raise ServiceError(self._foreign(error)) from error
            # It is not there yet; or has died, and left its socket; or so many wait there that none is taken now.
            except (FileNotFoundError, ConnectionError, BlockingIOError) as error:
                reason, end = error, deadline
            except PermissionError as error:
                denied = began + _DENIED_S
                reason, end = error, denied if deadline is None else min(denied, deadline)
            except OSError as error:
                raise ServiceError(f"cannot connect to {self.socket_path}: {error}") from error
            now = time.monotonic()
            if (end is not None and now >= end) or not is_wanted():
                raise ServiceError(self._missing(reason, now - began)) from reason
            if not is_told and now - began >= _PATIENCE_S:
                is_told = True
                warn(f"waiting on, as there is no timeout: {self._missing(reason, now - began)}")
            allow_signals(time.sleep, wait_s if end is None else min(wait_s, end - now))
            wait_s = min(wait_s * 1.5, _LONGEST_S)

    def _connect(self) -> socket.socket:
        # Who is first has the name: another user may have made the folder before our server came to do so. In one that
        # is the right user's alone, nobody else can have put a socket, or a link to another server's.
        for folder in [self.folder] if self.base is None else [self.base, self.folder]:
            check_whose(folder, self.uid)
        # Without waiting, or it would wait for ever for a server that is stopped.
        connection = connect_at(self.socket_path, {self.uid}, kind=socket.SOCK_SEQPACKET)
        connection.setblocking(True)
        return connection

    def _foreign(self, error: ForeignPeer) -> str:
        return (
            f"what listens at {self.socket_path} is no server of uid {self.uid}: {error}. Use another name, or another "
            "place by the environment variable MPQUEUE_HOME; if you mean another user's server, say whose by uid"
        )

    def _missing(self, reason: OSError, waited_s: float) -> str:
        if isinstance(reason, PermissionError):
            return (
                f"uid {os.geteuid()} may not connect to {self.socket_path}: its server has to be started with "
                f"allow_uids=({os.geteuid()},), in a folder that other users can reach"
            )
        if isinstance(reason, BlockingIOError):
            return f"the server at {self.socket_path} took no connection for {waited_s:.1f} s: is it stopped?"
        return (
            f"no server {self.name!r} after {waited_s:.1f} s: nobody listens at {self.socket_path}. Start one "
            f"(mpqueue.Server, mpqueue serve), wait longer (timeout), or, if it runs, give its folder as the name or "
            "in the environment variable MPQUEUE_HOME"
        )

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)


class Claim:
    """A server's hold on its name, until `close`; a process that ends in whatever way holds it no more.

    Args:
        directory: What is held.
        listener: Listens there, and does not block.
        lock: The locked file.
    """

    def __init__(self, directory: ServerDirectory, listener: socket.socket, lock: int) -> None:
        self.directory, self.listener = directory, listener
        self._lock, self._pid = lock, os.getpid()

    def close(self) -> None:
        """Give up the name, and leave nothing of it behind; idempotent, and nothing in a forked child."""
        if self._lock < 0 or self._pid != os.getpid():
            return
        lock, self._lock = self._lock, -1
        descriptors.close_object(self.listener)
        self.directory._leave(lock)

    def __repr__(self) -> str:
        return f"<Claim of {self.directory.folder}{' (closed)' if self._lock < 0 else ''}>"


def greet(connection: socket.socket, hello: bytes) -> None:
    """Send a handshake; one that has been refused before is answered, see `receive_answer`."""
    with contextlib.suppress(ConnectionError):
        connection.send(hello, socket.MSG_NOSIGNAL)


def receive_answer(connection: socket.socket, most_bytes: int) -> tuple[bytes, list[int]]:
    """Return the server's answer to a handshake, and the descriptors that came with it; empty if it is gone.

    A server that refuses a user does not read the handshake, which resets the connection. That is told once, and before
    the refusal.
    """
    for _ in range(2):
        with contextlib.suppress(ConnectionResetError):
            return receive_with_descriptors(connection, most_bytes, 1)
    return b"", []


def converse(
    connection: socket.socket, hello: Hello, deadline: float | None, too_late: str
) -> tuple[Welcome, list[int]] | None:
    """Exchange handshakes with a server.

    Args:
        connection: To it.
        hello: What this end says.
        deadline: When to give up, by `time.monotonic`; None: never.
        too_late: What to tell the user then.

    Returns: What it has said, and the descriptors that came with that, which are the caller's; None: it is gone.

    Raises:
        ServiceError: It has not answered in time, or has refused, or is of another version.
    """
    fds: list[int] = []
    try:
        greet(connection, hello.encode())
        if not allow_signals(wait_readable, connection.fileno(), deadline):
            raise ServiceError(too_late)
        data, fds = receive_answer(connection, MAX_HANDSHAKE)
        answer = decode_answer(data) if data else None
        if isinstance(answer, Refusal):
            raise ServiceError(f"the server refuses: {answer.refused}")
    except BaseException as error:
        close_descriptors(fds)
        if isinstance(error, ConnectionError):
            return None
        if isinstance(error, ProtocolError):
            raise ServiceError(f"what listens there is no server of this version of mpqueue: {error}") from error
        raise
    if answer is None:
        close_descriptors(fds)
        return None
    return answer, fds


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a server must be a str, got {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        is_text = False
    else:
        is_text = name.isprintable()  # names stand in messages and in logs
    if not is_text or name in {"", ".", ".."} or name.partition("-")[0] == MONITOR or not name.strip("/"):
        raise ValueError(
            f"the name of a server must be one that a folder can have, or the path of a folder, got {name!r}: "
            'use a name like "photos"'
        )


def _checked_uid(uid: Any) -> int:
    if isinstance(uid, bool) or not isinstance(uid, Integral):
        raise TypeError(f"uid must be the number of a user or None, got {uid!r}")
    if not 0 <= int(uid) < 1 << 32:
        raise ValueError(f"uid must be the number of a user, from 0 to 2**32 - 1, got {uid!r}")
    return int(uid)


def _unlink(path: str) -> bool:
    """Return False if it was not there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _is_removed(folder: str) -> bool:
    """Remove an empty folder; return False if it is not empty."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
