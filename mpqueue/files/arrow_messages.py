"""Messages of Arrow's IPC format: where each lies in a file, how many rows it has, where its buffers are.

::

    stream    schema, then dictionaries and record batches in any order, then an end mark (or the end of the file)
    file      "ARROW1", two bytes, a stream, a footer, its length, "ARROW1"
    message   FFFFFFFF, int32: bytes of the header with its padding; header (a flatbuffer); body

A header says what the body is; of a record batch it has the number of rows, a node (length, nulls) for each array of
the tree of columns, and the places of all buffers in the body. pyarrow reads whole messages only. Whoever wants one row
of a batch of a thousand has to know where the buffers are, so the few fields of the header are read here. All that a
header says is compared with the bytes that are there.
"""

import struct
from typing import NamedTuple

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.index_file import Arrays
from mpqueue.files.window import ScanWindow, open_window

_MAGIC = b"ARROW1"
_FEATHER_1 = b"FEA1"
_CONTINUED = 0xFFFFFFFF
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
# A header has some 16 bytes for each column; this bounds what a damaged length makes us read.
_MAX_HEADER_BYTES = 256 * 1024 * 1024


class BatchLayout(NamedTuple):
    """The places of the parts of a record batch.

    Attributes:
        num_rows: Its rows.
        nodes: Length and number of nulls of each array, depth first.
        buffers: Offset in the body and length of each buffer, depth first.
        body: Where the body begins, from the beginning of the message.
        is_compressed: The buffers are compressed, each by itself.
    """

    num_rows: int
    nodes: list[tuple[int, int]]
    buffers: list[tuple[int, int]]
    body: int
    is_compressed: bool


class _Flat:
    """A table of a flatbuffer; `struct.error` or `IndexError` where it points outside of its bytes."""

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
        found: int = struct.unpack_from(form, self._data, at)[0]
        return found

    def _place(self, number: int) -> int:
        place = 4 + 2 * number
        offset = self._get("<H", self._fields + place) if place < self._size else 0
        return self._at + offset if offset else 0

    def number(self, field: int, form: str) -> int:
        place = self._place(field)
        return self._get(form, place) if place else 0

    def has(self, field: int) -> bool:
        return self._place(field) > 0

    def table(self, field: int) -> "_Flat":
        place = self._place(field)
        if not place:
            raise IndexError(field)
        return _Flat(self._data, place + self._get("<I", place))

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """Return a vector of structs of two int64."""
        place = self._place(field)
        if not place:
            return []
        start = place + self._get("<I", place)
        count = self._get("<I", start)
        if start + 4 + 16 * count > len(self._data):
            raise IndexError(count)
        flat = struct.unpack_from(f"<{2 * count}q", self._data, start + 4)
        return list(zip(flat[::2], flat[1::2], strict=True))


def flatbuffer(message: bytes) -> bytes:
    """Return a message from where its header begins: old files have no mark before its length."""
    return message[8 if message[:4] == b"\xff\xff\xff\xff" else 4 :]


def is_little_endian(schema: bytes) -> bool:
    """Return whether the numbers of a file with this message of a schema are little endian, as nearly all are."""
    return _Flat.root(flatbuffer(schema)).table(2).number(0, "<h") == 0


def layout(header: bytes, body: int) -> BatchLayout:
    """Return where the parts of a record batch are.

    Args:
        header: The flatbuffer of its message.
        body: Where the body begins, from the beginning of the message.

    Raises:
        ValueError: The header is damaged, or a buffer lies outside of the body.
    """
    try:
        message = _Flat.root(header)
        batch = message.table(2)
        found = BatchLayout(batch.number(0, "<q"), batch.pairs(1), batch.pairs(2), body, batch.has(3))
        body_bytes = message.number(3, "<q")
    except (struct.error, IndexError) as error:
        raise ValueError("the header of a record batch is damaged") from error
    if any(offset < 0 or length < 0 or offset + length > body_bytes for offset, length in found.buffers):
        raise ValueError(f"a buffer of a record batch lies outside of its body of {body_bytes:,} bytes")
    if found.num_rows < 0 or any(length < 0 for length, _ in found.nodes):
        raise ValueError("a record batch of less than no rows")
    return found


def scan(path: str) -> Arrays:
    """Return where the messages of a file are.

    Returns: ``offsets``, ``lengths``, ``headers`` (bytes before the body) and ``rows`` of its record batches, the same
    without rows of its dictionaries, and ``schema``: the bytes of that message.

    Raises:
        FileError: It is no file of this format, or is cut short.
        OSError: The system's.
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
        while (found := self._next()) is not None:
            kind, rows, start, header = found
            length = self._at - start
            if kind == _SCHEMA and not schema:
                schema = self._window.read(start, length)
            elif kind == _BATCH and schema:
                batches.append((start, length, header, rows))
            elif kind == _DICTIONARY and schema:
                dictionaries.append((start, length, len(batches)))
            else:
                raise self._error(start, f"a message of kind {kind}, expected a schema, then dictionaries and batches")
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
            "dictionary_before": before,  # of how many batches of this file
        }

    def _error(self, offset: int, what: str) -> FileError:
        return FileError(self._path, offset, f"{what}; is it damaged, or cut short, or no file of Arrow?")

    def _find_ends(self) -> None:
        start = self._window.read(0, 8)
        self._end = self._size
        if start[:4] == _FEATHER_1:
            raise FileError(self._path, 0, "it is a Feather file of version 1, expected version 2: write it anew")
        if start[:6] == b"PAR1" or start[:4] == b"PAR1":
            raise FileError(self._path, 0, "it is a Parquet file: read it by mpqueue.files.Parquet")
        if start[:6] != _MAGIC:
            return  # a stream
        end = self._window.read(max(self._size - 10, 8), 10)
        footer = int.from_bytes(end[:4], "little")
        if end[4:] != _MAGIC or not 0 < footer <= self._size - 18:
            raise self._error(self._size, "it begins as an Arrow file, and does not end as one")
        self._at, self._end = 8, self._size - 10 - footer

    def _next(self) -> tuple[int, int, int, int] | None:
        """Return kind, rows, offset and bytes before the body of the next message, and pass it; None: the end."""
        start = self._at
        if start == self._end:
            return None
        head = self._window.read(start, 8)
        if len(head) < 4 or start + 4 > self._end:
            raise self._error(start, "it ends in the length of a message")
        length, header = int.from_bytes(head[:4], "little"), start + 4
        if length == _CONTINUED:
            if len(head) < 8 or start + 8 > self._end:
                raise self._error(start, "it ends in the length of a message")
            length, header = int.from_bytes(head[4:], "little"), start + 8
        if length == 0:
            return None
        if length > min(_MAX_HEADER_BYTES, self._end - header):
            raise self._error(start, f"a header of {length:,} bytes, of which {self._end - header:,} can be there")
        data = self._window.read(header, length)
        try:
            message = _Flat.root(data)
            kind, body = message.number(1, "<B"), message.number(3, "<q")
            rows = message.table(2).number(0, "<q") if kind == _BATCH else 0
        except (struct.error, IndexError) as error:
            raise self._error(start, "a header that cannot be read") from error
        self._at = header + length + body
        if body < 0 or rows < 0 or self._at > self._end:
            there = self._end - header - length
            raise self._error(start, f"a message whose body has {body:,} bytes, of which {there:,} are there")
        return kind, rows, start, header + length - start
