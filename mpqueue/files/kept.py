"""Contents of the folder of indexes: how much, and what has not been used for long.

An index whose files have changed is never asked for again, and nobody tells it so. So whoever opens a file of this
folder sets its time of access, and what was not opened for long may go: if it is wanted after all, it is made again.
The time of change stays, because processes that have the file open compare it.
"""

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

_NAME = re.compile(r"[0-9a-f]{64}\.(index|unpacked|fetched)(\..*\.tmp)?")
_REMEDY = "Indexes are kept there: pass another folder as index=, or set XDG_CACHE_HOME"
_DAY_S = 24 * 60 * 60


def cache_folder(chosen: str | os.PathLike[str] | None = None) -> str:
    """Return the folder of the indexes, absolute: the one that was chosen; None: ``$XDG_CACHE_HOME/mpqueue``."""
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
    """Name the file of the cache, and the remedy, in each `OSError` of the system."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}. {_REMEDY}", path) from error


class KeptFile(NamedTuple):
    """A file of the folder.

    Attributes:
        path: Its path.
        num_bytes: Its size.
        days: Since it was opened.
    """

    path: str
    num_bytes: int
    days: float


def note_use(path: str) -> None:
    """Set the time of access of a file if it was not used today; nothing where that is not allowed."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        if time.time() - _used_at(status) > _DAY_S:
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))


def _used_at(status: os.stat_result) -> float:
    return max(status.st_atime, status.st_mtime)


def kept_files(folder: str) -> list[KeptFile]:
    """Return the files of the folder that are ours, by name; none where there is no folder.

    Raises:
        OSError: The folder cannot be read.
    """
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return []
    found = []
    for entry in entries:
        if _NAME.fullmatch(entry.name):
            with contextlib.suppress(FileNotFoundError):  # another one has removed it
                status = entry.stat()
                found.append(KeptFile(entry.path, status.st_size, (time.time() - _used_at(status)) / _DAY_S))
    return sorted(found)


def clean(folder: str, days: float) -> list[KeptFile]:
    """Remove what was not opened for so many days; return it.

    Who has such a file mapped keeps it.

    Raises:
        OSError: A file cannot be removed.
    """
    old = [file for file in kept_files(folder) if file.days >= days]
    for file in old:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.path)
    return old
