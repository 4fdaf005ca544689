"""Numbered records in two files that several processes of a host read and write concurrently.

::

    data     the records, one after another, each at a multiple of 64 bytes
    index    32 bytes per number: offset and length of the record, number of arrays, CRC of the record and the name of
             the files, and a CRC of the entry with its number

A process appends a record with `O_APPEND`, so that each write gets separate bytes, and then writes the index entry.
Records are never changed, and there is no lock that a killed process could hold:

    killed before the entry is complete   the record does not exist; its bytes are wasted
    two records with the same number      both are complete, and the later entry is used
    a file was truncated or damaged       truncated records and those with a wrong CRC do not exist; the others do
    both files were renamed               no record exists
    power failure                         as for a damaged file

The files have no header: an empty file, or none at all, contains no records. Each process compares a record with its
CRC on first use, at 27 GB/s with google-crc32c and 3 GB/s with zlib.

The files are mapped for reading and must not be truncated while processes have them open. They are written with
`write`, which reports a lack of space as an error rather than as a signal. For the same reason, the index, which is
sparse, is read through its map only where an entry is known to exist. On a tmpfs, reading a hole through a map
allocates a page. That takes up space for missing entries, and raises SIGBUS if no memory is left.
"""

import functools
import mmap
import os
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from mpqueue.dataset import records
from mpqueue.system import descriptors
from mpqueue.system.held_descriptors import HeldDescriptor
from mpqueue.system.locks import Lock

MISSING: Any = object()
_ENTRY = struct.Struct("<QQIII")  # offset, length, arrays, algorithm of the CRC, CRC
_CHECK = struct.Struct("<I")  # CRC of the entry; 0 if there is no entry
_ENTRY_BYTES = 32
_CHECK_AT = _ENTRY.size
_MOST_BYTES = 0x7FFFF000  # limit of one write on Linux
_SALT = 0x9E3779B1
_ZLIB, _CRC32C = 1, 2


class NoRoomError(OSError):
    """No more records can be stored; existing records remain."""


