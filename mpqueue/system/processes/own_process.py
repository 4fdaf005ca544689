"""A mark that distinguishes the process that created it from its forked children.

User code may fork, and the child may return into the calling code, which would continue as if it were the original
process. A mark is one byte of a page that the kernel clears in every child, even in one that a C library forks without
running Python's hooks. Reading it takes 20 ns; reading the process id is a system call of 190 ns (both measured on the
same virtual machine), and is the fallback if the kernel cannot clear pages.
"""

import mmap
import os
from typing import Protocol

_WIPE_ON_FORK = 18  # MADV_WIPEONFORK


class ProcessMark(Protocol):
    """A sequence with a first element that is not 0 in the process that created it, and 0 in its forked children."""

    def __getitem__(self, position: int, /) -> int:
        """Return the element."""


class _MarkByProcessId:
    """A mark that compares the process id."""

    def __init__(self) -> None:
        self._process_id = os.getpid()

    def __getitem__(self, position: int, /) -> int:
        return os.getpid() == self._process_id


def make_mark() -> ProcessMark:
    """Return a mark of this process."""
    # Private and anonymous: the kernel rejects MADV_WIPEONFORK for any other mapping.
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        page.madvise(_WIPE_ON_FORK)
    except OSError:  # an old kernel, or a sandbox
        page.close()
        return _MarkByProcessId()
    page[0] = 1
    return page
