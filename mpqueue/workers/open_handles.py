"""Handles that a source holds open, and what several workers may do with them.

A worker process that is forked has the source with all that is open in it. What becomes of that:

    files           each worker reopens them, see `mpqueue.system.open_files`
    pipes, sockets  read by several workers, each gets a part of the bytes: refused, if there are several workers;
                    likewise `multiprocessing.connection.Connection`
    databases       sqlite3 and lmdb forbid to use a handle in a child, though reading often works: one warning

Not looked into are objects that hold sockets or pipes and were made for several processes: queues, locks and
coordinators of this package and of multiprocessing, executors, handlers of logging, and what has noted its process's id
to find out that it was forked, as clients of databases do.

Threads have one file among them, too, and one place in it. A lock in the source tells that its author has seen to it;
without one there is a warning.
"""

import io
import os
import stat
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from mpqueue.system.callers import outside_stacklevel
from mpqueue.system.contents import Found, contents, is_a
from mpqueue.system.open_files import OpenFile, can_reopen, writable_files

_REMEDY = (
    "Open it in the workers instead (on first use, or in `worker_init`), and leave it out of what is sent with "
    "__getstate__"
)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_DATABASES = {  # by module: what of it must not cross a fork
    "sqlite3": ("Connection", "Cursor", "Blob"),
    "lmdb": ("Environment", "Transaction", "Cursor"),
}
_CONNECTIONS = "multiprocessing.connection"
_MADE_FOR_PROCESSES = (
    "multiprocessing.", "concurrent.futures.", "logging",
    "mpqueue.tf1.queues.", "mpqueue.tf1.coordinat", "mpqueue.service.",
)  # fmt: skip


def files_in(source: Any, *, is_whole: bool = False) -> Iterator[tuple[Found, int]]:
    """Find what a source holds open for reading, as Python's objects, with their descriptors.

    Args:
        source: The source.
        is_whole: Long containers are gone through to their ends.
    """
    for found in contents(source, _is_end, is_whole=is_whole):
        fd = _descriptor_of(found.value)
        if fd is not None:
            yield found, fd


def opened_for_writing(source: Any, ours: Iterable[int] = ()) -> frozenset[OpenFile]:
    """Return the files that a source holds open for reading and writing.

    They have to be found wherever they are, or workers read wrong bytes; so the whole source is gone through, if this
    process has such files at all, until all are found.

    Args:
        source: The source.
        ours: Descriptors that are not the source's.
    """
    writable, named = writable_files(), set[OpenFile]()
    for fd in ours:
        writable.pop(fd, None)
    if writable:
        for _, fd in files_in(source, is_whole=True):
            if fd in writable:
                named.add(writable.pop(fd))
            if not writable:
                break
    return frozenset(named)


def refuse_what_forks_share(source: Any, workers: int) -> None:
    """Look through a source that workers are to inherit by a fork.

    Raises:
        TypeError: Several workers would read from one pipe or socket, or from one file that cannot be opened anew.
    """
    if workers > 1:
        for found, fd in files_in(source):
            if not (stat.S_ISCHR(os.fstat(fd).st_mode) or can_reopen(fd)):
                raise TypeError(
                    f"source{found.shown} is {_kind_of(fd)} ({found.value!r}), which {workers} worker processes would "
                    f"read from one place: each would get a part of it. {_REMEDY}"
                )
    for library, names in _DATABASES.items():
        _warn_of_database(source, _kinds_of(library, names))


def _warn_of_database(source: Any, kinds: dict[type, str]) -> None:
    # One warning for each library: beside a connection there may be its cursors.
    found = next(contents(source, lambda value: is_a(value, tuple(kinds))), None) if kinds else None
    if found is not None:
        shown = next(shown for kind, shown in kinds.items() if is_a(found.value, kind))
        warnings.warn(
            f"source{found.shown} is a {shown} that was opened before the workers were forked, "
            f"which its library forbids: workers may read wrong data, or fail. {_REMEDY}",
            RuntimeWarning,
            stacklevel=outside_stacklevel(),
        )


def warn_of_threads(source: Any) -> None:
    """Warn of a file that several threads would read without a lock."""
    for found, fd in files_in(source):
        if stat.S_ISREG(os.fstat(fd).st_mode) and next(contents(source, _is_lock), None) is None:
            warnings.warn(
                f"source{found.shown} is an open file ({found.value!r}), which all worker threads read from one place: "
                "between the seek of one and its read, another may seek. Guard it with a lock that the source holds, "
                "open it in each thread (threading.local), or read with os.pread",
                RuntimeWarning,
                stacklevel=outside_stacklevel(),
            )
            return


def _kinds_of(library: str, names: Iterable[str]) -> dict[type, str]:
    """Return the classes of a library that has been imported, and how they are called."""
    module = sys.modules.get(library)
    kinds = {getattr(module, name, None): f"{library}.{name}" for name in names}
    return {kind: shown for kind, shown in kinds.items() if isinstance(kind, type)}


def _is_end(value: Any) -> bool:
    return _is_open(value) or _is_made_for_processes(value)


def _is_open(value: Any) -> bool:
    return is_a(value, io.IOBase) or _is_socket(value) or _is_connection(value)


def _is_socket(value: Any) -> bool:
    socket = sys.modules.get("socket")  # a program that has not imported it has none; to import it takes time
    return socket is not None and is_a(value, socket.socket)


def _is_connection(value: Any) -> bool:
    return type(value).__module__ == _CONNECTIONS and hasattr(value, "fileno")


def _is_made_for_processes(value: Any) -> bool:
    if any(kind.__module__.startswith(_MADE_FOR_PROCESSES) for kind in type(value).__mro__):
        return True
    attributes = getattr(value, "__dict__", None)
    return isinstance(attributes, dict) and os.getpid() in (attributes.get("pid"), attributes.get("_pid"))


def _is_lock(value: Any) -> bool:
    return is_a(value, _LOCKS)


def _descriptor_of(value: Any) -> int | None:
    if not _is_open(value):
        return None
    readable = getattr(value, "readable", True)  # a method of files, an attribute of connections; sockets have none
    try:
        if not (readable() if callable(readable) else readable) or not _is_read_in_turn(value):
            return None
        fd = int(value.fileno())
    except (OSError, ValueError, AttributeError):  # it is closed, or lies in memory, or is half made
        return None
    return fd if fd >= 0 else None


def _is_read_in_turn(value: Any) -> bool:
    """Return False for sockets of which each process gets something whole: datagrams, and connections to accept."""
    if not _is_socket(value):
        return True
    if value.type != sys.modules["socket"].SOCK_STREAM:
        return False
    value.getpeername()  # raises an OSError if it is not connected
    return True


def _kind_of(fd: int) -> str:
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "an open file that cannot be opened anew"
