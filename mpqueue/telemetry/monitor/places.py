"""The folder of monitors' sockets: one for each process that shows what runs in it.

    $MPQUEUE_HOME/.monitor/      0700; else in the folder of all servers of this user
        4711-9f3c              of process 4711; 0600
        .4711-9f3c             the same, until it listens
    $MPQUEUE_HOME/.monitor-UID/  the same, where another user has the first one

A process that is killed leaves its socket behind. Nobody listens on it any more, which a connection tells; then it is
removed by whoever sees it: who asks, and the next process that shows itself.
"""

import contextlib
import os
import stat

from mpqueue.system import descriptors
from mpqueue.system.folders import base_of, is_of_others, make_or_check
from mpqueue.transport.listener import connect_at

NAME = ".monitor"
_TRIES = 100  # at a folder that others remove meanwhile


def folder() -> str:
    """Return the path of the folder for new sockets, which may not be there."""
    first, second = _folders()
    return second if is_of_others(first) else first


def _folders() -> tuple[str, str]:
    """Return the paths of the folders that may have sockets of this user: users may share a home of their servers."""
    first = os.path.join(_base(), NAME)
    return first, f"{first}-{os.geteuid()}"


def _base() -> str:
    chosen = os.environ.get("MPQUEUE_HOME")
    return os.path.abspath(chosen) if chosen else base_of(os.geteuid())


def make() -> str:
    """Make the folder; return its path.

    Raises:
        ServiceError: It is another user's, or others may write to it.
        OSError: It cannot be made.
    """
    base = _base()
    if os.environ.get("MPQUEUE_HOME"):
        os.makedirs(base, 0o755, exist_ok=True)
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):  # one that leaves has removed the base in this moment
            if not os.environ.get("MPQUEUE_HOME"):
                make_or_check(base, 0o700)
            make_or_check(folder(), 0o700)
            break
    return folder()


def new_path(place: str) -> tuple[str, str]:
    """Return the path of a new socket in a folder until it listens, and from then on."""
    name = f"{os.getpid()}-{os.urandom(4).hex()}"  # process ids of two containers may be the same
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
    """Return the paths of this user's sockets; none where there is no folder."""
    found = []
    for place in _folders():
        if is_of_others(place):
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(place) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid() and entry.name[0] != ".":
                        found.append(entry.path)
    return sorted(found)


def sweep() -> None:
    """Remove the sockets of processes that are gone."""
    for path in sockets():
        try:
            os.kill(pid_of(path) or os.getpid(), 0)
        except ProcessLookupError:  # or it is in another container
            if _is_dead(path):
                remove(path)
        except PermissionError:  # the id is another user's process's by now; who asks will see
            continue


def _is_dead(path: str) -> bool:
    try:
        descriptors.close_object(connect_at(path, {os.geteuid()}))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def pid_of(path: str) -> int:
    """Return the process id that a socket's name says, 0 if it says none."""
    text = os.path.basename(path).partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() else 0
