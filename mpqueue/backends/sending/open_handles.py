"""Handles that a source holds open, and whether several workers may use them.

A forked worker inherits the source with all its open handles:

=================  =================================================================================================
Handle             Treatment
=================  =================================================================================================
files              each worker reopens them, see `mpqueue.system.descriptors.open_files`
pipes, sockets     each of several readers would get a part of the bytes: an error if there are several workers;
                   the same for `multiprocessing.connection.Connection`
databases          sqlite3 and lmdb forbid the use of a handle in a child, though reading often works: one warning;
                   the same for asynchronous file systems of fsspec, which raise an error there
=================  =================================================================================================

Objects that contain sockets or pipes but were made for several processes are not examined: queues, locks and
coordinators of this package and of multiprocessing, executors, handlers of logging, and objects that have stored their
process id to detect a fork, as clients of databases do.

Threads share each file and its position. A lock in the source shows that its author has considered this; without one,
there is a warning.
"""

import io
import os
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from mpqueue.system.descriptors.open_files import OpenFile, can_reopen, writable_files
from mpqueue.system.processes.child_process import remembers_process
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.user_code.object_walk import Found, contents, is_a

_REMEDY = (
    "Open it in the workers instead (on first use, or in `worker_init`), and exclude it from pickling with __getstate__"
)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_DATABASES = {  # by module: names of classes that must not cross a fork
    "fsspec.asyn": ("AsyncFileSystem",),
    "sqlite3": ("Connection", "Cursor", "Blob"),
    "lmdb": ("Environment", "Transaction", "Cursor"),
}
_CONNECTIONS = "multiprocessing.connection"
_OF_PYTHON = ("multiprocessing.", "concurrent.futures.", "logging")
_MADE_FOR_PROCESSES = (*_OF_PYTHON, "mpqueue.tf1.queues.", "mpqueue.tf1.coordinat", "mpqueue.service.")


def files_in(source: Any, *, is_whole: bool = False) -> Iterator[tuple[Found, int]]:
    """Yield the Python objects that a source holds open for reading, with their descriptors.

    Args:
        source: The source.
        is_whole: Search long containers completely.
    """
    for found in contents(source, _is_end, is_whole=is_whole):
        fd = _descriptor_of(found.value)
        if fd is not None:
            yield found, fd


def opened_for_writing(source: Any, ours: Iterable[int] = ()) -> frozenset[OpenFile]:
    """Return the files that a source holds open for reading and writing.

    A missed file would make workers read wrong bytes. So if this process has such files at all, the whole source is
    searched until all are found.

    Args:
        source: The source.
        ours: Descriptors that do not belong to the source.
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
    """Check a source that workers will inherit by a fork.

    Raises:
        TypeError: Several workers would read from one pipe or socket, or from one file that cannot be reopened.
    """
    if workers > 1:
        for found, fd in files_in(source):
            if not (stat.S_ISCHR(os.fstat(fd).st_mode) or can_reopen(fd)):
                raise TypeError(
                    f"source{found.shown} is {_kind_of(fd)} ({found.value!r}), which {workers} worker processes would "
                    f"read from at the same position: each would get a part of the bytes. {_REMEDY}"
                )
    for library, names in _DATABASES.items():
        _warn_of_database(source, _kinds_of(library, names))


def _warn_of_database(source: Any, kinds: dict[type, str]) -> None:
    # One warning per library: next to a connection there may be its cursors.
    found = next(contents(source, lambda value: is_a(value, tuple(kinds))), None) if kinds else None
    if found is not None:
        shown = next(shown for kind, shown in kinds.items() if is_a(found.value, kind))
        warn_caller(
            f"source{found.shown} is a {shown} that was opened before the workers were forked, "
            f"which the library forbids: workers may read wrong data, or fail. {_REMEDY}",
            RuntimeWarning,
        )


def warn_of_threads(source: Any) -> None:
    """Warn of a file that several threads would read without a lock."""
    for found, fd in files_in(source):
        if (
            stat.S_ISREG(os.fstat(fd).st_mode)
            and next(contents(source, lambda value: is_a(value, _LOCKS)), None) is None
        ):
            warn_caller(
                f"source{found.shown} is an open file ({found.value!r}), and all worker threads share its position: "
                "a thread may seek between another thread's seek and read. Guard it with a lock in the source, "
                "open it in each thread (threading.local), or read with os.pread",
                RuntimeWarning,
            )
            return


def _kinds_of(library: str, names: Iterable[str]) -> dict[type, str]:
    """Return the classes of an imported library, with their names."""
    module = sys.modules.get(library)
    kinds = {getattr(module, name, None): f"{library}.{name}" for name in names}
    return {kind: shown for kind, shown in kinds.items() if isinstance(kind, type)}


def _is_end(value: Any) -> bool:
    return _is_open(value) or _is_made_for_processes(value)


def _is_open(value: Any) -> bool:
    is_connection = type(value).__module__ == _CONNECTIONS and hasattr(value, "fileno")
    return is_connection or is_a(value, io.IOBase) or _is_socket(value)


def _is_socket(value: Any) -> bool:
    socket = sys.modules.get("socket")  # a program that has not imported it has no sockets; importing it takes time
    return socket is not None and is_a(value, socket.socket)


def _is_made_for_processes(value: Any) -> bool:
    if any(kind.__module__.startswith(_MADE_FOR_PROCESSES) for kind in type(value).__mro__):
        return True
    return remembers_process(value)


def _descriptor_of(value: Any) -> int | None:
    if not _is_open(value):
        return None
    readable = getattr(value, "readable", True)  # a method of files, an attribute of connections; sockets have neither
    try:
        if not (readable() if callable(readable) else readable) or not _is_read_in_turn(value):
            return None
        fd = int(value.fileno())
    except (OSError, ValueError, AttributeError, TypeError):  # closed, in memory, partly initialised, or a mock
        return None
    return fd if fd >= 0 else None


def _is_read_in_turn(value: Any) -> bool:
    """Return False for sockets that give each process a whole item: datagrams, and connections to accept."""
    if not _is_socket(value):
        return True
    if value.type != sys.modules["socket"].SOCK_STREAM:
        return False
    value.getpeername()  # raises OSError if the socket is not connected
    return True


def _kind_of(fd: int) -> str:
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "an open file that cannot be reopened"
