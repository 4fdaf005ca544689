"""`FixedLengthRecordReader`: records of equal length, between a header and a footer."""

from mpqueue.errors import InvalidArgumentError, OutOfRangeError
from mpqueue.tf1.queues.making import as_integer
from mpqueue.tf1.readers.block_buffer import BlockBuffer
from mpqueue.tf1.readers.failures import shown
from mpqueue.tf1.readers.file_records import FileRecordReader
from mpqueue.tf1.readers.inflating import unpacked
from mpqueue.tf1.readers.opening import open_input


class FixedLengthRecordReader(FileRecordReader):
    """A reader of binary records with a fixed length.

    The key is ``path:INDEX``, counted from 0. Bytes between the last complete record and the footer are ignored. A file
    that is shorter than header and footer has no records.

    Example:
        Records of four bytes after a header of two::

            import pathlib
            import mpqueue

            pathlib.Path("data.bin").write_bytes(b"hhaaaabbbb")
            names = mpqueue.train.FIFOQueue(10, "string", [()])
            names.enqueue(["data.bin"])
            reader = mpqueue.train.FixedLengthRecordReader(record_bytes=4, header_bytes=2)
            keys, values = reader.read_up_to(names, 10)
            assert list(values) == [b"aaaa", b"bbbb"]

    Args:
        record_bytes: Length of a record in bytes, at least 1.
        header_bytes: Number of bytes to skip at the start of each file.
        footer_bytes: Number of bytes to ignore at the end of each file.
        hop_bytes: Distance between the starts of two records; 0 or None means ``record_bytes``.
        encoding: "ZLIB" or "GZIP" to decompress the file.
        name: Name of the reader.

    Raises:
        TypeError: A length is not an integer.
        InvalidArgumentError: A length is negative, ``record_bytes`` is 0 (TensorFlow returns empty records endlessly),
            or ``encoding`` is not supported.

    Reading raises:
        NotFoundError, PermissionDeniedError, ...: The file cannot be opened. The next read takes the next file.
        OutOfRangeError: The header is longer than the file, which is then skipped; or the queue is closed and empty.
        FailedPreconditionError: The path is a directory, FIFO or device.
        DataLossError: The file cannot be decompressed.

    Each read raises the last two errors again, unless they occurred in the header: then the next read takes the next
    file.

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
                raise InvalidArgumentError(None, None, f"{what} must be at least 0, got {length}.")
        if as_integer(record_bytes, "record_bytes") < 1:
            raise InvalidArgumentError(None, None, f"record_bytes must be at least 1, got {record_bytes}.")
        if encoding not in {None, "", "NONE", "GZIP", "ZLIB"}:
            raise InvalidArgumentError(None, None, f"encoding must be 'GZIP', 'ZLIB' or None, got {encoding!r}.")
        self._record_bytes, self._hop_bytes = record_bytes, hop_bytes or record_bytes
        self._header_bytes, self._footer_bytes = header_bytes or 0, footer_bytes or 0
        self._encoding = "" if encoding in {None, "NONE"} else str(encoding)

    def _open(self, name: bytes) -> "FixedLengthStream":
        buffer = BlockBuffer(unpacked(open_input(name), self._encoding, name))
        if not buffer.skip(self._header_bytes):
            text = f"{shown(name)} has {buffer.offset} bytes, fewer than its header of {self._header_bytes} bytes."
            raise OutOfRangeError(None, None, text)
        return FixedLengthStream(buffer, self._record_bytes, self._hop_bytes, self._footer_bytes)


class FixedLengthStream:
    """The records of one file; see `RecordSource`.

    A record is returned when it is followed by at least as many bytes as the footer has. So the file's length is not
    required, which is often unknown for compressed or remote files.
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
        """Advance to the next record. The step may be incomplete, because a hop can be longer than a block."""
        before = self._buffer.offset
        is_there = self._buffer.skip(self._num_to_skip)
        self._num_to_skip -= self._buffer.offset - before
        return is_there

    def close(self) -> None:
        """Close the file."""
        self._buffer.close()
