"""Messages of Arrow's IPC format: their positions in a file, their numbers of rows, and their buffers.

::

    stream    schema, then dictionaries and record batches in any order, then an end mark (or the end of the file)
    file      "ARROW1", two bytes, a stream, a footer, the length of the footer, "ARROW1"
    message   FFFFFFFF, int32: size of the header with padding; header (a flatbuffer); body

A header describes the body. For a record batch, it contains the number of rows, a node (length, nulls) for each array
in the tree of columns, and the positions of all buffers in the body. pyarrow reads only whole messages. Reading one row
of a batch of a thousand requires the positions of the buffers, so the few necessary header fields are parsed here. All
header fields are checked against the actual bytes.
"""

import struct
from typing import NamedTuple

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.access.window import ScanWindow, open_window
from mpqueue.files.indexing.index_file import Arrays

_MAGIC = b"ARROW1"
_FEATHER_1 = b"FEA1"
_CONTINUED = b"\xff\xff\xff\xff"
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
# A header has about 16 bytes per column. This limits the amount read because of a damaged length.
_MAX_HEADER_BYTES = 256 * 1024 * 1024

# Bytes between the end mark and the end or the footer; a message with a record batch is larger.
_MAX_PADDING_BYTES = 64


class BatchLayout(NamedTuple):
    """The positions of the parts of a record batch.

    Attributes:
        num_rows: The number of rows.
        nodes: Length and number of nulls of each array, depth first.
        buffers: Offset in the body and length of each buffer, depth first.
        body: The offset of the body in the message.
        is_compressed: Whether the buffers are compressed, each separately.
    """

    num_rows: int
    nodes: list[tuple[int, int]]
    buffers: list[tuple[int, int]]
    body: int
    is_compressed: bool


