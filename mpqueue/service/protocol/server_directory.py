"""The directory of a server: the folder under which consumers find it by name.

    photos/          0700, or 0711 if other users may attach: they can pass through it, but not list it
        lock         locked (`flock`) by the server of that name while it runs; contains its process id
        socket       the listening socket; mode 0600, or 0666 if the credentials of the peer decide
        new          the next socket before it listens; renamed to ``socket``
        made         exists if a server created the folder, so that the last one removes it

The kernel releases the lock when its holder exits, even after a crash. So a server that gets the lock owns the folder,
whatever a crashed predecessor left in it. A stopped server removes its socket and its lock, and the folder if a server
created it and it is empty.
"""

import contextlib
import errno
import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from mpqueue.errors import ServiceError
from mpqueue.plan.options.checks import is_integer
from mpqueue.service.protocol.handshake import Hello, Refusal, Welcome, decode_answer
from mpqueue.service.protocol.records import MAX_HANDSHAKE
from mpqueue.system.descriptors import descriptors
from mpqueue.system.log import warn
from mpqueue.system.paths.folders import base_of, check_whose, make_or_check
from mpqueue.system.paths.lock_files import LockInUse, lock_now, release
from mpqueue.system.platform_support import require_unpatched
from mpqueue.system.signals.deferred import allow_signals
from mpqueue.transport.credentials import ForeignPeer
from mpqueue.transport.framing import close_descriptors, receive_with_descriptors
from mpqueue.transport.listener import connect_at, listen_at
from mpqueue.transport.poller import wait_readable
from mpqueue.transport.records import ProtocolError

_BACKLOG = 512  # connections that can wait while the server is busy; further consumers retry
_SHORTEST_S, _LONGEST_S = 0.001, 0.02  # between two attempts of a consumer
_PATIENCE_S = 5.0  # before a wait without a timeout is logged: the name is often wrong
_DENIED_S = 0.5  # a folder that is being created denies access until it has its mode
_LOCK, _SOCKET, _NEW, _MADE = "lock", "socket", "new", "made"
_NOT_OURS = "remove it, or choose another name"
_LOOK_S = 0.2  # between two checks whether to keep waiting for an answer
_TRIES = 100  # attempts to create a folder that others remove at the same time


