"""Bytes in shared memory that are written once, at creation, and mapped by other processes.

The memory has no name, like all segments, see `mpqueue.memory.segment`. It is an anonymous memory file even where
`/dev/shm` is large, because a source's data may be larger. Other processes map it copy-on-write: a process that writes
to it gets its own pages, until it drops them with `reset`.
"""

import ctypes
import functools
import io
import itertools
import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.memory.layout import Array, align
from mpqueue.memory.segment import memory_file
from mpqueue.system.descriptors import descriptors

_PIECE_BYTES = 64 << 20  # a copy can be left between two pieces
_MADV_DONTNEED = 4
# /proc/self/pagemap: the page is in memory or swap; the page is not a private copy
_IS_THERE, _OF_FILE = np.uint64(3 << 62), np.uint64(1 << 61)
_ids = itertools.count()


class Snapshot:
    """Copies of some buffers in shared memory.

    Args:
        buffers: Buffers of contiguous bytes.

    Attributes:
        id: A number that is unique in this process.
        offsets: The offset of each buffer.

    Raises:
        OSError: There is too little memory, or no descriptor is left.
    """

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self.id = next(_ids)
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
        descriptors.own_object(self._file)
        self._close = descriptors.close_with(self, self._file, io.FileIO.close)

    def let_go(self) -> None:
        """Close the descriptor and drop the map: the memory remains only while others map it."""
        self._view = None
        self._close()

    def _write(self, offset: int, buffer: memoryview) -> None:
        # `pwrite` causes no page faults: 1.6 GB/s, where writing through a map reached 1.2 GB/s.
        done = 0
        while done < buffer.nbytes:
            done += os.pwrite(self._file.fileno(), buffer[done : done + _PIECE_BYTES], offset + done)

    def fileno(self) -> int:
        """Return the descriptor, for other processes."""
        return self._file.fileno()

    def has(self, offset: int, buffer: memoryview) -> bool:
        """Return whether the snapshot has these bytes at an offset."""
        # Mapped at the first comparison, which takes as long as reading by pieces (2.3 GB/s). Each later comparison
        # takes a quarter of that (10 GB/s).
        try:
            view = self._view = self._map() if self._view is None else self._view
        except (OSError, ValueError):  # no address space: unknown, and copying the bytes again does no harm
            return False
        ours, theirs = np.frombuffer(buffer, np.uint8).ctypes.data, view.ctypes.data + offset
        for start in range(0, buffer.nbytes, _PIECE_BYTES):
            if _memcmp()(ours + start, theirs + start, min(_PIECE_BYTES, buffer.nbytes - start)):
                return False
        return True

    def _map(self) -> Array:
        # A map duplicates the descriptor. With the number of a standard stream, output could be written to it.
        with descriptors.apart_from_standard():
            return np.frombuffer(mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)


@functools.cache
def _memcmp() -> Any:
    compare = ctypes.CDLL(None).memcmp
    compare.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
    return compare


def map_snapshot(fd: int) -> Array:
    """Map another process's snapshot copy-on-write.

    Raises:
        OSError: There is too little address space.
    """
    size = os.fstat(fd).st_size
    # A write to a standard stream would change the file itself, not a private page.
    with descriptors.apart_from_standard():
        return np.frombuffer(mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE), np.uint8)


def own_copies(buffers: Sequence[memoryview]) -> list[Array]:
    """Return private copies of buffers, which `reset` can restore.

    Raises:
        OSError: There is too little memory, or no descriptor is left.
    """
    if not buffers:
        return []
    snapshot = Snapshot(buffers)
    try:
        view = map_snapshot(snapshot.fileno())
    finally:
        # The map keeps a reference to the memory.
        snapshot.let_go()
    return [view[at : at + buffer.nbytes] for at, buffer in zip(snapshot.offsets, buffers, strict=True)]


def reset(buffers: Sequence[Array]) -> None:
    """Restore parts of snapshots that are mapped copy-on-write; whole pages, including adjacent bytes on them.

    Raises:
        OSError: The memory is locked.
    """
    for buffer in buffers:
        first = buffer.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
        if not _has_own_pages(first, buffer.ctypes.data + buffer.nbytes):
            continue  # the usual case: each page that is dropped costs a page fault later
        if _madvise()(first, buffer.ctypes.data + buffer.nbytes - first, _MADV_DONTNEED):
            raise OSError(ctypes.get_errno(), "cannot restore an array of the source to its original contents")


def _has_own_pages(first: int, end: int) -> bool:
    """Return whether any page between two addresses was written; takes 0.2 µs per page."""
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            file.seek(first // mmap.PAGESIZE * 8)
            count = -(-(end - first) // mmap.PAGESIZE)
            entries = np.frombuffer(file.read(count * 8), np.uint64)
    except OSError:  # /proc is not available
        return True
    return len(entries) < count or bool(((entries & _IS_THERE != 0) & (entries & _OF_FILE == 0)).any())


@functools.cache
def _madvise() -> Any:
    advise = ctypes.CDLL(None, use_errno=True).madvise
    advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return advise
