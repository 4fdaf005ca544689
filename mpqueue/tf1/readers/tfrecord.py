"""The TFRecord format: records one after the other, each with two checksums.

    length   uint64, little endian
    check    uint32: masked crc32c of the eight bytes before
    payload  ``length`` bytes
    check    uint32: masked crc32c of the payload

A file is read in blocks, and all whole records of a block are cut out at once. Their checksums are compared in one
NumPy operation. Records of one file mostly share a few lengths, so the length of a header that was seen before is
looked up by its bytes. A record is passed only after its checksums were verified. The first bad one of a block stays
until the good ones before it were taken; every call that asks for it raises the same error.
"""

import functools
import struct
from collections.abc import Callable

import numpy as np

from mpqueue.errors import DataLossError
from mpqueue.tf1.readers.block_buffer import BlockBuffer
from mpqueue.tf1.readers.failures import shown
from mpqueue.tf1.readers.inflating import unpacked
from mpqueue.tf1.readers.opening import open_input

_LENGTH = struct.Struct("<Q")
_CHECK = struct.Struct("<I")
_HEADER_BYTES = 12
# A record above this is read by itself: two system calls cost less than a copy out of a block (15 us instead of 29
# for 100 KB, checksum included).
_BIG_BYTES = 32 * 1024
_FRAME_BYTES = 16
_MASK_DELTA = 0xA282EAD8
_WRONG_DATA = "the checksum of the record's data is wrong"
# Headers of all lengths up to 64 KiB fit; a file with more different ones computes them again.
_MAX_KNOWN_HEADERS = 65536


@functools.cache
def _crc32c() -> Callable[[bytes], int]:
    try:
        import google_crc32c
    except ImportError as missing:
        message = 'TFRecord files need google-crc32c for their checksums: pip install "mpqueue[tfrecord]"'
        raise ImportError(message) from missing
    value: Callable[[bytes], int] = google_crc32c.value
    return value


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def frame(payload: bytes) -> tuple[bytes, bytes]:
    """Return the bytes before and after a payload in the file."""
    crc32c = _crc32c()
    length = _LENGTH.pack(len(payload))
    return length + _CHECK.pack(_masked(crc32c(length))), _CHECK.pack(_masked(crc32c(payload)))


