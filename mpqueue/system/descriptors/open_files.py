"""Open files across a fork: the child reads them at its own positions.

A fork shares more than memory: parent and child share each *open file description*, which holds the read position. Two
workers that seek and read the same file would change each other's position, and get wrong bytes without an error. So
each of our children replaces the description of each file under the same descriptor number. All objects that use the
descriptor (a buffer, a ZipFile, a C library) work as before:

    parent   `shared_files` records descriptor, mode and position before the fork; the parent may read on afterwards
    child    `reopen` opens each file through /proc/self/fd, which also works for a file without a name

Regular files and block devices that are open for reading only are always reopened; only their read position becomes
independent. Files that are open for writing, too, are reopened only if the caller names them: their shared position may
keep two writers apart. Pipes and sockets have no position, and cannot be opened again.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

_FOLDER = "/proc/self/fd"
# Only these flags are set again: the kernel also reports O_TMPFILE, which would create a new file.
_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_SYNC | os.O_DIRECT


class OpenFile(NamedTuple):
    """A descriptor with the identity of its file: the number may be reused for another file later."""

    fd: int
    device: int
    inode: int


class SharedFile(NamedTuple):
    """An open file, its flags, and its read position."""

    file: OpenFile
    flags: int
    position: int


def shared_files(writable: Collection[OpenFile] = ()) -> list[SharedFile]:
    """Return the files that a child forked now must reopen.

    Args:
        writable: Files that are open for writing, and must be reopened as well.
    """
    files = []
    for file, flags in _files():
        mode = flags & os.O_ACCMODE
        if mode == os.O_RDONLY or (mode == os.O_RDWR and file in writable):
            with contextlib.suppress(OSError):  # another thread has closed it in the meantime
                files.append(SharedFile(file, flags & _FLAGS, os.lseek(file.fd, 0, os.SEEK_CUR)))
    return files


def writable_files() -> dict[int, OpenFile]:
    """Return the files that are open for reading and writing, by descriptor."""
    return {file.fd: file for file, flags in _files() if flags & os.O_ACCMODE == os.O_RDWR}


def _files() -> Iterator[tuple[OpenFile, int]]:
    """Yield the open files that have a position, with their flags."""
    for name in os.listdir(_FOLDER):
        fd = int(name)
        if fd <= 2:  # standard streams are shared on purpose, even if they are files
            continue
        with contextlib.suppress(OSError):  # the folder's own descriptor, or closed by another thread
            if _has_position(fd):
                yield _open_file(fd), fcntl.fcntl(fd, fcntl.F_GETFL)


def can_reopen(fd: int) -> bool:
    """Return whether a child could reopen the descriptor: not if it is not a file, or access is denied by now."""
    try:
        if _has_position(fd):
            os.close(_open_again(fd, fcntl.fcntl(fd, fcntl.F_GETFL) & _FLAGS))
            return True
    except OSError:
        pass
    return False


def reopen(files: Iterable[SharedFile]) -> None:
    """Replace each open file in the child by its own one, at the same position."""
    for file, flags, position in files:
        fd = file.fd
        # If access is denied by now, the file remains shared: for a file of the source, an error was raised before.
        with contextlib.suppress(OSError):
            if _open_file(fd) != file:
                continue  # another thread has closed it between the record and the fork, and the number was reused
            own = _open_again(fd, flags)
            try:
                os.lseek(own, position, os.SEEK_SET)
                # Replaced in one step. Between a `close` and an `open` the number would be free, and could go to
                # another file.
                os.dup2(own, fd, inheritable=os.get_inheritable(fd))
            finally:
                os.close(own)


def _open_file(fd: int) -> OpenFile:
    status = os.fstat(fd)
    return OpenFile(fd, status.st_dev, status.st_ino)


def _has_position(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _open_again(fd: int, flags: int) -> int:
    return os.open(f"{_FOLDER}/{fd}", flags | os.O_CLOEXEC)
