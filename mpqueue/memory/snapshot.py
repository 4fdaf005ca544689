"""Bytes in shared memory that are written once, when it is made, and that others map.

As all segments it has no name, see `mpqueue.memory.segment`. The maker writes it by `pwrite`, which costs no page
faults (1.6 GB/s where the same through a map made 1.2), and maps it when it first compares something with it: that
takes as long as to read it by pieces (2.3 GB/s), and each later time a quarter (10 GB/s). Others map it copy-on-write:
what one has written there is its own, until it has the kernel drop it (`reset`).

It is an anonymous memory file also where `/dev/shm` is large: what a source holds may be larger.
"""

import ctypes
import functools
import io
import itertools
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.memory.layout import Array, align
from mpqueue.memory.segment import memory_file
from mpqueue.system import descriptors

_PIECE_BYTES = 64 << 20  # between two of these a signal handler may run
_MADV_DONTNEED = 4
_IS_THERE, _OF_FILE = np.uint64(3 << 62), np.uint64(1 << 61)  # /proc/self/pagemap: in memory or swap; no own copy
_numbers = itertools.count()


class Snapshot:
    """Copies of some buffers.

    Args:
        buffers: Of contiguous bytes.

    Attributes:
        number: Of this snapshot; no other of this process has it.
        offsets: Where each buffer begins.

    Raises:
        OSError: There is no memory, or no descriptor.
    """

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self.number = next(_numbers)
        ends = list(itertools.accumulate((align(buffer.nbytes) for buffer in buffers), initial=0))
        self.offsets = ends[:-1]
        self._file = io.FileIO(memory_file(), "r+")
        self._view: Array | None = None
        try:
            for offset, buffer in zip(self.offsets, buffers, strict=True):
                self._write(offset, buffer)
            os.ftruncate(self._file.fileno(), ends[-1])
        except OSError as error:
            self._file.close()
            text = f"cannot copy {ends[-1]:,} bytes of the source into shared memory ({error}); check `ulimit -f`"
            raise OSError(error.errno, text) from error
        except BaseException:
            self._file.close()
            raise
        self._hold()

    def _hold(self) -> None:
        descriptors.own_object(self._file)
        self._finalizer = weakref.finalize(self, descriptors.close_object, self._file)
        self._finalizer.atexit = False

    def let_go(self) -> None:
        """Close the descriptor, and let go of the map: from now on only others keep the memory."""
        self._view = None
        self._finalizer()

    def take_back(self, fd: int) -> None:
        """Hold it again, by a descriptor that another process has kept; it becomes ours."""
        self._file = io.FileIO(fd, "r+")
        self._hold()

    def _write(self, offset: int, buffer: memoryview) -> None:
        done = 0
        while done < buffer.nbytes:
            done += os.pwrite(self._file.fileno(), buffer[done : done + _PIECE_BYTES], offset + done)

    def fileno(self) -> int:
        """Return the descriptor, to be passed to other processes."""
        return self._file.fileno()

    def has(self, offset: int, buffer: memoryview) -> bool:
        """Return whether these bytes lie at an offset."""
        try:
            view = self._view = self._map() if self._view is None else self._view
        except (OSError, ValueError):  # a limit of address space: nobody knows, and to copy them again does no harm
            return False
        ours, theirs = np.frombuffer(buffer, np.uint8).ctypes.data, view.ctypes.data + offset
        for start in range(0, buffer.nbytes, _PIECE_BYTES):
            if _memcmp()(ours + start, theirs + start, min(_PIECE_BYTES, buffer.nbytes - start)):
                return False
        return True

    def _map(self) -> Array:
        with descriptors.apart_from_standard():  # a map has a descriptor of its own, which could be written to
            return np.frombuffer(mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)


@functools.cache
def _memcmp() -> Any:
    compare = ctypes.CDLL(None).memcmp
    compare.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
    return compare


def map_snapshot(fd: int) -> Array:
    """Map a snapshot of another process copy-on-write.

    Raises:
        OSError: There is not so much address space.
    """
    size = os.fstat(fd).st_size
    with descriptors.apart_from_standard():  # as above: what is written there is in no private page
        return np.frombuffer(mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE), np.uint8)


def own_copies(buffers: Sequence[memoryview]) -> list[Array]:
    """Return copies of buffers that are this process's alone, and that `reset` can put back.

    Raises:
        OSError: There is no memory, or no descriptor.
    """
    if not buffers:
        return []
    snapshot = Snapshot(buffers)
    try:
        view = map_snapshot(snapshot.fileno())
    finally:
        # The map keeps the memory.
        snapshot.let_go()
    return [view[at : at + buffer.nbytes] for at, buffer in zip(snapshot.offsets, buffers, strict=True)]


def reset(buffers: Sequence[Array]) -> None:
    """Put parts of snapshots that are mapped copy-on-write back to what was sent; whole pages, with what lies beside.

    Raises:
        OSError: The memory is locked.
    """
    for buffer in buffers:
        first = buffer.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
        if not _has_own_pages(first, buffer.ctypes.data + buffer.nbytes):
            continue  # as a rule: each page that is dropped costs a page fault later
        if _madvise()(first, buffer.ctypes.data + buffer.nbytes - first, _MADV_DONTNEED):
            raise OSError(ctypes.get_errno(), "cannot put an array of the source back to what was sent")


def _has_own_pages(first: int, end: int) -> bool:
    """Return whether any page between two addresses has been written; 0.2 µs for a page."""
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            file.seek(first // mmap.PAGESIZE * 8)
            count = -(-(end - first) // mmap.PAGESIZE)
            entries = np.frombuffer(file.read(count * 8), np.uint64)
    except OSError:  # there is no /proc
        return True
    return len(entries) < count or bool(((entries & _IS_THERE != 0) & (entries & _OF_FILE == 0)).any())


@functools.cache
def _madvise() -> Any:
    advise = ctypes.CDLL(None, use_errno=True).madvise
    advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return advise