class RecordStream:
    """The records of one TFRecord file, front to back, checksums verified.

    Args:
        name: The file.
        compression: ``""``, ``"GZIP"`` or ``"ZLIB"``.
        max_record_bytes: A record that claims more is an error, before memory is taken for it.

    Raises:
        NotFoundError, PermissionDeniedError, ...: The file cannot be opened.
        ImportError: google-crc32c is not installed.
    """

    def __init__(self, name: bytes, compression: str, max_record_bytes: int) -> None:
        self._crc32c = _crc32c()
        self._name, self._max_record_bytes = name, max_record_bytes
        self._buffer = BlockBuffer(unpacked(open_input(name), compression, name))
        self._lengths: dict[bytes, int] = {}
        self._offsets: list[int] = []
        self._payloads: list[bytes] = []
        self._next = 0

    def take(self, num_records: int) -> tuple[list[int], list[bytes]]:
        """Return offsets in the (unpacked) file and payloads of the next records; none at the end of the file.

        There is at least one record, and at most ``num_records``; fewer where a block ends.

        Raises:
            DataLossError: The next record is cut, its checksum is wrong, or it is above ``max_record_bytes``; again
                at every further call. Up to 11 bytes where a header should be count as the end of the file.
            FailedPreconditionError: The name is a folder, FIFO or device.
        """
        if self._next == len(self._payloads):
            self._load()
        start = self._next
        stop = min(start + num_records, len(self._payloads))
        taken = self._offsets[start:stop], self._payloads[start:stop]
        self._next = stop
        if stop == len(self._payloads):  # so that a big record is freed as soon as the caller drops it
            self._offsets, self._payloads, self._next = [], [], 0
        return taken

    def close(self) -> None:
        """Close the file."""
        self._buffer.close()

    def _load(self) -> None:
        buffer = self._buffer
        if not buffer.fill(_HEADER_BYTES):
            return
        length = self._length_at(buffer.place)
        if length is None:
            raise self._loss(self._fault_of_header())
        if length > _BIG_BYTES and buffer.num_unread < _FRAME_BYTES + length:
            self._take_big(length)
        elif buffer.fill(_FRAME_BYTES + length):
            self._cut_block()
        else:
            raise self._cut_short(length)

    def _take_big(self, length: int) -> None:
        """Take a big record without copying it out of a block; the next header is read, but no more."""
        buffer, offset = self._buffer, self._buffer.offset
        parts = [buffer.take(_HEADER_BYTES), buffer.take(length)]
        if parts[1] is not None:
            buffer.fill(4 + _HEADER_BYTES, ahead_bytes=0)
            parts.append(buffer.take(4))
        whole = [part for part in parts if part is not None]
        good = len(whole) == 3 and _masked(self._crc32c(whole[1])) == _CHECK.unpack(whole[2])[0]
        if not good:
            # The next call is to find the same record, and to raise the same error.
            buffer.put_back(b"".join(whole))
            raise self._cut_short(length) if len(whole) < 3 else self._loss(_WRONG_DATA)
        self._offsets, self._payloads = [offset], [whole[1]]

    def _cut_block(self) -> None:
        block, at = self._buffer.block, self._buffer.place
        known, offset = self._lengths, self._buffer.offset - at
        places, payloads, checks = [], [], []
        # A header that was seen before is known by its bytes, checksum included: the file mostly has a few lengths.
        while (length := known.get(block[at : at + _HEADER_BYTES])) is not None or (
            length := self._length_at(at)
        ) is not None:
            end = at + _HEADER_BYTES + length
            if end + 4 > len(block):
                break
            places.append(at)
            payloads.append(block[at + _HEADER_BYTES : end])
            checks.append(block[end : end + 4])
            at = end + 4
        good = self._num_good(payloads, checks)
        if not good:
            raise self._loss(_WRONG_DATA)
        # Not behind the first bad one: it stays, and raises its error when the good ones before it were taken.
        self._buffer.advance(at if good == len(places) else places[good])
        self._offsets, self._payloads = [offset + place for place in places[:good]], payloads[:good]

    def _num_good(self, payloads: list[bytes], checks: list[bytes]) -> int:
        """Count the payloads with the right checksum before the first with a wrong one."""
        crcs = np.fromiter(map(self._crc32c, payloads), np.uint32, len(payloads))
        masked = (crcs >> np.uint32(15) | crcs << np.uint32(17)) + np.uint32(_MASK_DELTA)
        wrong = np.flatnonzero(masked != np.frombuffer(b"".join(checks), "<u4"))
        return int(wrong[0]) if wrong.size else len(payloads)

    def _length_at(self, at: int) -> int | None:
        """Return the length of the record whose header is at ``at``; None if that is cut off, wrong or too long."""
        header = self._buffer.block[at : at + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES or _masked(self._crc32c(header[:8])) != _CHECK.unpack_from(header, 8)[0]:
            return None
        length: int = _LENGTH.unpack_from(header)[0]
        if length > self._max_record_bytes:
            return None
        if len(self._lengths) >= _MAX_KNOWN_HEADERS:  # a file of random lengths must not fill the memory with them
            self._lengths.clear()
        self._lengths[header] = length
        return length

    def _fault_of_header(self) -> str:
        header = self._buffer.block[self._buffer.place : self._buffer.place + _HEADER_BYTES]
        if _masked(self._crc32c(header[:8])) != _CHECK.unpack_from(header, 8)[0]:
            return "the checksum of the record's length is wrong: no TFRecord file, or another compression?"
        length = _LENGTH.unpack_from(header)[0]
        return f"the record claims {length} bytes, max_record_bytes allows {self._max_record_bytes}"

    def _cut_short(self, length: int) -> DataLossError:
        there = max(0, self._buffer.num_unread - _HEADER_BYTES)
        return self._loss(f"the file ends in it: {length + 4} bytes should follow the header, {there} do")

    def _loss(self, what: str) -> DataLossError:
        return DataLossError(None, None, f"{shown(self._name)}: bad record at offset {self._buffer.offset}: {what}")
