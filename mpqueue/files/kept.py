"""The contents of the index folder: the size of its files, and the time since they were last used.

An index is never used again after its files have changed. Each process that opens a file of this folder therefore sets
its access time, and files that were not opened for long can be removed. If such a file is needed after all, it is
created again. The modification time remains, because processes that have the file open compare it.
"""

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

_NAME = re.compile(r"[0-9a-f]{64}\.(index|unpacked|fetched)(\..*\.tmp)?")
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
    """Add the path of the cache file and the remedy to each `OSError`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}. {_REMEDY}", path) from error


class KeptFile(NamedTuple):
    """A file of the folder.

    Attributes:
        path: Its path.
        num_bytes: Its size.
        days: The days since it was opened.
    """

    path: str
    num_bytes: int
    days: float


def note_use(path: str) -> None:
    """Set the access time of a file unless it was used today; do nothing if that is not permitted."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        if time.time() - _used_at(status) > _DAY_S:
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))


def _used_at(status: os.stat_result) -> float:
    return max(status.st_atime, status.st_mtime)


def kept_files(folder: str) -> list[KeptFile]:
    """Return mpqueue's files in the folder, by name; an empty list if the folder does not exist.

    Raises:
        OSError: The folder cannot be read.
    """
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return []
    files = []
    for entry in entries:
        if _NAME.fullmatch(entry.name):
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                status = entry.stat()
                files.append(KeptFile(entry.path, status.st_size, (time.time() - _used_at(status)) / _DAY_S))
    return sorted(files)


def clean(folder: str, days: float) -> list[KeptFile]:
    """Remove the files that were not opened for the given number of days, and return them.

    Processes that have mapped such a file keep it.

    Raises:
        OSError: A file cannot be removed.
    """
    old = [file for file in kept_files(folder) if file.days >= days]
    for file in old:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.path)
    return old
