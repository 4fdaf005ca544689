"""Records by their numbers, in two files that any processes of a host read and write at once.

::

    data     records, each behind the one before it, at a multiple of 64 bytes
    index    32 bytes for each number: where its record lies, its length, how many arrays it has, the CRC of the record,
             and the CRC of all this with the number

Whoever has a record appends it (`O_APPEND`: the system gives each write bytes of its own), and writes its entry in the
index when all of its bytes are there. So nothing is ever changed, and there is no lock that a process could die with:

    killed before the entry is whole   there is no such record; its bytes are lost room
    two with the same number           both are whole, and the later entry counts
    a file was cut, or damaged         what is cut off, or has another CRC, is not there; the rest is
    the machine has lost its power     the same

The files have no head: an empty file, and none at all, is one without records. Each process compares a record with its
CRC when it reads it for the first time; 27 GB/s where google-crc32c is installed, 3 with zlib's.

They are mapped for reading, and are not to be cut while processes have them open. Writing goes through `write`: where
no room is left that is an error, and not a signal. For the same reason the index, which has holes, is read through its
map only where an entry was found before: a tmpfs makes the page of a hole that is read through a map, which takes room
for entries that are not there, and is SIGBUS where none is left.
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
from mpqueue.system.locks import Lock

MISSING: Any = object()
_ENTRY = struct.Struct("<QQIII")  # offset, length, arrays, kind of the CRC, CRC
_CHECK = struct.Struct("<I")  # of the entry; 0: there is none
_ENTRY_BYTES = 32
_CHECK_AT = _ENTRY.size
_MOST_BYTES = 0x7FFFF000  # that Linux writes at once
_SALT = 0x9E3779B1
_ZLIB, _CRC32C = 1, 2


class NoRoomError(OSError):
    """No more records can be kept; those that are there stay."""


class RecordFiles:
    """The two files, as one process has them open; any thread may use them.

    Args:
        data: A descriptor of the data, open for appending,
        index: and one of the index; both are owned.
        max_bytes: Of the data; None: as far as there is room.
    """

    def __init__(self, data: int, index: int, *, max_bytes: int | None) -> None:
        self._pid, self._fds, self._max_bytes = os.getpid(), (data, index), max_bytes
        self._data, self._index = _GrowingMap(data), _GrowingMap(index)
        self._checked = bytearray()  # which records were compared with their CRC
        self._lock = Lock()  # of the place that a write leaves behind

    # Its functions are arguments: when the interpreter ends, the names of this module may be gone first.
    def __del__(self, getpid: Callable[[], int] = os.getpid, close: Callable[[int], None] = os.close) -> None:
        # A child has the same numbers: it opens the files itself, and may have given these to others.
        if getattr(self, "_pid", None) == getpid():
            for fd in self._fds:
                close(fd)

    def get(self, number: int, salt: int = 0) -> Any:
        """Return a value, whose arrays are read-only views of the file; `MISSING`: there is none.

        Args:
            number: Its number.
            salt: With which it was put: a value that was put with another one is none.

        Raises:
            Exception: Whatever the value's own unpickling raises.
        """
        checked = self._checked
        if number < len(checked) and checked[number]:
            entry = self._index.read(number * _ENTRY_BYTES, _ENTRY_BYTES)
        else:
            entry = self._looked_up(number)
        # Whoever writes an entry may have been killed in its middle, or be there now.
        if entry is None or entry[_CHECK_AT:] != _closed(entry[:_CHECK_AT], number, salt):
            return MISSING
        offset, length, num_arrays, kind, crc = _ENTRY.unpack_from(entry)
        view = self._data.view(offset, length)
        if view is None:
            return MISSING
        if number >= len(checked):
            checked.extend(bytes(number + 1 - len(checked) + len(checked) // 2))
        if not checked[number]:
            checksum = _checksums().get(kind)
            if checksum is None or checksum(view) != crc:
                return MISSING
            checked[number] = True
        return records.unpack(view, num_arrays)

    def _looked_up(self, number: int) -> bytes:
        """Return an entry, of which the map makes no page; fewer bytes: the index is not so long."""
        try:
            return os.pread(self._fds[1], _ENTRY_BYTES, number * _ENTRY_BYTES)
        except OverflowError:  # no file is so long
            return b""

    def put(self, number: int, value: Any, salt: int = 0) -> Any:
        """Keep a value, and return what `get` will give for it.

        Raises:
            NoRoomError: It is not kept.
            Exception: Whatever the value's own pickling raises.
        """
        record, num_arrays = records.pack(value)
        kind, checksum = list(_checksums().items())[-1]
        offset = self._append(record)
        entry = _ENTRY.pack(offset, len(record), num_arrays, kind, checksum(record))
        # Behind the record: whoever finds the entry finds all bytes of it.
        self._publish(number, entry + _closed(entry, number, salt))
        return records.unpack(memoryview(record), num_arrays)

    def _append(self, record: bytes) -> int:
        """Write a record, and return where it lies."""
        fd = self._fds[0]
        try:
            with self._lock:
                end = os.lseek(fd, 0, os.SEEK_END)
                padding = -end % records.ALIGNED
                if self._max_bytes is not None and end + padding + len(record) > self._max_bytes:
                    raise NoRoomError(f"max_bytes={self._max_bytes:,} is reached")
                if len(record) > _MOST_BYTES - padding:
                    raise NoRoomError(f"an element has {len(record):,} bytes, and {_MOST_BYTES:,} are the most")
                if os.writev(fd, [bytes(padding), record]) < padding + len(record):
                    raise NoRoomError("no room is left")
                # Other processes append, too: where it lies is known behind the write only.
                return os.lseek(fd, 0, os.SEEK_CUR) - len(record)
        except NoRoomError:
            raise
        except OSError as error:
            raise NoRoomError(str(error)) from error

    def _publish(self, number: int, entry: bytes) -> None:
        try:
            if os.pwrite(self._fds[1], entry, number * _ENTRY_BYTES) < len(entry):
                raise NoRoomError("no room is left")
        except NoRoomError:
            raise
        except (OSError, OverflowError) as error:
            raise NoRoomError(str(error)) from error


def _closed(entry: bytes, number: int, salt: int) -> bytes:
    """Return the check of an entry: one that is half written, or another number's, has another."""
    return _CHECK.pack(zlib.crc32(entry, (number ^ salt * _SALT) & 0xFFFFFFFF) | 1)


