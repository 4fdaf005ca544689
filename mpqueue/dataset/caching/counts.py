"""Counters of a cache, over all processes that have ever opened it.

Each process appends a record to the file when it opens the cache. It then changes only that record, in memory that the
processes share. So no process waits for another, a killed process loses no counts, and a read costs 0.3 µs
more. The sum of all records are the counters::

    record     uint64: reads from the cache, stored elements, removed segments of other caches, and 0
"""

import contextlib
import itertools
import mmap
import os
import struct

import numpy as np

from mpqueue.system.descriptors import descriptors
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor

_RECORD_BYTES = 32
_COUNT = struct.Struct("<Q")
_COUNT_BYTES = _COUNT.size
_PAGE_BYTES = mmap.ALLOCATIONGRANULARITY


class CacheCounts:
    """The counters that this process adds to. They do not count until `open` is called."""

    def __init__(self) -> None:
        self._held: HeldDescriptor | None = None
        self._counts = tuple(itertools.count(1) for _ in range(3))  # atomic in any thread, unlike a sum
        # The memory, and the offset of the record in it: together, because two threads may open the file.
        self._record: tuple[mmap.mmap | bytearray, int] = bytearray(_RECORD_BYTES), 0

    def open(self, held: HeldDescriptor, *, is_writable: bool = True) -> None:
        """Keep the file, and add a record of this process to it, unless the file is read-only or full.

        Args:
            held: The file, open for appending.
            is_writable: It can be written.
        """
        self._held, fd = held, held.fd
        with contextlib.suppress(OSError):  # no space left
            if is_writable and os.write(fd, bytes(_RECORD_BYTES)) == _RECORD_BYTES:
                at = os.lseek(fd, 0, os.SEEK_CUR) - _RECORD_BYTES
                start = at // _PAGE_BYTES * _PAGE_BYTES
                with descriptors.apart_from_standard():  # mmap duplicates the descriptor
                    self._record = mmap.mmap(fd, at - start + _RECORD_BYTES, offset=start), at - start

    def _add(self, which: int) -> None:
        memory, at = self._record
        _COUNT.pack_into(memory, at + which * _COUNT_BYTES, next(self._counts[which]))

    def hit(self) -> None:
        """Count an element that was read."""
        self._add(0)

    def stored(self) -> None:
        """Count an element that was stored."""
        self._add(1)

    def evicted(self) -> None:
        """Count a removed segment."""
        self._add(2)


def counts_in(content: bytes) -> tuple[int, int, int]:
    """Return the numbers of reads, of stored elements and of removed segments in the content of a file."""
    whole = len(content) // _RECORD_BYTES * _RECORD_BYTES
    hits, stored, evicted, _ = np.frombuffer(content[:whole], "<u8").reshape(-1, 4).sum(0).tolist()
    return hits, stored, evicted
