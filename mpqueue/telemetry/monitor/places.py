"""The folder of monitors' sockets, one for each process that is shown.

    $MPQUEUE_HOME/.monitor/      0700; without the variable, in the folder of all servers of this user
        4711-9f3c              socket of process 4711; 0600
        .4711-9f3c             the same, until it listens
    $MPQUEUE_HOME/.monitor-UID/  the same, if another user owns the first folder

A killed process leaves its socket. A connection to it fails, and the socket is then removed by the next request,
or by the next process that is shown.
"""

import contextlib
import os
import stat

from mpqueue.system import descriptors
from mpqueue.system.folders import base_of, is_of_others, make_or_check
from mpqueue.transport.listener import connect_at

NAME = ".monitor"
_TRIES = 100  # other processes may remove the folder at the same time


def folder() -> str:
    """Return the path of the folder for new sockets, which may not exist."""
    first, second = _folders()
    return second if is_of_others(first) else first


def _folders() -> tuple[str, str]:
    """Return the paths of the folders that may have sockets of this user: users may share ``MPQUEUE_HOME``."""
    first = os.path.join(_base(), NAME)
    return first, f"{first}-{os.geteuid()}"


def _base() -> str:
    chosen = os.environ.get("MPQUEUE_HOME")
    return os.path.abspath(os.path.expanduser(chosen)) if chosen else base_of(os.geteuid())


def make() -> str:
    """Create the folder; return its path.

    Raises:
        ServiceError: It belongs to another user, or other users may write to it.
        OSError: It cannot be created.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed the parent folder
            if os.environ.get("MPQUEUE_HOME"):
                os.makedirs(_base(), 0o755, exist_ok=True)
            else:
                make_or_check(_base(), 0o700)
            make_or_check(folder(), 0o700)
            break
    return folder()


def new_path(place: str) -> tuple[str, str]:
    """Return the path of a new socket until it listens, and its final path."""
    name = f"{os.getpid()}-{os.urandom(4).hex()}"  # processes in two containers may have the same id
    return os.path.join(place, f".{name}"), os.path.join(place, name)


def remove(path: str) -> None:
    """Remove a socket, and the folders if they are empty."""
    place = os.path.dirname(path)
    with contextlib.suppress(OSError):
        os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(place)
        if not os.environ.get("MPQUEUE_HOME"):
            os.rmdir(os.path.dirname(place))


def sockets() -> list[str]:
    """Return the paths of this user's sockets."""
    paths = []
    for place in _folders():
        if is_of_others(place):
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(place) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid() and entry.name[0] != ".":
                        paths.append(entry.path)
    return sorted(paths)


def sweep() -> None:
    """Remove the sockets of processes that have exited."""
    # A process without an entry may be in another container, so try to connect. If another process has the id by now,
    # the next request will find out.
    for path in [path for path in sockets() if not os.path.exists(f"/proc/{pid_of(path)}")]:
        with contextlib.suppress(OSError):
            try:
                descriptors.close_object(connect_at(path, {os.geteuid()}))
            except ConnectionRefusedError:
                remove(path)


def pid_of(path: str) -> int:
    """Return the process id in a socket's name, or 0 without one."""
    text = os.path.basename(path).partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() else 0
