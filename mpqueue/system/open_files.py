"""Open files across a fork: the child reads them from a place of its own.

A fork shares more than memory: parent and child have one *open file description*, which holds the place of the next
read. So two workers that seek and read the same file read at each other's places, and get wrong bytes without an
error. This is how a child of ours gets a description of its own for each file under the same descriptor number, so
that all that was built on the descriptor (a buffer, a ZipFile, a library in C) goes on as it was:

    parent   `shared_files` notes descriptor, mode and place, before the fork: afterwards the parent may read on
    child    `reopen` opens each through /proc/self/fd, which also works for a file without a name, and puts it there

Regular files and block devices that are open for reading only are treated so wherever they were opened; nothing but
the place of the next read changes. Those that are open for writing, too, only where the caller names them: their
shared place may be what keeps two writers apart. Pipes and sockets have no place, and cannot be opened anew.

Elsewhere than on Linux there is no such way: /dev/fd there gives the same description again.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Collection, Iterable
from typing import NamedTuple

from mpqueue.system import platform_support

_FOLDER = "/proc/self/fd"
# Only these flags are asked for again: O_TMPFILE, which the kernel keeps as well, would make a new file.
_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_SYNC | platform_support.DIRECT


class OpenFile(NamedTuple):
    """A descriptor, and the file that it is of: by the time that it is used the number may be another file's."""

    fd: int
    device: int
    inode: int


class SharedFile(NamedTuple):
    """An open file, its flags, and the place of the next read."""

    file: OpenFile
    flags: int
    place: int


def shared_files(writable: Collection[OpenFile] = ()) -> list[SharedFile]:
    """Return what a child that is forked now has to reopen.

    Args:
        writable: Of the files that are open for writing, too, those that are to be reopened all the same.
    """
    found = []
    for file in _files():
        with contextlib.suppress(OSError):  # closed meanwhile by another thread
            flags = fcntl.fcntl(file.fd, fcntl.F_GETFL)
            mode = flags & os.O_ACCMODE
            if mode == os.O_RDONLY or (mode == os.O_RDWR and file in writable):
                found.append(SharedFile(file, flags & _FLAGS, os.lseek(file.fd, 0, os.SEEK_CUR)))
    return found


def writable_files() -> dict[int, OpenFile]:
    """Return the files that are open for reading and writing, by their descriptors."""
    found = {}
    for file in _files():
        with contextlib.suppress(OSError):
            if fcntl.fcntl(file.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
                found[file.fd] = file
    return found


def _files() -> list[OpenFile]:
    if not platform_support.CAN_REOPEN:
        return []
    found = []
    for name in os.listdir(_FOLDER):
        fd = int(name)
        if fd <= 2:  # standard streams are meant to be shared, also where they are files
            continue
        with contextlib.suppress(OSError):  # the folder's own descriptor, or closed meanwhile by another thread
            if _has_place(fd):
                found.append(_open_file(fd))
    return found


def can_reopen(fd: int) -> bool:
    """Return whether a child could: not if it is no file, or this process may not open it any more."""
    try:
        if platform_support.CAN_REOPEN and _has_place(fd):
            os.close(_open_again(fd, fcntl.fcntl(fd, fcntl.F_GETFL) & _FLAGS))
            return True
    except OSError:
        pass
    return False


def reopen(files: Iterable[SharedFile]) -> None:
    """In the child: replace each by an open file of its own, which stands at the same place."""
    for file, flags, place in files:
        fd = file.fd
        # One that may not be opened any more stays as it is: where it is the source's, that was said before the fork.
        with contextlib.suppress(OSError):
            if _open_file(fd) != file:
                continue  # another thread has closed it between the note and the fork, and the number is used again
            own = _open_again(fd, flags)
            try:
                os.lseek(own, place, os.SEEK_SET)
                os.dup2(own, fd, inheritable=os.get_inheritable(fd))
            finally:
                os.close(own)


def _open_file(fd: int) -> OpenFile:
    status = os.fstat(fd)
    return OpenFile(fd, status.st_dev, status.st_ino)


def _has_place(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _open_again(fd: int, flags: int) -> int:
    return os.open(f"{_FOLDER}/{fd}", flags | os.O_CLOEXEC)
