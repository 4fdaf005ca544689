"""Maps of shared memory that `mlockall` does not lock.

After ``mlockall(MCL_FUTURE)`` the kernel locks each new map, and reads all its pages at once. A segment is sparse: its
size includes all memory that it could ever need. So the process would be killed. And pages of locked memory cannot be
returned to the system. Therefore segments are not locked: the system may swap out the pages of batches.
"""

import ctypes
import functools
import mmap
import os
from typing import Any

import numpy as np


def map_unlocked(fd: int, size: int, prot: int) -> mmap.mmap:
    """Map the first ``size`` bytes of a file. No page is added to the file, after ``mlockall(MCL_FUTURE)``.

    Raises:
        OSError: The system call failed. EAGAIN: the limit of locked memory is reached.
        ValueError: The file is shorter.
    """
    return _map_writable(fd, size) if prot & mmap.PROT_WRITE else _map_readable(fd, size, prot)


def unlock(memory: mmap.mmap) -> None:
    """Unlock the pages of a map.

    Raises:
        OSError: The system call failed.
    """
    _call("munlock", memory)


def _map_writable(fd: int, size: int) -> mmap.mmap:
    memory = mmap.mmap(fd, min(size, mmap.PAGESIZE))
    try:
        unlock(memory)
        memory.resize(size)  # unlocked memory grows without pages
    except BaseException:
        memory.close()
        raise
    return memory


def _map_readable(fd: int, size: int, prot: int) -> mmap.mmap:
    # Python does not resize a map for reading. Memory without access gets no pages.
    memory = mmap.mmap(fd, size, prot=0)
    try:
        unlock(memory)
        _call("mprotect", memory, prot)
    except BaseException:
        memory.close()
        raise
    return memory


def _call(name: str, memory: mmap.mmap, *arguments: int) -> None:
    address = np.frombuffer(memory, np.uint8).ctypes.data
    if _function(name)(ctypes.c_void_p(address), ctypes.c_size_t(len(memory)), *arguments):
        code = ctypes.get_errno()
        raise OSError(code, f"{name} failed: {os.strerror(code)}")


@functools.cache
def _function(name: str) -> Any:
    return ctypes.CDLL(None, use_errno=True)[name]
