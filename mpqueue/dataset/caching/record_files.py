"""Numbered records in files that several processes of a host read and write concurrently.

::

    data     the records, one after another, each at a multiple of 64 bytes; one file, or several segments, see
             `mpqueue.dataset.caching.folders`
    index    32 bytes per element: position and length of the record, number of arrays, CRC of the record and the name
             of the files, and a CRC of the entry with its index

A process appends a record with `O_APPEND`, and then writes the index entry. A lock around the append keeps a file below
its limit; the kernel releases it when its holder ends. Records are never changed::

    killed before the entry is complete   the record does not exist; its bytes are wasted
    two records with the same index       both are complete, and the later entry is used
    a file was truncated or damaged       truncated records and those with a wrong CRC do not exist; the others do
    files were renamed                    no record exists
    a segment was removed                 its records do not exist; a process that has mapped it still reads them
    power failure                         as for a damaged file

The files have no header: an empty file, or none at all, contains no records. Each process compares a record with its
CRC on first use, at 27 GB/s with google-crc32c and 3 GB/s with zlib.

The files are mapped for reading and must not be truncated while processes have them open. They are written with
`write`, which reports a lack of space as an error rather than as a signal. For the same reason, the index, which is
sparse, is read through its map only where an entry is known to exist. On a tmpfs, reading a hole through a map
allocates a page. That takes up space for missing entries, and raises SIGBUS if no memory is left.
"""

import contextlib
import fcntl
import functools
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from mpqueue.dataset.caching import records
from mpqueue.system.descriptors import descriptors
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.signals.locks import Lock, RLock

MISSING: Any = object()
_ENTRY = struct.Struct("<QQIII")  # offset, length, arrays, algorithm of the CRC, CRC
_CHECK = struct.Struct("<I")  # CRC of the entry; 0 without an entry
_ENTRY_BYTES = 32
_CHECK_AT = _ENTRY.size
_MOST_BYTES = 0x7FFFF000  # limit of one write on Linux
_SALT = 0x9E3779B1
_ZLIB, _CRC32C = 1, 2


class NoRoomError(OSError):
    """No more records can be stored; existing records remain."""


class FullError(NoRoomError):
    """The file has reached its limit."""


class ReleasedError(Exception):
    """The files were released: no value is stored."""


class RecordData(Protocol):
    """The bytes of records, by position."""

    def view(self, position: int, length: int) -> memoryview | None:
        """Return a read-only view of a record, or None if the bytes do not exist."""

    def append(self, record: bytes) -> int:
        """Append a record, and return its position.

        Raises:
            NoRoomError: The record was not stored.
        """