class _Flat:
    """A flatbuffer table. Raises `struct.error` or `IndexError` if it refers to a position outside of its bytes."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - self._get("<i", at)
        self._size = self._get("<H", self._fields)

    @classmethod
    def root(cls, data: bytes) -> "_Flat":
        return cls(data, struct.unpack_from("<I", data)[0])

    def _get(self, form: str, at: int) -> int:
        if at < 0:
            raise IndexError(at)
        value: int = struct.unpack_from(form, self._data, at)[0]
        return value

    def _position(self, field: int) -> int:
        position = 4 + 2 * field
        offset = self._get("<H", self._fields + position) if position < self._size else 0
        return self._at + offset if offset else 0

    def number(self, field: int, form: str) -> int:
        position = self._position(field)
        return self._get(form, position) if position else 0

    def has(self, field: int) -> bool:
        return self._position(field) > 0

    def table(self, field: int) -> "_Flat":
        position = self._position(field)
        if not position:
            raise IndexError(field)
        return _Flat(self._data, position + self._get("<I", position))

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """Return a vector of structs of two int64."""
        position = self._position(field)
        if not position:
            return []
        start = position + self._get("<I", position)
        count = self._get("<I", start)
        if start + 4 + 16 * count > len(self._data):
            raise IndexError(count)
        flat = struct.unpack_from(f"<{2 * count}q", self._data, start + 4)
        return list(zip(flat[::2], flat[1::2], strict=True))


def flatbuffer(message: bytes) -> bytes:
    """Return a message from its header on; old files have no marker before the length."""
    return message[8 if message[:4] == _CONTINUED else 4 :]


def is_little_endian(schema: bytes) -> bool:
    """Return whether the numbers of a file with this schema message are little endian, as in nearly all files."""
    return _Flat.root(flatbuffer(schema)).table(2).number(0, "<h") == 0


def layout(header: bytes, body: int) -> BatchLayout:
    """Return the positions of the parts of a record batch.

    Args:
        header: The flatbuffer of its message.
        body: The offset of the body in the message.

    Raises:
        ValueError: The header is damaged, or a buffer is outside of the body.
    """
    try:
        message = _Flat.root(header)
        batch = message.table(2)
        batch_layout = BatchLayout(batch.number(0, "<q"), batch.pairs(1), batch.pairs(2), body, batch.has(3))
        body_bytes = message.number(3, "<q")
    except (struct.error, IndexError) as error:
        raise ValueError("the header of a record batch is damaged") from error
    if any(offset < 0 or length < 0 or offset + length > body_bytes for offset, length in batch_layout.buffers):
        raise ValueError(f"a buffer of a record batch is outside of its body of {body_bytes:,} bytes")
    if batch_layout.num_rows < 0 or any(length < 0 for length, _ in batch_layout.nodes):
        raise ValueError("a record batch has a negative number of rows")
    return batch_layout


def scan(path: str) -> Arrays:
    """Return the positions of the messages of a file.

    Returns: ``offsets``, ``lengths``, ``headers`` (bytes before the body) and ``rows`` of its record batches, the same
        without rows for its dictionaries, and the bytes of the ``schema`` message.

    Raises:
        FileError: The file is not an Arrow file, or is truncated.
        OSError: The file cannot be read.
    """
    with open_window(path) as window:
        return _Scan(window).run()


class _Scan:
    def __init__(self, window: ScanWindow) -> None:
        self._window, self._path, self._size = window, window.path, window.size
        self._at = 0

    def run(self) -> Arrays:
        self._find_ends()
        schema = b""
        batches: list[tuple[int, int, int, int]] = []
        dictionaries: list[tuple[int, int, int]] = []
        while (message := self._next()) is not None:
            kind, rows, start, header = message
            length = self._at - start
            if kind == _SCHEMA and not schema:
                schema = self._window.read(start, length)
            elif kind == _BATCH and schema:
                batches.append((start, length, header, rows))
            elif kind == _DICTIONARY and schema:
                dictionaries.append((start, length, len(batches)))
            else:
                raise self._error(
                    start, f"expected a schema, then dictionaries and batches, got a message of kind {kind}"
                )
        if not schema:
            raise self._error(0, "it ends before its schema")
        offsets, lengths, headers, rows_of = np.array(batches, np.int64).reshape(-1, 4).T
        dictionary_offsets, dictionary_lengths, before = np.array(dictionaries, np.int64).reshape(-1, 3).T
        return {
            "offsets": offsets,
            "lengths": lengths,
            "headers": headers,
            "rows": rows_of,
            "schema": np.frombuffer(schema, np.uint8),
            "dictionary_offsets": dictionary_offsets,
            "dictionary_lengths": dictionary_lengths,
            "dictionary_before": before,  # number of batches in this file before the dictionary
        }

    def _error(self, offset: int, problem: str) -> FileError:
        return FileError(self._path, offset, f"{problem}; it may be damaged or truncated, or not an Arrow file")

    def _find_ends(self) -> None:
        start = self._window.read(0, 8)
        self._end = self._size
        if start[:4] == _FEATHER_1:
            raise FileError(self._path, 0, "it is a Feather file of version 1, expected version 2: write it again")
        if start[:4] == b"PAR1":
            raise FileError(self._path, 0, "it is a Parquet file: read it with mpqueue.files.Parquet")
        if start[:6] != _MAGIC:
            return  # a stream
        end = self._window.read(max(self._size - 10, 8), 10)
        footer = int.from_bytes(end[:4], "little")
        if end[4:] != _MAGIC or not 0 < footer <= self._size - 18:
            raise self._error(self._size, "it begins like an Arrow file, but does not end like one")
        self._at, self._end = 8, self._size - 10 - footer

    def _next(self) -> tuple[int, int, int, int] | None:
        """Return kind, rows, offset and header size of the next message, and advance; return None at the end."""
        start = self._at
        if start == self._end:
            return None
        head = self._window.read(start, 8)
        prefix = 8 if head[:4] == _CONTINUED else 4
        header = start + prefix
        if len(head) < prefix or header > self._end:
            raise self._error(start, "it ends in the length of a message")
        length = int.from_bytes(head[prefix - 4 : prefix], "little")
        if length == 0:
            # Zeros in place of a damaged message would otherwise hide all messages after it.
            if self._end - header > _MAX_PADDING_BYTES:
                raise self._error(start, f"{self._end - header:,} bytes follow an end mark")
            return None
        if length > min(_MAX_HEADER_BYTES, self._end - header):
            raise self._error(
                start, f"a header must fit into the remaining {self._end - header:,} bytes, got a length of {length:,}"
            )
        data = self._window.read(header, length)
        try:
            message = _Flat.root(data)
            kind, body = message.number(1, "<B"), message.number(3, "<q")
            rows = message.table(2).number(0, "<q") if kind == _BATCH else 0
        except (struct.error, IndexError) as error:
            raise self._error(start, "a header cannot be read") from error
        self._at = header + length + body
        if body < 0 or rows < 0 or self._at > self._end:
            available = self._end - header - length
            raise self._error(start, f"a message body of {body:,} bytes is truncated to {available:,}")
        return kind, rows, start, header + length - start
