"""Values of many rows of uncompressed record batches, whose bytes are read at once.

A batch of samples asks for a few rows of many record batches. So what is done for each of them has to cost next to
nothing, and there must be one read for all:

    source(batch)   once for each record batch and process: its small buffers, looked at, and the places of the large
    add(rows)       a column takes what small buffers say of some rows, and the bytes that are kept of them, and notes
                    the ranges that it needs of the file
    values(parts)   when all ranges of all columns were read, in the order in which they lie: a value for each row

An array of pyarrow for a row costs ten times what the value itself does; it is made where no other way is known.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mpqueue.files.arrow_messages import BatchLayout
from mpqueue.files.arrow_slices import Slicer, num_parts, offset_type
from mpqueue.files.opened import OpenFiles
from mpqueue.files.ranges import Piece
from mpqueue.files.rows import NUMBERS, cached_value_of, items, pyarrow

# Above this a read of a few bytes is faster than the copy of all of them into the process would be.
_SMALL_BUFFER_BYTES = 64 * 1024
_FORMS = {"<i4": "i", "<i8": "q"}
_EMPTY = -1  # the number of a range that has no bytes, and is not read
_MISSING = -2  # that of a value that is not there

Parts = Sequence[bytes]
# The bytes of the values of a column of a record batch, by rows; None: not read yet.
KeptValues = list[bytes | None]


class RowRanges:
    """The ranges of files that some rows need, and where their bytes are kept.

    Attributes:
        pieces: The ranges.
        homes: The number of a range whose bytes are to be kept, where, and of which row.
    """

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.homes: list[tuple[int, KeptValues, int]] = []

    def read(self, opened: OpenFiles) -> Parts:
        """Return the bytes of each range, and behind them a part that is empty; raises as `OpenFiles.read`."""
        parts = [*opened.read_all(self.pieces), b""]
        for number, kept, row in self.homes:
            kept[row] = parts[number]
        return parts


class RecordBatch:
    """A record batch of a process: where its parts are, and its small buffers.

    Args:
        opened: The files.
        file: The number of its file.
        body: Where its buffers begin in the file.
        layout: Its parts.
        columns: Those that are wanted: each with its first node and its first buffer.
        keeps_rows: Bytes of rows are kept when they were read.

    Raises:
        ValueError: Its header does not fit the columns.
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
                raise ValueError("its columns have not as many rows as it has")
        except IndexError as error:
            raise ValueError("it has less columns than its schema") from error

    def num_bytes(self) -> int:
        """Return about how much memory it takes."""
        parts = len(self.layout.nodes) + len(self.layout.buffers) + len(self.sources)
        return 500 + 200 * parts + sum(map(len, self._kept.values()))

    def read(self, buffer: int, start: int, length: int) -> bytes:
        """Return bytes of a buffer; one that is small is read once, and kept."""
        place, size = self.layout.buffers[buffer]
        if size > _SMALL_BUFFER_BYTES:
            return self._opened.read(self.file, self.body + place + start, length)
        return self._small(buffer)[start : start + length]

    def numbers(self, buffer: int, form: str, count: int) -> "Sequence[Any]":
        """Return the numbers of a buffer.

        Raises:
            ValueError: It has less than ``count``.
        """
        size, width = self.layout.buffers[buffer][1], struct.calcsize(form)
        if size < count * width:
            raise ValueError(f"a buffer of {size:,} bytes, which should have {count:,} values of {width}")
        if size > _SMALL_BUFFER_BYTES:
            return _FarItems(self, buffer, form)
        return items(memoryview(self._small(buffer)), form, count)

    def validity(self, node: int, buffer: int) -> "Sequence[int] | None":
        """Return the bytes of which each bit tells whether a value is there; None: all of them are."""
        length, num_missing = self.layout.nodes[node]
        return self.numbers(buffer, "B", -(-length // 8)) if num_missing else None

    def _small(self, buffer: int) -> bytes:
        found = self._kept.get(buffer)
        if found is None:
            place, size = self.layout.buffers[buffer]
            found = self._kept[buffer] = self._opened.read(self.file, self.body + place, size)
        return found


class _FarItems(Sequence[Any]):
    """The numbers of a large buffer, each read by itself."""

    def __init__(self, batch: RecordBatch, buffer: int, form: str) -> None:
        self._batch, self._buffer, self._item = batch, buffer, struct.Struct(form)

    def __len__(self) -> int:
        return self._batch.layout.buffers[self._buffer][1] // self._item.size

    def __getitem__(self, number: int) -> Any:  # type: ignore[override]  # no slices are taken
        size = self._item.size
        return self._item.unpack(self._batch.read(self._buffer, number * size, size))[0]


class ArrowColumn:
    """A column of a type: makes the values of rows, and has no state of its own."""

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        """Return what `add` needs of a record batch; raises `ValueError` if it is damaged."""
        raise NotImplementedError

    def add(self, cells: list[Any], source: Any, rows: Sequence[int], ranges: RowRanges) -> None:
        """Add a cell for each of some rows, and the ranges that they need; raises `ValueError`, as `source` does."""
        raise NotImplementedError

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        """Return the values of cells, whose ranges were read; behind them is a part that is empty.

        Raises:
            ValueError: The bytes are none of this type.
        """
        raise NotImplementedError


class _NumberColumn(ArrowColumn):
    def __init__(self, form: str) -> None:
        self._form = form

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        return batch.validity(node, buffer), batch.numbers(buffer + 1, self._form, batch.layout.nodes[node][0])

    def add(self, cells: list[Any], source: Any, rows: Sequence[int], ranges: RowRanges) -> None:  # noqa: ARG002
        validity, items = source
        cells += [items[row] if validity is None or validity[row >> 3] >> (row & 7) & 1 else None for row in rows]

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:  # noqa: ARG002
        return cells


class _RangeColumn(ArrowColumn):
    """A column whose values are ranges of one buffer: bytes, texts, lists of numbers.

    Args:
        form: Of its offsets.
        width: The bytes of an item.
    """

    def __init__(self, form: str, width: int = 1) -> None:
        self._form, self._width = form, width

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        length = batch.layout.nodes[node][0]
        # No rows may have no offsets at all.
        offsets = batch.numbers(buffer + 1, self._form, length + 1) if length else ()
        place, size = batch.layout.buffers[self._data(buffer)]
        kept: KeptValues | None = [None] * length if batch.keeps_rows else None
        return batch.validity(node, buffer), offsets, batch.file, batch.body + place, size // self._width, kept

    def _data(self, buffer: int) -> int:
        """Return the number of the buffer in which the bytes lie."""
        return buffer + 2

    def add(self, cells: list[Any], source: Any, rows: Sequence[int], ranges: RowRanges) -> None:
        validity, offsets, file, place, limit, kept = source
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
                raise ValueError(f"items {start:,} to {stop:,} of a column that has {limit:,}")
            if start == stop:
                cells.append(_EMPTY)
                continue
            cells.append(len(pieces))
            if kept is not None:
                ranges.homes.append((len(pieces), kept, row))
            pieces.append((file, place + start * width, (stop - start) * width))

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        return [cell if not isinstance(cell, int) else parts[cell] if cell != _MISSING else None for cell in cells]


class _TextColumn(_RangeColumn):
    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        return [None if part is None else part.decode() for part in super().values(cells, parts)]


class _ListColumn(_RangeColumn):
    """Lists of numbers are arrays, lists in which a number is missing are lists.

    Args:
        kind: The type of the column.
        form: Of its offsets.
        item: Of its numbers.
    """

    def __init__(self, kind: Any, form: str, item: str) -> None:
        self._dtype, self._with_holes = np.dtype(item), _SlicedColumn(kind)
        super().__init__(form, self._dtype.itemsize)

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        if batch.layout.nodes[node + 1][1]:
            return self._with_holes.source(batch, node, buffer)
        validity, offsets, file, place, limit, kept = super().source(batch, node, buffer)
        return validity, offsets, file, place, min(limit, batch.layout.nodes[node + 1][0]), kept

    def _data(self, buffer: int) -> int:
        return buffer + 3

    def add(self, cells: list[Any], source: Any, rows: Sequence[int], ranges: RowRanges) -> None:
        way = self._with_holes.add if isinstance(source, _SlicedPlace) else super().add
        way(cells, source, rows, ranges)

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:
        # What has holes is no bytes here. Bytes are copied, so that the array may be written to.
        return [
            np.frombuffer(part, self._dtype).copy() if isinstance(part, bytes) else part
            for part in super().values(cells, parts)
        ]


class _StructColumn(ArrowColumn):
    """A column of columns, of which a value is a dict.

    Args:
        fields: Name, column, and place of its first node and buffer behind its own.
    """

    def __init__(self, fields: Sequence[tuple[str, ArrowColumn, int, int]]) -> None:
        self._fields = fields

    def source(self, batch: RecordBatch, node: int, buffer: int) -> Any:
        length = batch.layout.nodes[node][0]
        inner = []
        for _, column, nodes, buffers in self._fields:
            if batch.layout.nodes[node + nodes][0] != length:
                raise ValueError("a field of a column has not as many rows as the column")
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


class _SlicedPlace(NamedTuple):
    """Place of a column of a record batch: its beginning."""

    batch: RecordBatch
    node: int
    buffer: int


class _SlicedColumn(ArrowColumn):
    """A column of any type that can be sliced: arrays of pyarrow of rows that lie side by side.

    Args:
        kind: The type.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def source(self, batch: RecordBatch, node: int, buffer: int) -> _SlicedPlace:
        nodes, buffers = num_parts(self._kind)
        if node + nodes > len(batch.layout.nodes) or buffer + buffers > len(batch.layout.buffers):
            raise IndexError(node)
        return _SlicedPlace(batch, node, buffer)

    def add(self, cells: list[Any], source: _SlicedPlace, rows: Sequence[int], ranges: RowRanges) -> None:  # noqa: ARG002
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

    def values(self, cells: list[Any], parts: Parts) -> list[Any]:  # noqa: ARG002
        return cells


def column_of(kind: Any) -> ArrowColumn:
    """Return the column of a type of pyarrow that can be sliced; see `mpqueue.files.arrow_slices`."""
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
