"""The index folder: its path, its errors, and the time of the last use of its files.

An index is never used again after its files have changed. Each process that opens a file of this folder therefore sets
its access time, so that ``find -atime`` can remove files that were not opened for long, even if the file system records
no accesses. If such a file is needed after all, it is created again. The modification time remains, because processes
that have the file open compare it.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from mpqueue.system.interrupts import not_of_handler

_REMEDY = "Indexes are stored there: pass another folder as index=, or set XDG_CACHE_HOME"
_DAY_S = 24 * 60 * 60


def cache_folder(chosen: str | os.PathLike[str] | None = None) -> str:
    """Return the absolute path of the index folder: ``chosen``, or ``$XDG_CACHE_HOME/mpqueue`` if it is None."""
    if chosen is not None:
        if not isinstance(chosen, str | os.PathLike):
            raise TypeError(f"index must be the path of a folder or None, got {chosen!r}")
        return os.path.abspath(os.fspath(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise FileNotFoundError(errno.ENOENT, f"This user has no home folder. {_REMEDY}", base)
    return os.path.join(base, "mpqueue")


@contextlib.contextmanager
def cache_errors(path: str) -> Iterator[None]:
    """Add the path of the cache file and the remedy to each `OSError` of the operating system."""
    try:
        yield
    except not_of_handler(OSError) as error:
        raise OSError(error.errno, f"{error.strerror}. {_REMEDY}", path) from error


def note_use(path: str) -> None:
    """Set the access time of a file unless it was used today; do nothing if that is not permitted."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        if time.time() - max(status.st_atime, status.st_mtime) > _DAY_S:
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