class RecordFiles:
    """The two files as opened by one process; any thread may use them.

    Args:
        data: The data file, open for appending.
        index: The index file.
        max_bytes: The limit of the size of the data; None for no limit but the free space.
        name: The name of the files. Records that were stored under another name do not exist.
    """

    def __init__(self, data: HeldDescriptor, index: HeldDescriptor, *, max_bytes: int | None, name: str = "") -> None:
        self._held, self._fds, self._max_bytes = (data, index), (data.fd, index.fd), max_bytes
        self._mask = zlib.crc32(os.fsencode(name))  # of the CRC of each record
        self._data, self._index = _GrowingMap(data.fd), _GrowingMap(index.fd)
        self._checked = bytearray()  # flags of the records with a verified CRC
        self._lock = Lock()  # protects the file position after a write

    def get(self, number: int, salt: int = 0) -> Any:
        """Return a value with arrays that are read-only views of the file, or `MISSING`.

        Args:
            number: The number of the value.
            salt: The salt that the value was stored with. Values with another salt are ignored.

        Raises:
            Exception: Unpickling the value raised.
        """
        checked = self._checked
        if number < len(checked) and checked[number]:
            entry = self._index.read(number * _ENTRY_BYTES, _ENTRY_BYTES)
        else:
            entry = self._looked_up(number)
        # The writer of an entry may have been killed halfway, or may be writing it now.
        if entry is None or entry[_CHECK_AT:] != _closed(entry[:_CHECK_AT], number, salt):
            return MISSING
        offset, length, num_arrays, kind, crc = _ENTRY.unpack_from(entry)
        view = self._data.view(offset, length)
        if view is None:
            return MISSING
        if number >= len(checked):
            # Half more than needed, so that numbers that ascend one by one do not extend it each time.
            checked.extend(bytes(number + 1 - len(checked) + len(checked) // 2))
        if not checked[number]:
            checksum = _checksums().get(kind)
            if checksum is None or checksum(view) ^ self._mask != crc:
                return MISSING
            checked[number] = True
        return records.unpack(view, num_arrays)

    def _looked_up(self, number: int) -> bytes:
        """Return an entry without creating a page of the map; fewer bytes if the index is shorter."""
        try:
            return os.pread(self._fds[1], _ENTRY_BYTES, number * _ENTRY_BYTES)
        except OverflowError:  # beyond the maximum size of a file
            return b""

    def put(self, number: int, value: Any, salt: int = 0) -> Any:
        """Store a value, and return it as `get` will return it.

        Raises:
            NoRoomError: The value was not stored.
            Exception: Pickling the value raised.
        """
        record, num_arrays = records.pack(value)
        kind, checksum = list(_checksums().items())[-1]
        offset = self._append(record)
        entry = _ENTRY.pack(offset, len(record), num_arrays, kind, checksum(record) ^ self._mask)
        # After the record, so that a process that sees the entry sees all bytes of the record.
        self._publish(number, entry + _closed(entry, number, salt))
        return records.unpack(memoryview(record), num_arrays)

    def _append(self, record: bytes) -> int:
        """Append a record, and return its offset."""
        fd = self._fds[0]
        try:
            with self._lock:
                end = os.lseek(fd, 0, os.SEEK_END)
                # A record that another process appends in between moves this one off its multiple. It is complete
                # nevertheless.
                padding = -end % records.ALIGNED
                if self._max_bytes is not None and end + padding + len(record) > self._max_bytes:
                    raise NoRoomError(f"the limit max_bytes={self._max_bytes:,} is reached")
                if len(record) > _MOST_BYTES - padding:
                    raise NoRoomError(f"an element must have at most {_MOST_BYTES:,} bytes, got {len(record):,}")
                if os.writev(fd, [bytes(padding), record]) < padding + len(record):
                    raise NoRoomError("no space left")
                # Other processes append, too, so the offset is known only after the write.
                return os.lseek(fd, 0, os.SEEK_CUR) - len(record)
        except NoRoomError:
            raise
        except OSError as error:
            raise NoRoomError(str(error)) from error

    def _publish(self, number: int, entry: bytes) -> None:
        try:
            if os.pwrite(self._fds[1], entry, number * _ENTRY_BYTES) < len(entry):
                raise NoRoomError("no space left")
        except NoRoomError:
            raise
        except (OSError, OverflowError) as error:
            raise NoRoomError(str(error)) from error


def _closed(entry: bytes, number: int, salt: int) -> bytes:
    """Return the CRC of an entry, which differs for a half-written entry and for another number."""
    # Never 0: that is what a number without an entry reads as, because the index is a sparse file.
    return _CHECK.pack(zlib.crc32(entry, (number ^ salt * _SALT) & 0xFFFFFFFF) | 1)


class _GrowingMap:
    """A growing file, mapped again when bytes past the end of the map are requested."""

    def __init__(self, fd: int) -> None:
        self._fd, self._size = fd, 0
        self._map: mmap.mmap | bytes = b""
        self._view = memoryview(b"")

    def read(self, start: int, length: int) -> bytes | None:
        """Return a copy of bytes, or None if the file is shorter."""
        end = start + length
        return self._map[start:end] if end <= self._size or self._reaches(end) else None

    def view(self, start: int, length: int) -> memoryview | None:
        """Return a read-only view of bytes, or None if the file is shorter."""
        end = start + length
        return self._view[start:end] if end <= self._size or self._reaches(end) else None

    def _reaches(self, end: int) -> bool:
        """Map the file at its current size, and return whether it includes ``end``."""
        size = os.fstat(self._fd).st_size
        if size < end:
            return False
        # The previous map remains as long as there are views of it.
        with descriptors.apart_from_standard():  # mmap duplicates the descriptor; keep it off 0 to 2
            self._map = mapped = mmap.mmap(self._fd, size, prot=mmap.PROT_READ)
        self._view = memoryview(mapped)
        self._size = size
        return True


def _crc32c() -> Callable[[Any], int] | None:
    try:
        import google_crc32c
    except ImportError:
        return None
    value: Callable[[Any], int] = google_crc32c.value
    return lambda record: value(np.frombuffer(record, np.uint8))  # it does not accept a memoryview


@functools.cache
def _checksums() -> dict[int, Callable[[Any], int]]:
    """Return the CRC functions by algorithm; the last one is the fastest."""
    quick = _crc32c()
    return {_ZLIB: zlib.crc32} if quick is None else {_ZLIB: zlib.crc32, _CRC32C: quick}
