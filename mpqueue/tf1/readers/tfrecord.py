"""The records of a TFRecord file in order; see `mpqueue.examples.record_frame`.

A file is read in blocks. All complete records of a block are split at once, and their checksums are compared in one
NumPy operation. The first corrupt record of a block remains in the buffer until the valid records before it were taken;
then each call raises the same error.
"""

from collections.abc import Callable

import numpy as np

from mpqueue.errors import DataLossError
from mpqueue.examples.record_frame import CHECK, HEADER, crc32c, masked
from mpqueue.tf1.readers.block_buffer import BlockBuffer
from mpqueue.tf1.readers.failures import shown
from mpqueue.tf1.readers.inflating import unpacked
from mpqueue.tf1.readers.opening import open_input

_HEADER_BYTES = HEADER.size
_FRAME_BYTES = HEADER.size + CHECK.size
_WRONG_DATA = "the checksum of the record's data is wrong"
# Enough for all lengths up to 64 KiB. A file with more different lengths computes some headers again.
_MAX_KNOWN_HEADERS = 65536


def _crc32c() -> Callable[[bytes], int]:
    return crc32c('TFRecord files need google-crc32c for their checksums: pip install "mpqueue[tfrecord]"')


def frame(payload: bytes) -> tuple[bytes, bytes]:
    """Return the bytes that the file has before and after a payload."""
    check = _crc32c()
    length = len(payload)
    before = HEADER.pack(length, masked(check(length.to_bytes(8, "little"))))
    return before, CHECK.pack(masked(check(payload)))


class RecordStream:
    """The records of one TFRecord file in order, with verified checksums.

    Args:
        name: Name of the file.
        compression: ``""``, ``"GZIP"`` or ``"ZLIB"``.
        max_record_bytes: Maximum size of a record in bytes. It is checked before memory is allocated.

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
        """Return offsets in the (decompressed) file and payloads of the next records; empty lists at the end.

        There are 1 to ``num_records`` records. There may be fewer at the end of a block.

        Raises:
            DataLossError: The next record is truncated, has a wrong checksum, or exceeds ``max_record_bytes``. Each
                further call raises it again. An incomplete header of up to 11 bytes counts as the end of the file.
            FailedPreconditionError: The path is a directory, FIFO or device.
        """
        if self._next == len(self._payloads):
            self._load()
        start = self._next
        stop = min(start + num_records, len(self._payloads))
        taken = self._offsets[start:stop], self._payloads[start:stop]
        self._next = stop
        if stop == len(self._payloads):  # a big record must be freed as soon as the caller drops it
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
        if not buffer.fill(_FRAME_BYTES + length):
            there = buffer.num_unread - _HEADER_BYTES
            raise self._loss(f"the file is truncated: expected {length + 4} bytes after the header, got {there}")
        self._cut_block()

    def _cut_block(self) -> None:
        block, at = self._buffer.block, self._buffer.place
        known, offset = self._lengths, self._buffer.offset - at
        places, payloads, checks = [], [], []
        # Headers are looked up by their bytes, including the checksum: most files have only a few different lengths.
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
        # Stop before the first corrupt record. It raises its error after the valid records before it were taken.
        self._buffer.advance(at if good == len(places) else places[good])
        self._offsets, self._payloads = [offset + place for place in places[:good]], payloads[:good]

    def _num_good(self, payloads: list[bytes], checks: list[bytes]) -> int:
        """Return the number of payloads before the first one with a wrong checksum."""
        crcs = np.fromiter(map(self._crc32c, payloads), np.uint64, len(payloads))
        wrong = np.flatnonzero(masked(crcs) != np.frombuffer(b"".join(checks), "<u4"))
        return int(wrong[0]) if wrong.size else len(payloads)

    def _length_at(self, at: int) -> int | None:
        """Return the length in the header at ``at``, or None if the header is truncated, corrupt or too long."""
        header = self._buffer.block[at : at + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES:
            return None
        length: int
        length, check = HEADER.unpack(header)
        if masked(self._crc32c(header[:8])) != check or length > self._max_record_bytes:
            return None
        if len(self._lengths) >= _MAX_KNOWN_HEADERS:  # bounds the memory for files with random lengths
            self._lengths.clear()
        self._lengths[header] = length
        return length

    def _fault_of_header(self) -> str:
        header = self._buffer.block[self._buffer.place : self._buffer.place + _HEADER_BYTES]
        length, check = HEADER.unpack(header)
        if masked(self._crc32c(header[:8])) != check:
            return "the checksum of the record's length is wrong. Is it a TFRecord file with this compression?"
        return f"the record has {length} bytes, but max_record_bytes is {self._max_record_bytes}"

    def _loss(self, what: str) -> DataLossError:
        return DataLossError(None, None, f"{shown(self._name)}: corrupt record at offset {self._buffer.offset}: {what}")
