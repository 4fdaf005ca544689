"""FixedLengthRecordReader: records of one length, between a header and a footer."""

from mpqueue.errors import InvalidArgumentError, OutOfRangeError
from mpqueue.tf1.queues.making import as_integer
from mpqueue.tf1.readers.block_buffer import BlockBuffer
from mpqueue.tf1.readers.failures import shown
from mpqueue.tf1.readers.file_records import FileRecordReader
from mpqueue.tf1.readers.inflating import unpacked
from mpqueue.tf1.readers.opening import open_input


class FixedLengthRecordReader(FileRecordReader):
    """Reads binary records of a fixed length.

    The key is ``path:INDEX``, counted from 0. Bytes between the last whole record and the footer are ignored. A file
    that is shorter than header and footer has no records.

    Example:
        Records of four bytes behind a header of two::

            import pathlib
            import mpqueue

            pathlib.Path("data.bin").write_bytes(b"hhaaaabbbb")
            names = mpqueue.train.FIFOQueue(10, "string", [()])
            names.enqueue(["data.bin"])
            reader = mpqueue.train.FixedLengthRecordReader(record_bytes=4, header_bytes=2)
            keys, values = reader.read_up_to(names, 10)
            assert list(values) == [b"aaaa", b"bbbb"]

    Args:
        record_bytes: Length of a record, above 0.
        header_bytes: Bytes to skip at the start of every file.
        footer_bytes: Bytes to leave out at the end of every file.
        hop_bytes: From the start of one record to that of the next; 0 or None means ``record_bytes``.
        encoding: "ZLIB" or "GZIP" to unpack the file first.
        name: Kept as ``name``.

    Raises:
        TypeError: A length is no integer.
        InvalidArgumentError: A length is negative, ``record_bytes`` is 0 (TensorFlow gives empty records without end),
            or ``encoding`` is another one.

    Reading raises:
        NotFoundError, PermissionDeniedError, ...: The file cannot be opened; the next read takes the next file.
        OutOfRangeError: The header is longer than the file, which is then left out; also at the end of the queue.
        FailedPreconditionError: It is a folder, FIFO or device.
        DataLossError: The file cannot be unpacked.

    The last two come again at every read, unless they were met in the header: then the next read takes the next file.

    Follows: ``tf.compat.v1.FixedLengthRecordReader``.
    """

    def __init__(
        self,
        record_bytes: int,
        header_bytes: int | None = None,
        footer_bytes: int | None = None,
        hop_bytes: int | None = None,
        encoding: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        lengths = {"header_bytes": header_bytes, "footer_bytes": footer_bytes, "hop_bytes": hop_bytes}
        for what, length in lengths.items():
            if length is not None and as_integer(length, what) < 0:
                raise InvalidArgumentError(None, None, f"{what} must be 0 or more, got {length}")
        if as_integer(record_bytes, "record_bytes") < 1:
            raise InvalidArgumentError(None, None, f"record_bytes must be 1 or more, got {record_bytes}")
        if encoding not in {None, "", "NONE", "GZIP", "ZLIB"}:
            raise InvalidArgumentError(None, None, f"encoding must be 'GZIP', 'ZLIB' or None, got {encoding!r}")
        self._record_bytes, self._hop_bytes = record_bytes, hop_bytes or record_bytes
        self._header_bytes, self._footer_bytes = header_bytes or 0, footer_bytes or 0
        self._encoding = "" if encoding in {None, "NONE"} else str(encoding)

    def _open(self, name: bytes) -> "FixedLengthStream":
        buffer = BlockBuffer(unpacked(open_input(name), self._encoding, name))
        if not buffer.skip(self._header_bytes):
            text = f"{shown(name)} has {buffer.offset} bytes, fewer than its header of {self._header_bytes}"
            raise OutOfRangeError(None, None, text)
        return FixedLengthStream(buffer, self._record_bytes, self._hop_bytes, self._footer_bytes)


class FixedLengthStream:
    """The records of one file; see `RecordSource`.

    A record is returned once as many bytes as the footer has follow it. So the length of the file need not be known;
    that of a compressed or remote file often is not.
    """

    def __init__(self, buffer: BlockBuffer, record_bytes: int, hop_bytes: int, footer_bytes: int) -> None:
        self._buffer = buffer
        self._record_bytes, self._hop_bytes, self._footer_bytes = record_bytes, hop_bytes, footer_bytes
        self._num_taken = 0
        self._num_to_skip = 0

    def take(self, num_records: int) -> tuple[list[int], list[bytes]]:
        """Return the indices of the next records, and the records."""
        buffer, size, hop = self._buffer, self._record_bytes, self._hop_bytes
        needed = size + self._footer_bytes
        if not self._hop() or not buffer.fill(needed):
            return [], []
        start = buffer.place
        count = min(num_records, (buffer.num_unread - needed) // hop + 1)
        records = [buffer.block[at : at + size] for at in range(start, start + count * hop, hop)]
        first = self._num_taken
        self._num_taken += count
        self._num_to_skip = hop
        buffer.advance(start + (count - 1) * hop)
        return list(range(first, first + count)), records

    def _hop(self) -> bool:
        """Go to the start of the next record, in steps because a hop may be longer than a block."""
        before = self._buffer.offset
        is_there = self._buffer.skip(self._num_to_skip)
        self._num_to_skip -= self._buffer.offset - before
        return is_there

    def close(self) -> None:
        """Close the file."""
        self._buffer.close()