class _GrowingMap:
    """A file that grows, mapped as far as it was when something was asked for that lay behind that."""

    def __init__(self, fd: int) -> None:
        self._fd, self._size = fd, 0
        self._map: mmap.mmap | bytes = b""
        self._view = memoryview(b"")

    def read(self, start: int, length: int) -> bytes | None:
        """Return a copy of bytes; None: the file is not so long."""
        end = start + length
        return self._map[start:end] if end <= self._size or self._reaches(end) else None

    def view(self, start: int, length: int) -> memoryview | None:
        """Return bytes, read-only; None: the file is not so long."""
        end = start + length
        return self._view[start:end] if end <= self._size or self._reaches(end) else None

    def _reaches(self, end: int) -> bool:
        """Map all that is there now, and return whether it goes as far as that."""
        size = os.fstat(self._fd).st_size
        if size < end:
            return False
        # The map before this one stays as long as there are views of it.
        with descriptors.apart_from_standard():  # it has a descriptor of its own, which could be written to
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
    return lambda record: value(np.frombuffer(record, np.uint8))  # it takes no memoryview


@functools.cache
def _checksums() -> dict[int, Callable[[Any], int]]:
    """Return what computes the CRC of a record, by its kind; the last one is the quickest."""
    quick = _crc32c()
    return {_ZLIB: zlib.crc32} if quick is None else {_ZLIB: zlib.crc32, _CRC32C: quick}
