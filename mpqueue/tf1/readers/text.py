"""`TextLineReader`: lines of text files, split block by block."""

from mpqueue.errors import DataLossError, InvalidArgumentError
from mpqueue.memory.glibc import keep_freed_memory
from mpqueue.tf1.queues.making import as_integer
from mpqueue.tf1.readers.failures import shown
from mpqueue.tf1.readers.file_records import DEFAULT_MAX_RECORD_BYTES, FileRecordReader, positive_bytes
from mpqueue.tf1.readers.opening import BLOCK_BYTES, open_input

_SKIP_LINES = 4096


class TextLineReader(FileRecordReader):
    r"""A reader of text files that returns lines as ``bytes``.

    The key is ``path:N``. N counts from 1 and includes skipped lines. A line ends with ``\n`` or at the end of the
    file. The value does not include the ``\n``, nor a ``\r`` before it. Text after the last ``\n`` is a line unless it
    is empty or only ``\r``. Compressed files are not supported.

    Example:
        The lines of a file, after its header::

            import pathlib
            import mpqueue

            pathlib.Path("people.csv").write_text("name,age\nAda,36\nAlan,41\n")
            names = mpqueue.train.FIFOQueue(10, "string", [()])
            names.enqueue(["people.csv"])
            reader = mpqueue.train.TextLineReader(skip_header_lines=1)
            assert reader.read(names) == (b"people.csv:2", b"Ada,36")
            assert reader.num_records_produced() == 1

    Args:
        skip_header_lines: Number of lines to skip at the start of each file. A file with fewer lines has no records.
        name: Name of the reader.
        max_record_bytes: Maximum size of a line in bytes. It is checked before the whole line is in memory.

    Raises:
        TypeError: ``skip_header_lines`` is not an integer.
        InvalidArgumentError: ``skip_header_lines`` is negative.
        ValueError: ``max_record_bytes`` is less than 1.

    Reading raises:
        NotFoundError, PermissionDeniedError, ...: The file cannot be opened. The next read takes the next file.
        FailedPreconditionError: The path is a directory, FIFO or device. Each further read raises it again.
        DataLossError: A line exceeds ``max_record_bytes``. Each further read raises it again.

    Follows: ``tf.compat.v1.TextLineReader``.
    """

    def __init__(
        self,
        skip_header_lines: int | None = None,
        name: str | None = None,
        *,
        max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES,
    ) -> None:
        super().__init__()
        self.name = name
        self._num_skipped = as_integer(skip_header_lines or 0, "skip_header_lines")
        self._max_record_bytes = positive_bytes(max_record_bytes, "max_record_bytes")
        if self._num_skipped < 0:
            raise InvalidArgumentError(None, None, f"skip_header_lines must be at least 0, got {skip_header_lines}.")

    def _open(self, name: bytes) -> "LineStream":
        lines = LineStream(name, self._max_record_bytes)
        left = self._num_skipped
        while left and (skipped := len(lines.take(min(left, _SKIP_LINES))[1])):
            left -= skipped
        return lines


class LineStream:
    """The lines of one file; see `RecordSource`."""

    def __init__(self, name: bytes, max_line_bytes: int) -> None:
        keep_freed_memory()
        self._name, self._max_line_bytes = name, max_line_bytes
        self._file = open_input(name)
        self._parts: list[bytes] = []  # parts of the line that continues in the next block
        self._num_part_bytes = 0
        self._lines: list[bytes] = []
        self._next = self._num_taken = 0
        self._failure = ""

    def take(self, num_records: int) -> tuple[list[int], list[bytes]]:
        """Return the numbers of the next lines, and the lines."""
        if self._next == len(self._lines):
            self._lines, self._next = self._load(), 0
        lines = self._lines[self._next : self._next + num_records]
        self._next += len(lines)
        first = self._num_taken + 1
        self._num_taken += len(lines)
        return list(range(first, first + len(lines))), lines

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _load(self) -> list[bytes]:
        """Return the lines that end in the next block with a line break; empty at the end of the file."""
        while not self._failure:
            block = self._file.read(BLOCK_BYTES)
            # Search only the last line break: one call splits all lines before it.
            text, end, rest = block.rpartition(b"\n")
            self._parts.append(text if end else rest)
            self._num_part_bytes += len(self._parts[-1])
            if end or not block:
                lines = self._checked(self._split(rest, at_end=not block))
                if lines or not self._failure:
                    return lines
            # Check at each block: a line without an end must not be read into memory completely.
            elif self._num_part_bytes > self._max_line_bytes:
                self._fail(self._num_taken + 1, f"{self._num_part_bytes} or more")
        raise DataLossError(None, None, self._failure)

    def _split(self, rest: bytes, *, at_end: bool) -> list[bytes]:
        text = b"".join(self._parts)
        self._parts, self._num_part_bytes = [rest] if rest else [], len(rest)
        lines = text.split(b"\n")
        if b"\r" in text:
            lines = [line.removesuffix(b"\r") for line in lines]
        return [line for line in lines if line] if at_end else lines

    def _checked(self, lines: list[bytes]) -> list[bytes]:
        """Return the lines before the first line that is too long."""
        if sum(map(len, lines)) <= self._max_line_bytes:  # common case: all lines together are below the limit
            return lines
        good = next((place for place, line in enumerate(lines) if len(line) > self._max_line_bytes), len(lines))
        if good < len(lines):
            self._fail(self._num_taken + 1 + good, str(len(lines[good])))
        return lines[:good]

    def _fail(self, number: int, size: str) -> None:
        self._parts, self._num_part_bytes = [], 0
        size_text = f"line {number} has {size} bytes"
        self._failure = f"{shown(self._name)}: {size_text}, but max_record_bytes is {self._max_line_bytes}"
