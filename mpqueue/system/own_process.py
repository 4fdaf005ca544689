"""A mark by which code tells the process in which it began from a child that was forked from it meanwhile.

User code forks, and its child may return into the code that called it, which goes on there as if it were the process
itself. A mark tells the two apart: one byte of a page that the kernel clears in every child, also in one that a
library in C has forked, which runs none of Python's hooks. To read it takes 20 ns; to ask for the process id is a call
of the kernel, of 190 ns (both measured on the same virtual machine), and is what is left where the kernel does not
clear pages.
"""

import mmap
import os
from typing import Protocol

from mpqueue.system import platform_support
from mpqueue.system.interrupts import is_of_handler

_WIPE_ON_FORK = 18  # MADV_WIPEONFORK


class ProcessMark(Protocol):
    """Its first element is not 0 in the process that made it, and 0 in those that were forked from it."""

    def __getitem__(self, place: int, /) -> int:
        """Return the element."""
        ...


class _MarkByProcessId:
    """A mark, by the process id."""

    def __init__(self) -> None:
        self._process_id = os.getpid()

    def __getitem__(self, place: int, /) -> int:
        return os.getpid() == self._process_id


def make_mark() -> ProcessMark:
    """Return a mark of this process."""
    if not platform_support.CAN_WIPE_ON_FORK:
        return _MarkByProcessId()
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        page.madvise(_WIPE_ON_FORK)
    except OSError as error:  # an older kernel, or a sandbox
        page.close()
        if is_of_handler(error):  # a time limit
            raise
        return _MarkByProcessId()
    page[0] = 1
    return page
