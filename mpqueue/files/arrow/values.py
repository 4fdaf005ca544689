"""Values of many rows of uncompressed record batches, with all their bytes read together.

A batch of samples needs a few rows of many record batches. The cost per record batch must therefore be negligible, and
there is a single read for all of them:

    source(batch)   once per record batch and process: its small buffers, and the positions of the large ones
    add(rows)       a column reads the small buffers and the cached bytes of some rows, and records the ranges of the
                    file that it needs
    values(parts)   after all ranges of all columns were read, in the order of their positions: a value per row

A pyarrow array per row takes ten times longer than the value itself, so it is used only for the remaining types.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mpqueue.files.access.opened import OpenFiles
from mpqueue.files.access.ranges import Piece
from mpqueue.files.arrow.messages import BatchLayout
from mpqueue.files.arrow.slices import Slicer, num_parts, offset_type
from mpqueue.files.sources.rows import NUMBERS, cached_value_of, items, pyarrow

# Above this size, reading a few bytes is faster than copying the whole buffer into the process.
_SMALL_BUFFER_BYTES = 64 * 1024
_FORMS = {"<i4": "i", "<i8": "q"}
_EMPTY = -1  # the index of an empty range, which is not read
_MISSING = -2  # the index of a null value

Parts = Sequence[bytes]
# The bytes of the values of a column in a record batch, by row; None if they were not read yet.
KeptValues = list[bytes | None]


class RowRanges:
    """The file ranges that some rows need, and the caches for their bytes.

    Attributes:
        pieces: The ranges.
        homes: The index of a range to cache, the list that caches it, and its row.
    """

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.homes: list[tuple[int, KeptValues, int]] = []

    def read(self, opened: OpenFiles) -> Parts:
        """Return the bytes of each range, followed by an empty part; raises as `OpenFiles.read`."""
        parts = [*opened.read_all(self.pieces), b""]
        for index, kept, row in self.homes:
            kept[row] = parts[index]
        return parts


class RecordBatch:
    """A record batch in one process: the positions of its parts, and its small buffers.

    Args:
        opened: The files.
        file: The index of its file.
        body: The offset of its buffers in the file.
        layout: Its parts.
        columns: The selected columns, each with its first node and its first buffer.
        keeps_rows: Whether the bytes of rows are cached.

    Raises:
        ValueError: The header does not match the columns.
    """

    def __init__(
        self,
        opened: OpenFiles,
        file: int,
        body: int,
        layout: BatchLayout,
        columns: "Sequence[tuple[ArrowColumn, int, int]]",
        *,
        keeps_rows: bool,
    ) -> None:
        self.file, self.body, self.layout, self.keeps_rows = file, body, layout, keeps_rows
        self._opened, self._kept = opened, dict[int, bytes]()
        try:
            self.sources = [column.source(self, node, buffer) for column, node, buffer in columns]
            if any(layout.nodes[node][0] != layout.num_rows for _, node, _ in columns):
                raise ValueError("its columns must have as many rows as the batch")
        except IndexError as error:
            raise ValueError("it has fewer columns than its schema") from error

    def num_bytes(self) -> int:
        """Return the approximate memory usage."""
        parts = len(self.layout.nodes) + len(self.layout.buffers) + len(self.sources)
        return 500 + 200 * parts + sum(map(len, self._kept.values()))

    def read(self, buffer: int, start: int, length: int) -> bytes:
        """Return bytes of a buffer; a small buffer is read once and cached."""
        position, size = self.layout.buffers[buffer]
        if size > _SMALL_BUFFER_BYTES:
            return self._opened.read(self.file, self.body + position + start, length)
        return self._small(buffer)[start : start + length]

    def numbers(self, buffer: int, form: str, count: int) -> "Sequence[Any]":
        """Return the numbers in a buffer.

        Raises:
            ValueError: There are fewer than ``count``.
        """
        size, width = self.layout.buffers[buffer][1], struct.calcsize(form)
        if size < count * width:
            raise ValueError(f"expected {count:,} values of {width} bytes in a buffer, got {size:,} bytes")
        if size > _SMALL_BUFFER_BYTES:
            return _FarItems(self, buffer, form)
        return items(memoryview(self._small(buffer)), form, count)

    def validity(self, node: int, buffer: int) -> "Sequence[int] | None":
        """Return the validity bitmap as bytes; None if no value is null."""
        length, num_missing = self.layout.nodes[node]
        return self.numbers(buffer, "B", -(-length // 8)) if num_missing else None

    def _small(self, buffer: int) -> bytes:
        data = self._kept.get(buffer)
        if data is None:
            position, size = self.layout.buffers[buffer]
            data = self._kept[buffer] = self._opened.read(self.file, self.body + position, size)
        return data


class _FarItems(Sequence[Any]):
    """The numbers in a large buffer, each read separately."""

    def __init__(self, batch: RecordBatch, buffer: int, form: str) -> None:
        self._batch, self._buffer, self._item = batch, buffer, struct.Struct(form)

    def __len__(self) -> int:
        return self._batch.layout.buffers[self._buffer][1] // self._item.size

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # slices are not supported
        size = self._item.size
        return self._item.unpack(self._batch.read(self._buffer, index * size, size))[0]


class ArrowColumn:
    """A column of a type: builds the values of rows. It has no state."""

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        """Return the data that `add` needs of a record batch; raises `ValueError` if it is damaged."""
        raise NotImplementedError

    def add(self, cells: list[Any], source: Any, rows: Sequence[int], ranges: RowRanges) -> None:
        """Add a cell for each row, and the ranges that the rows need; raises `ValueError`, as `source` does."""
        raise NotImplementedError

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        """Return the values of cells after their ranges were read; the last part is empty.

        Raises:
            ValueError: The bytes are invalid for this type.
        """
        raise NotImplementedError


class _NumberColumn(ArrowColumn):
    def __init__(self, form: str) -> None:
        self._form = form

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        return batch.validity(node, buffer), batch.numbers(buffer + 1, self._form, batch.layout.nodes[node][0])

    def add(self, cells: list[Any], source: Any, rows: Sequence[int], ranges: RowRanges) -> None:
        validity, items = source
        cells += [items[row] if validity is None or validity[row >> 3] >> (row & 7) & 1 else None for row in rows]

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        return cells


class _RangeColumn(ArrowColumn):
    """A column with values that are ranges of one buffer: bytes, strings, lists of numbers.

    Args:
        form: The format of its offsets.
        width: The size of an item in bytes.
    """

    def __init__(self, form: str, width: int = 1) -> None:
        self._form, self._width = form, width

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        length = batch.layout.nodes[node][0]
        # Without rows, the offsets may be omitted.
        offsets = batch.numbers(buffer + 1, self._form, length + 1) if length else ()
        position, size = batch.layout.buffers[self._data(buffer)]
        kept: KeptValues | None = [None] * length if batch.keeps_rows else None
        return batch.validity(node, buffer), offsets, batch.file, batch.body + position, size // self._width, kept

    def _data(self, buffer: int) -> int:
        """Return the index of the buffer with the data."""
        return buffer + 2

    def add(self, cells: list[Any], source: Any, rows: Sequence[int], ranges: RowRanges) -> None:
        validity, offsets, file, position, limit, kept = source
        width, pieces = self._width, ranges.pieces
        for row in rows:
            if kept is not None and (part := kept[row]) is not None:
                cells.append(part)
                continue
            if validity is not None and not validity[row >> 3] >> (row & 7) & 1:
                cells.append(_MISSING)
                continue
            start, stop = offsets[row], offsets[row + 1]
            if not 0 <= start <= stop <= limit:
                raise ValueError(f"items {start:,} to {stop:,} are outside of a column of {limit:,}")
            if start == stop:
                cells.append(_EMPTY)
                continue
            cells.append(len(pieces))
            if kept is not None:
                ranges.homes.append((len(pieces), kept, row))
            pieces.append((file, position + start * width, (stop - start) * width))

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        return [cell if not isinstance(cell, int) else parts[cell] if cell != _MISSING else None for cell in cells]


class _TextColumn(_RangeColumn):
    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        return [None if part is None else part.decode() for part in super().values(cells, parts)]


class _ListColumn(_RangeColumn):
    """Lists of numbers, returned as arrays; lists with null items are returned as lists.

    Args:
        kind: The type of the column.
        form: The format of its offsets.
        item: The format of its numbers.
    """

    def __init__(self, kind: Any, form: str, item: str) -> None:
        self._dtype, self._with_holes = np.dtype(item), _SlicedColumn(kind)
        super().__init__(form, self._dtype.itemsize)

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        if batch.layout.nodes[node + 1][1]:
            return self._with_holes.source(batch, node, buffer)
        validity, offsets, file, position, limit, kept = super().source(batch, node, buffer)
        return validity, offsets, file, position, min(limit, batch.layout.nodes[node + 1][0]), kept

    def _data(self, buffer: int) -> int:
        return buffer + 3

    def add(self, cells: list[Any], source: Any, rows: Sequence[int], ranges: RowRanges) -> None:
        add = self._with_holes.add if isinstance(source, _SlicedSpan) else super().add
        add(cells, source, rows, ranges)

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        # Lists with null items are not bytes here. Bytes are copied, so that the array is writable.
        return [
            np.frombuffer(part, self._dtype).copy() if isinstance(part, bytes) else part
            for part in super().values(cells, parts)
        ]


class _StructColumn(ArrowColumn):
    """A column of columns, with dicts as values.

    Args:
        fields: Name, column, and first node and buffer of each field, relative to this column's own.
    """

    def __init__(self, fields: Sequence[tuple[str, ArrowColumn, int, int]]) -> None:
        self._fields = fields

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        length = batch.layout.nodes[node][0]
        inner = []
        for _, column, nodes, buffers in self._fields:
            if batch.layout.nodes[node + nodes][0] != length:
                raise ValueError("a field of a column must have as many rows as the column")
            inner.append(column.source(batch, node + nodes, buffer + buffers))
        return batch.validity(node, buffer), inner

    def add(self, cells: list[Any], source: Any, rows: Sequence[int], ranges: RowRanges) -> None:
        validity, inner = source
        if not cells:
            cells += [[] for _ in range(len(self._fields) + 1)]
        cells[0] += [validity is None or validity[row >> 3] >> (row & 7) & 1 for row in rows]
        for (_, column, _, _), of_field, each in zip(self._fields, cells[1:], inner, strict=True):
            column.add(of_field, each, rows, ranges)

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        names = [name for name, *_ in self._fields]
        columns = [field[1].values(each, parts) for field, each in zip(self._fields, cells[1:], strict=True)]
        rows = zip(*columns, strict=True) if columns else [()] * len(cells[0])
        return [
            dict(zip(names, row, strict=True)) if is_there else None
            for is_there, row in zip(cells[0], rows, strict=True)
        ]


class _SlicedSpan(NamedTuple):
    """The position of a column in a record batch."""

    batch: RecordBatch
    node: int
    buffer: int


class _SlicedColumn(ArrowColumn):
    """A column of any type that can be sliced, read as pyarrow arrays of adjacent rows.

    Args:
        kind: The type.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def source(self, batch: RecordBatch, node: int, buffer: int) -> _SlicedSpan:
        nodes, buffers = num_parts(self._kind)
        if node + nodes > len(batch.layout.nodes) or buffer + buffers > len(batch.layout.buffers):
            raise IndexError(node)
        return _SlicedSpan(batch, node, buffer)

    def add(self, cells: list[Any], source: _SlicedSpan, rows: Sequence[int], ranges: RowRanges) -> None:
        batch, node, buffer = source
        at = 0
        while at < len(rows):
            stop = at + 1
            while stop < len(rows) and rows[stop] == rows[stop - 1] + 1:
                stop += 1
            array = Slicer(batch.layout, batch.read, node, buffer).rows(self._kind, rows[at], rows[stop - 1] + 1)
            value = cached_value_of(array.type)
            cells += map(value, array)
            at = stop

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        return cells


def column_of(kind: Any) -> ArrowColumn:
    """Return the column of a pyarrow type that can be sliced; see `mpqueue.files.arrow.slices`."""
    pa = pyarrow()
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return column_of(kind.storage_type)
    if (form := NUMBERS.get(str(kind))) is not None:
        return _NumberColumn(form)
    if (offsets := offset_type(kind)) is not None:
        return (_TextColumn if types.is_string(kind) or types.is_large_string(kind) else _RangeColumn)(_FORMS[offsets])
    if types.is_list(kind) or types.is_large_list(kind):
        item = NUMBERS.get(str(kind.value_type))
        if item is not None:
            return _ListColumn(kind, "i" if types.is_list(kind) else "q", item)
    if types.is_struct(kind):
        fields, nodes, buffers = [], 1, 1
        for field in kind:
            fields.append((field.name, column_of(field.type), nodes, buffers))
            of_field = num_parts(field.type)
            nodes, buffers = nodes + of_field[0], buffers + of_field[1]
        return _StructColumn(fields)
    return _SlicedColumn(kind)
