"""The index folder: its path, its files and their errors, and the time of their last use.

Several users may share such a folder, but not its files, see `open_kept`.

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

from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.system.paths.own_files import open_own

_REMEDY = "Indexes are stored there: pass another folder as index=, or set XDG_CACHE_HOME"
_NOT_OURS = "pass another folder as index=, one that only this user can write to, or remove the file"
_DAY_S = 24 * 60 * 60


def cache_folder(chosen: str | os.PathLike[str] | None = None) -> str:
    """Return the absolute path of the index folder: ``chosen``, or ``$XDG_CACHE_HOME/mpqueue`` if it is None."""
    if chosen is not None:
        if not isinstance(chosen, str | os.PathLike):
            raise TypeError(f"index must be the path of a folder or None, got {chosen!r}")
        return os.path.abspath(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise FileNotFoundError(errno.ENOENT, f"This user has no home folder. {_REMEDY}", base)
    return os.path.join(base, "mpqueue")


def open_kept(path: str, flags: int) -> HeldDescriptor:
    """Open a file of the index folder.

    Raises:
        PermissionError: Another user may have written the file; see `mpqueue.system.paths.own_files`.
        OSError: The file does not exist, or cannot be opened.
    """
    return open_own(path, flags, _NOT_OURS)


@contextlib.contextmanager
def cache_errors(path: str) -> Iterator[None]:
    """Add the path of the cache file and the remedy to each `OSError` of the operating system."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # an error of `open_kept`, which has a remedy
            raise
        raise OSError(error.errno, f"{error.strerror}. {_REMEDY}", path) from error


def note_use(fd: int) -> None:
    """Set the access time of an open file unless it was used today; ignore a lack of permission."""
    with contextlib.suppress(OSError):
        status = os.fstat(fd)
        if time.time() - max(status.st_atime, status.st_mtime) > _DAY_S:
            os.utime(fd, ns=(time.time_ns(), status.st_mtime_ns))