@dataclass(frozen=True)
class ServerDirectory:
    """The directory of a server, which may not exist yet. See `ServerDirectory.of`.

    Attributes:
        name: Name of the server.
        folder: Path of the folder.
        uid: The owner of the server.
        base: The parent folder of all servers of that user; None if the user has chosen another location.
    """

    name: str
    folder: str
    uid: int
    base: str | None = None

    @classmethod
    def of(cls, name: str, uid: int | None = None) -> Self:
        """Return the directory of a server.

        Args:
            name: A name, meaning ``$MPQUEUE_HOME/NAME``, ``$XDG_RUNTIME_DIR/mpqueue/NAME``, or
                ``mpqueue-UID/NAME`` in the folder for temporary files, in this order. With a slash, the path of the
                folder.
            uid: The owner of the server; None for the current user.

        Raises:
            TypeError: The name is not a string, or the user id not an integer.
            ValueError: The name cannot be the name of a folder, or the user id is out of range.
        """
        _check_name(name)
        uid = os.geteuid() if uid is None else checked_uid("uid", uid)
        if "/" in name:
            folder = os.path.abspath(os.path.expanduser(name))
            return cls(os.path.basename(folder), folder, uid)
        if chosen := os.environ.get("MPQUEUE_HOME"):
            return cls(name, os.path.join(os.path.abspath(os.path.expanduser(chosen)), name), uid)
        base = base_of(uid)
        return cls(name, os.path.join(base, name), uid, base)

    @property
    def socket_path(self) -> str:
        """The path of the listening socket."""
        return self._path(_SOCKET)

    def claim(self, *, is_open_to_others: bool) -> "Claim":
        """Become the only server of this name, and listen.

        Args:
            is_open_to_others: Allow other users to connect; the server decides which of them may attach.

        Raises:
            ServiceError: Another server has the name; or the folder belongs to another user, can be written by others,
                or cannot be created.
        """
        try:
            lock = self._lock(0o711 if is_open_to_others else 0o700)
            try:
                listener = self._listen(0o666 if is_open_to_others else 0o600)
            except BaseException:
                self._leave(lock)
                raise
        except LockInUse as holder:
            # A second server fails at once instead of waiting for the first one.
            raise ServiceError(
                f"the name {self.name!r} is in use by the server in {holder} (folder {self.folder}): stop that server, "
                "or use another name"
            ) from None
        except OSError as error:
            raise ServiceError(
                f"cannot serve {self.name!r} in {self.folder}: {error}. Use a folder of a local file system that this "
                "user can write, through the environment variable MPQUEUE_HOME or a path as the name"
            ) from error
        return Claim(self, listener, lock)

    def _lock(self, mode: int) -> int:
        """Return a descriptor of the lock file, locked."""
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):  # a stopping server has just removed the folder
                # Repeat from here: after a removal, the folder must be created again before the lock file.
                self._make_folder(mode)
                fd = lock_now(self._path(_LOCK), "the lock ", _NOT_OURS, ServiceError)
                if fd is not None:
                    return fd
        raise FileNotFoundError(errno.ENOENT, f"the folder was removed {_TRIES} times", self.folder)

    def _make_folder(self, mode: int) -> None:
        """Create the folder with this mode, or check an existing one."""
        if self.base is not None:
            make_or_check(self.base, mode)
        else:
            os.makedirs(os.path.dirname(self.folder), 0o755, exist_ok=True)
        if make_or_check(self.folder, mode):
            self._mark()  # even if another server gets the lock: it then removes the folder

    def _mark(self) -> None:
        os.close(os.open(self._path(_MADE), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def _listen(self, mode: int) -> socket.socket:
        # Bind under a temporary name and rename: a consumer that finds ``socket`` can connect at once.
        path = self._path(_NEW)
        _unlink(path)  # left by a server that was killed here
        return listen_at(self.socket_path, until=path, mode=mode, backlog=_BACKLOG, kind=socket.SOCK_SEQPACKET)

    def _leave(self, lock: int) -> None:
        """Remove the files of the server, and unlock."""
        try:
            # Unlink the lock last: while it exists, no other server can use the folder.
            for name in (_SOCKET, _NEW, _LOCK):
                _unlink(self._path(name))
            # From here on the next server may use the folder, so do not touch its files.
            # The file ``made`` is a token: the server that unlinks it removes the folder. If the next server is in the
            # folder already, put the token back for that server to find. If that server has left in the meantime
            # without finding it, repeat.
            while _unlink(self._path(_MADE)):
                if not set(os.listdir(self.folder)) <= {_SOCKET, _NEW, _MADE, _LOCK} or _is_removed(self.folder):
                    break
                self._mark()
                if os.path.lexists(self._path(_LOCK)):
                    break  # that server will unlink its lock first, and find the token then
            if self.base is not None:
                _is_removed(self.base)
        except FileNotFoundError:
            pass  # the folder was removed by another process
        finally:
            release(lock)

    def connect(self, deadline: float | None, is_wanted: Callable[[], bool] = lambda: True) -> socket.socket:
        """Connect to the server, and wait for one that is not running yet. A wait without a timeout is logged once.

        Args:
            deadline: When to give up, by `time.monotonic`; None for no limit.
            is_wanted: Returns whether to keep waiting; called before each further attempt.

        Returns:
            A blocking socket, registered in `mpqueue.system.descriptors.descriptors`; close it with `close_object`.

        Raises:
            ServiceError: No server was found until the deadline, this user may not connect, or the server belongs to
                another user than `uid`.
            RuntimeError: gevent or eventlet has patched this process.
        """
        require_unpatched()
        began, wait_s, is_told = time.monotonic(), _SHORTEST_S, deadline is not None
        final = math.inf if deadline is None else deadline
        while True:
            try:
                return self._connect()
            except ForeignPeer as error:
                raise ServiceError(
                    f"expected a server of uid {self.uid} at {self.socket_path}: {error}. Use another name, or set "
                    "MPQUEUE_HOME to another folder; to attach to another user's server, pass uid"
                ) from error
            # The server is not running yet, has crashed and left its socket, or has a full backlog.
            except (FileNotFoundError, ConnectionError, BlockingIOError, PermissionError) as error:
                reason: OSError = error
            except OSError as error:
                raise ServiceError(f"cannot connect to {self.socket_path}: {error}") from error
            now = time.monotonic()
            end = min(final, began + _DENIED_S) if isinstance(reason, PermissionError) else final
            if now >= end or not is_wanted():
                raise ServiceError(self._missing(reason, now - began)) from reason
            if not is_told and now - began >= _PATIENCE_S:
                is_told = True
                missing = self._missing(reason, now - began, has_timeout=False)
                warn(f"still waiting, because there is no timeout: {missing}")
            allow_signals(time.sleep, min(wait_s, end - now))
            # Short waits at first: a server and its consumers often start at the same moment.
            wait_s = min(wait_s * 1.5, _LONGEST_S)

    def _connect(self) -> socket.socket:
        # Another user may have created the folder first. In a folder that only the right user can write, no other user
        # can have put a socket, or a link to another server's socket.
        for folder in [self.folder] if self.base is None else [self.base, self.folder]:
            check_whose(folder, self.uid)
        # Connect without blocking: with a full backlog of a suspended server, a blocking call would hang.
        connection = connect_at(self.socket_path, {self.uid}, kind=socket.SOCK_SEQPACKET)
        connection.setblocking(True)
        return connection

    def _missing(self, reason: OSError, waited_s: float, *, has_timeout: bool = True) -> str:
        if isinstance(reason, PermissionError):
            return (
                f"uid {os.geteuid()} may not connect to {self.socket_path}: start the server with "
                f"allow_uids=({os.geteuid()},), in a folder that other users can reach"
            )
        if isinstance(reason, BlockingIOError):
            return f"the server at {self.socket_path} accepted no connection for {waited_s:.1f} s: is it suspended?"
        waited = f"within {waited_s:.1f} s" if has_timeout else f"after {waited_s:.1f} s"
        longer = ", or increase timeout" if has_timeout else ""
        return (
            f"found no server {self.name!r} at {self.socket_path} {waited}: start one (mpqueue.Server or mpqueue "
            f"serve){longer}. If it is running, pass the path of its folder as the name, or set MPQUEUE_HOME"
        )

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)


class Claim:
    """A server's hold on its name, until `close` or until the process exits.

    Args:
        directory: The directory.
        listener: The listening socket, non-blocking.
        lock: Descriptor of the locked file.
    """

    def __init__(self, directory: ServerDirectory, listener: socket.socket, lock: int) -> None:
        self.directory, self.listener = directory, listener
        self._lock, self._pid = lock, os.getpid()

    def close(self) -> None:
        """Release the name and remove the server's files; idempotent. Without effect in a forked child."""
        if self._lock < 0 or self._pid != os.getpid():
            return
        lock, self._lock = self._lock, -1
        descriptors.close_object(self.listener)
        self.directory._leave(lock)


def greet(connection: socket.socket, hello: bytes) -> None:
    """Send a handshake. A refusing server may have closed the connection already; see `receive_answer`."""
    with contextlib.suppress(ConnectionError):
        connection.send(hello, socket.MSG_NOSIGNAL)


def receive_answer(connection: socket.socket, most_bytes: int) -> tuple[bytes, list[int]]:
    """Return the server's answer and the descriptors received with it; empty if the server has exited."""
    # A server that refuses a user does not read the handshake, which resets the connection. The kernel reports the
    # reset once, before the refusal, so read twice.
    for _ in range(2):
        with contextlib.suppress(ConnectionResetError):
            return receive_with_descriptors(connection, most_bytes, 2)
    return b"", []


def converse(
    connection: socket.socket,
    hello: Hello,
    deadline: float | None,
    too_late: str,
    is_wanted: Callable[[], bool] = lambda: True,
) -> tuple[Welcome, list[int]] | None:
    """Exchange handshakes with a server.

    Args:
        connection: The connection.
        hello: The handshake of this process.
        deadline: When to give up, by `time.monotonic`; None for no limit.
        too_late: The error message for that case.
        is_wanted: Returns whether to keep waiting for the answer.

    Returns: The answer and the received descriptors, which the caller owns; None if the server has exited.

    Raises:
        ServiceError: The server has not answered in time or before the wait was canceled, has rejected this process, or
            has another version.
    """
    fds: list[int] = []
    try:
        greet(connection, hello.encode())
        if not _is_answered(connection, deadline, is_wanted):
            raise ServiceError(too_late)
        data, fds = receive_answer(connection, MAX_HANDSHAKE)
        answer = decode_answer(data) if data else None
        if isinstance(answer, Refusal):
            raise ServiceError(f"the server refused this process: {answer.refused}")
    except BaseException as error:
        close_descriptors(fds)
        if isinstance(error, ConnectionError):
            return None
        if isinstance(error, ProtocolError):
            raise ServiceError(f"the answer is not from a server of this version of mpqueue: {error}") from error
        raise
    if answer is None:
        close_descriptors(fds)
        return None
    return answer, fds


def _is_answered(connection: socket.socket, deadline: float | None, is_wanted: Callable[[], bool]) -> bool:
    """Wait for an answer; return False at the deadline, or as soon as `is_wanted` returns False."""
    # Another thread may close the consumer, and only this loop notices that: no descriptor wakes it.
    end = math.inf if deadline is None else deadline
    while is_wanted():
        if allow_signals(wait_readable, connection.fileno(), min(time.monotonic() + _LOOK_S, end)):
            return True
        if time.monotonic() >= end:
            break
    return False


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a server must be a string, got {name!r}; Server takes it before the source")
    try:
        name.encode()
    except UnicodeEncodeError:
        is_text = False
    else:
        is_text = name.isprintable()  # names appear in messages and logs
    if not is_text or name in {"", ".", ".."} or not name.strip("/"):
        raise ValueError(f'the name of a server must be the name or the path of a folder, like "photos", got {name!r}')


def checked_uid(name: str, uid: Any) -> int:
    """Return a user id as an int.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is out of range.
    """
    if not is_integer(uid):
        raise TypeError(f"{name} must be an integer user id, got {uid!r}")
    if not 0 <= int(uid) < 1 << 32:
        raise ValueError(f"{name} must be a user id from 0 to 2**32 - 1, got {uid!r}")
    return int(uid)


def _unlink(path: str) -> bool:
    """Remove a file; return False if it does not exist."""
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
