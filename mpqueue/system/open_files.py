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
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

CAN_REOPEN = sys.platform == "linux"
_FOLDER = "/proc/self/fd"
# Only these flags are asked for again: O_TMPFILE, which the kernel keeps as well, would make a new file.
_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_SYNC | getattr(os, "O_DIRECT", 0)


class SharedFile(NamedTuple):
    """An open file: its descriptor, its flags, and the place of the next read."""

    fd: int
    flags: int
    place: int


def shared_files(writable_of: Callable[[], Iterable[int]] = tuple) -> list[SharedFile]:
    """Return what a child that is forked now has to reopen.

    Args:
        writable_of: Returns the descriptors of files that are open for writing, too, and are to be reopened all the
            same; called only if this process has any.
    """
    if not CAN_REOPEN:
        return []
    found, writable = [], []
    for name in os.listdir(_FOLDER):
        fd = int(name)
        if fd <= 2:  # standard streams are meant to be shared, also where they are files
            continue
        with contextlib.suppress(OSError):  # the folder's own descriptor, or closed meanwhile by another thread
            if _has_place(fd):
                flags = fcntl.fcntl(fd, fcntl.F_GETFL)
                file = SharedFile(fd, flags & _FLAGS, os.lseek(fd, 0, os.SEEK_CUR))
                mode = flags & os.O_ACCMODE
                if mode == os.O_RDONLY:
                    found.append(file)
                elif mode == os.O_RDWR:
                    writable.append(file)
    if writable:
        named = set(writable_of())
        found += [file for file in writable if file.fd in named]
    return found


def can_reopen(fd: int) -> bool:
    """Return whether a child could: not if it is no file, or this process may not open it any more."""
    try:
        if CAN_REOPEN and _has_place(fd):
            os.close(_open_again(fd, fcntl.fcntl(fd, fcntl.F_GETFL) & _FLAGS))
            return True
    except OSError:
        pass
    return False


def reopen(files: Iterable[SharedFile]) -> None:
    """In the child: replace each by an open file of its own, which stands at the same place."""
    for fd, flags, place in files:
        # One that may not be opened any more stays as it is: where it is the source's, that was said before the fork.
        with contextlib.suppress(OSError):
            own = _open_again(fd, flags)
            try:
                os.lseek(own, place, os.SEEK_SET)
                os.dup2(own, fd, inheritable=os.get_inheritable(fd))
            finally:
                os.close(own)


def _has_place(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _open_again(fd: int, flags: int) -> int:
    return os.open(f"{_FOLDER}/{fd}", flags | os.O_CLOEXEC)