class RecordFiles:
    """The files as opened by one process; any thread may use them.

    Args:
        data: The data.
        index: The index file.
        name: The name of the files. Records that were stored under another name do not exist.
    """

    def __init__(self, data: RecordData, index: HeldDescriptor, *, name: str = "") -> None:
        self._data, self._held = data, index
        self._mask = zlib.crc32(os.fsencode(name))  # of the CRC of each record
        self._index = _GrowingMap(index.fd)
        self._checked = bytearray()  # flags of the records with a verified CRC
        # Held while a record is stored. Reentrant: a signal handler in the middle may call `release`.
        self._storing, self._is_released = RLock(), False

    def get(self, index: int, salt: int = 0, *, copies: bool = False) -> Any:
        """Return a value with arrays that are read-only views of the file, or `MISSING`.

        Args:
            index: The index of the value.
            salt: The salt that the value was stored with. Values with another salt are ignored.
            copies: Return arrays that are writable views of a private copy instead.

        Raises:
            Exception: Unpickling the value raised.
        """
        checked = self._checked
        if index < len(checked) and checked[index]:
            entry = self._index.read(index * _ENTRY_BYTES, _ENTRY_BYTES)
        else:
            entry = self._looked_up(index)
        # The writer of an entry may have been killed halfway, or may be writing it now.
        if entry is None or entry[_CHECK_AT:] != _closed(entry[:_CHECK_AT], index, salt):
            return MISSING
        position, length, num_arrays, kind, crc = _ENTRY.unpack_from(entry)
        view = self._data.view(position, length)
        if view is None:
            return MISSING
        if index >= len(checked):
            # Half more than needed, so that indices that ascend one by one do not extend it each time.
            checked.extend(bytes(index + 1 - len(checked) + len(checked) // 2))
        if not checked[index]:
            checksum = _checksums().get(kind)
            if checksum is None or checksum(view) ^ self._mask != crc:
                return MISSING
            checked[index] = True
        return records.unpack(memoryview(bytearray(view)) if copies else view, num_arrays)

    def is_free(self, index: int, salt: int) -> bool:
        """Return whether an index without a value has no entry, or one with this salt and a lost record."""
        entry = self._looked_up(index)
        check = entry[_CHECK_AT:]
        return not any(check) or check == _closed(entry[:_CHECK_AT], index, salt)

    def _looked_up(self, index: int) -> bytes:
        """Return an entry without creating a page of the map; fewer bytes if the index is shorter."""
        try:
            return os.pread(self._held.fd, _ENTRY_BYTES, index * _ENTRY_BYTES)
        except OverflowError:  # beyond the maximum size of a file
            return b""

    def put(self, index: int, value: Any, salt: int = 0) -> Any:
        """Store a value, and return it as `get` will return it.

        Raises:
            NoRoomError: The value was not stored.
            ReleasedError: The files were released.
            Exception: Pickling the value raised.
        """
        record, num_arrays = records.pack(value)
        kind, checksum = list(_checksums().items())[-1]
        crc = checksum(record) ^ self._mask
        with self._storing:
            if self._is_released:
                raise ReleasedError
            position = self._data.append(record)
            entry = _ENTRY.pack(position, len(record), num_arrays, kind, crc)
            # After the record, so that a process that sees the entry sees all bytes of the record.
            self._publish(index, entry + _closed(entry, index, salt))
        return records.unpack(memoryview(record), num_arrays)

    def release(self) -> None:
        """Store no more values in the files; wait for a record that another thread is storing."""
        with self._storing:
            self._is_released = True

    def _publish(self, index: int, entry: bytes) -> None:
        try:
            if os.pwrite(self._held.fd, entry, index * _ENTRY_BYTES) < len(entry):
                raise NoRoomError("no space left")
        except NoRoomError:
            raise
        except (OSError, OverflowError) as error:
            raise NoRoomError(str(error)) from error


def _closed(entry: bytes, index: int, salt: int) -> bytes:
    """Return the CRC of an entry, which differs for a half-written entry and for another index."""
    # Never 0: an index without an entry reads as 0, because the index is a sparse file.
    return _CHECK.pack(zlib.crc32(entry, (index ^ salt * _SALT) & 0xFFFFFFFF) | 1)


class DataFile:
    """A file of records as opened by one process. Records are addressed by their offset.

    Args:
        held: The file, open for appending, or read-only.
        max_bytes: The limit of its size; None for no limit but the free space.
    """

    def __init__(self, held: HeldDescriptor, max_bytes: int | None) -> None:
        self._held, self._max_bytes = held, max_bytes
        self._lock = Lock()  # protects the file position after a write
        self.view, self.close = _GrowingMap(held.fd).view, held.close

    def append(self, record: bytes) -> int:
        """Append a record, and return its offset.

        Raises:
            FullError: The file would exceed its limit.
            NoRoomError: The record was not stored, for another reason.
        """
        fd = self._held.fd
        try:
            with self._lock, _alone(fd):
                end = os.lseek(fd, 0, os.SEEK_END)
                # Without the lock of the file system, a record that another process appends in between moves this one
                # off its multiple. It is complete nevertheless.
                padding = -end % records.ALIGNED
                if self._max_bytes is not None and end + padding + len(record) > self._max_bytes:
                    raise FullError(f"the limit max_bytes={self._max_bytes:,} is reached")
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


@context_manager
def _alone(fd: int) -> Iterator[None]:
    """Keep other processes from appending to a file. The lock is not inherited by forked children."""
    with contextlib.suppress(OSError):  # a file system without locks: the limit may be exceeded by a few records
        fcntl.lockf(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.lockf(fd, fcntl.LOCK_UN)


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
        # The previous map remains while views of it exist.
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
