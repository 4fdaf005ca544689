"""Handles that a source holds open, and what several workers may do with them.

A worker process that is forked has the source with all that is open in it. What becomes of that:

    files           each worker reopens them, see `mpqueue.system.open_files`
    pipes, sockets  read by several workers, each gets a part of the bytes: refused, if there are several workers
    databases       sqlite3 and lmdb forbid to use a handle in a child, though reading often works: one warning

Threads have one file among them, too, and one place in it. A lock in the source tells that its author has seen to it;
without one there is a warning.
"""

import io
import os
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from mpqueue.engine.contents import Found, contents
from mpqueue.system.callers import outside_stacklevel
from mpqueue.system.open_files import can_reopen

_REMEDY = (
    "Open it in the workers instead (on first use, or in `worker_init`), and leave it out of what is sent with "
    "__getstate__"
)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_DATABASES = {"sqlite3": "Connection", "lmdb": "Environment"}  # by module: what of it must not cross a fork


def files_in(source: Any) -> Iterator[tuple[Found, int]]:
    """Find the files that a source holds open for reading, as Python's objects, with their descriptors."""
    for found in contents(source, _is_file):
        fd = _descriptor_of(found.value)
        if fd is not None:
            yield found, fd


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
    kinds = {getattr(sys.modules.get(name), kind, None): f"{name}.{kind}" for name, kind in _DATABASES.items()}
    for found in contents(source, lambda value: type(value) in kinds):
        warnings.warn(
            f"source{found.shown} is a {kinds[type(found.value)]} that was opened before the workers were forked, "
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


def _is_file(value: Any) -> bool:
    return isinstance(value, io.IOBase)


def _is_lock(value: Any) -> bool:
    return isinstance(value, _LOCKS)


def _descriptor_of(file: io.IOBase) -> int | None:
    try:
        return file.fileno() if file.readable() else None
    except (OSError, ValueError, AttributeError):  # it is closed, or lies in memory, or is half made
        return None


def _kind_of(fd: int) -> str:
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "an open file that cannot be opened anew"
