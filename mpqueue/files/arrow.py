"""`Arrow`: files of Arrow's IPC formats, read by the row; what Hugging Face's `datasets` keeps its data in.

A record batch whose buffers are not compressed is never read as a whole: see `mpqueue.files.arrow_slices`. One that is
compressed, or has dictionaries, is decoded by pyarrow from its messages, and kept; see `mpqueue.files.decoded`.
"""

import os
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mpqueue.errors import FileError
from mpqueue.files import arrow_messages
from mpqueue.files.arrow_messages import BatchLayout
from mpqueue.files.arrow_slices import SMALL_BUFFER_BYTES, ReadBuffer, Slicer, can_slice, direct, num_parts
from mpqueue.files.columns import chosen, difference
from mpqueue.files.decoded import DEFAULT_BYTES
from mpqueue.files.groups import GroupedFiles, Groups, folder_of
from mpqueue.files.index import Index
from mpqueue.files.index_file import Arrays
from mpqueue.files.names import Names, expand
from mpqueue.files.rows import Columns, TableRows, pyarrow

_END = b"\xff\xff\xff\xff\0\0\0\0"
_VERSION = 1


def read_schema(message: bytes) -> Any:
    """Return the schema of a message; raises pyarrow's errors, which are `ValueError` or `OSError`."""
    pa = pyarrow()
    return pa.ipc.read_schema(pa.py_buffer(message))


def scan(path: str) -> Arrays:
    """Return where the messages of a file are, as `mpqueue.files.arrow_messages` does; its schema is looked at, too.

    Raises:
        FileError: It is no file of this format, is damaged, or cut short.
        OSError: The system's.
    """
    arrays = arrow_messages.scan(path)
    message = arrays["schema"].tobytes()
    try:
        schema = read_schema(message)
        schema.to_string()
        arrow_messages.is_little_endian(message)
    except (ValueError, NotImplementedError, OSError, IndexError, struct.error) as error:
        raise FileError(path, 0, f"its schema cannot be read: {error}") from error
    return arrays


class _Reading:
    """All that is needed to read, made in the process that reads.

    Args:
        schema_message: Of the files.
        names: Of the columns that are wanted.
    """

    def __init__(self, schema_message: bytes, names: Sequence[str]) -> None:
        schema = read_schema(schema_message)
        self.schema_message = schema_message
        self.numbers = [schema.get_field_index(name) for name in names]
        self.columns = Columns([(name, schema.field(name).type) for name in names])
        self.directs = [direct(schema.field(name).type) for name in names]
        # For each column that is wanted: its type, its first node, its first buffer; None: rows are not addressable.
        self.places: list[tuple[Any, int, int]] | None = None
        if (
            sys.byteorder == "little"
            and arrow_messages.is_little_endian(schema_message)
            and all(map(can_slice, schema.types))
        ):
            parts = [num_parts(kind) for kind in schema.types]
            self.places = [
                (schema.types[i], sum(part[0] for part in parts[:i]), sum(part[1] for part in parts[:i]))
                for i in self.numbers
            ]


class Arrow(GroupedFiles):
    """Rows of Arrow files, by index: IPC files and streams, Feather of version 2, the cache of Hugging Face.

    A source: ``len``, ``[i]`` and ``__getitems__`` give rows as dicts of Python values; a list of numbers is an array
    of NumPy. Rows are numbered through the files in their order. To shuffle costs nothing where batches are not
    compressed: each row is read by itself. Of compressed ones (what ``pyarrow.feather`` writes) each process decodes
    whole batches, and keeps those used last; see `record_batches` for an order that decodes each once.

    Any thread may read, and a copy in another process opens its files itself.

    Args:
        paths: Files: a path, a pattern, braces, or a list of these.
        columns: Names of those that are wanted, in this order; None: all.
        cache_bytes: Of decoded batches, at most, for each process.
        index: The folder in which the index of the files is kept; None: the user's cache folder.

    Raises:
        FileNotFoundError: No file matches.
        FileError: A file is of another format, is cut short, or has another schema than the first one. Later, at a
            read: it has changed, or is damaged. It names file and offset.
        ValueError: A column is not there; the text names those that are.
        ImportError: pyarrow is not installed (extra ``files``).

    Follows: `pyarrow.ipc`, and `datasets.Dataset.from_file` of Hugging Face, which maps its files and gives lists of
        numbers as lists.
    """

    _group_noun = "record batch"

    def __init__(
        self,
        paths: Names,
        columns: Iterable[str] | None = None,
        *,
        cache_bytes: int = DEFAULT_BYTES,
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(Index("arrow", _VERSION, expand(paths), scan, folder_of(index)), cache_bytes)
        self._columns = chosen(columns, self._check_schemas().names)

    def record_batches(self) -> Groups:
        """Return the record batches as a source: ``[i]`` is the rows of one, a sequence.

        To shuffle compressed files: ``Dataset(arrow.record_batches()).shuffle().flat_map(list).shuffle(buffer=10_000)``
        decodes each batch once.
        """
        return Groups(self)

    def _check_schemas(self) -> Any:
        """Compare the schemas of all files; return that of the first one."""
        starts, data = self._index.starts("schema"), self._index["schema"]
        first = data[: starts[1]].tobytes()
        schema = read_schema(first)
        known = {first}
        for number in range(len(starts) - 1):
            text = data[starts[number] : starts[number + 1]].tobytes()
            if text not in known:  # it may differ in its metadata only
                other = read_schema(text)
                files = self._index.files
                what = difference(schema, other, schema.names, files[0].path)
                if what is None and other.names != schema.names:
                    what = (
                        f"its columns are {', '.join(other.names)}, expected {', '.join(schema.names)} as in "
                        f"{files[0].path}; list files of one schema together"
                    )
                if what is not None:
                    raise FileError(files[number].path, 0, what)
                known.add(text)
        return schema

    def _state(self) -> "_Reading":
        if self._made is None:
            starts = self._index.starts("schema")
            self._made = _Reading(self._index["schema"][: starts[1]].tobytes(), self._columns)
        made: _Reading = self._made
        return made

    def _rows(self, group: int, rows: Sequence[int]) -> list[dict[str, Any]]:
        state = self._state()
        layout = self._layout(group) if state.places is not None else None
        if layout is None or layout.is_compressed:
            return super()._rows(group, rows)
        read = self._reader(group, layout)
        try:
            columns = [self._values(layout, read, number, rows) for number in range(len(self._columns))]
        except IndexError as error:
            raise ValueError("it has less columns than its schema") from error
        return [dict(zip(self._columns, values, strict=True)) for values in zip(*columns, strict=True)]

    def _values(self, layout: BatchLayout, read: ReadBuffer, number: int, rows: Sequence[int]) -> list[Any]:
        """Return the values of a column in some rows, which are sorted."""
        state = self._state()
        assert state.places is not None
        kind, node, buffer = state.places[number]
        one = state.directs[number]
        if one is not None and not layout.nodes[node][1]:
            return [one(layout, read, node, buffer, row) for row in rows]
        found: list[Any] = []
        at = 0
        while at < len(rows):  # rows that lie side by side are read together
            stop = at + 1
            while stop < len(rows) and rows[stop] == rows[stop - 1] + 1:
                stop += 1
            array = Slicer(layout, read, node, buffer).rows(kind, rows[at], rows[stop - 1] + 1)
            found += [state.columns.value(number, scalar) for scalar in array]
            at = stop
        return found

    def _all_rows(self, group: int) -> Sequence[Any]:
        layout = self._layout(group) if self._state().places is not None else None
        if layout is None or layout.is_compressed:
            return super()._all_rows(group)
        return TableRows(self._state().columns, self._slice(group, layout, 0, layout.num_rows), layout.num_rows)

    def _layout(self, group: int) -> BatchLayout:
        def read() -> tuple[BatchLayout, int]:
            length = int(self._index["headers"][group])
            data = self._opened.read(*self._place_of(group, length))
            layout = arrow_messages.layout(arrow_messages.flatbuffer(data), length)
            return layout, 200 + 200 * (len(layout.nodes) + len(layout.buffers))

        layout: BatchLayout = self._parts.get((group, "layout"), read)
        return layout

    def _reader(self, group: int, layout: BatchLayout) -> ReadBuffer:
        file, offset, _ = self._place_of(group)
        body = offset + layout.body

        def read(buffer: int, start: int, length: int) -> bytes:
            place, size = layout.buffers[buffer]
            if size > SMALL_BUFFER_BYTES:
                return self._opened.read(file, body + place + start, length)
            whole: bytes = self._parts.get(
                (group, buffer), lambda: (self._opened.read(file, body + place, size), size + 100)
            )
            return whole[start : start + length]

        return read

    def _slice(self, group: int, layout: BatchLayout, start: int, stop: int) -> list[Any]:
        read = self._reader(group, layout)
        places = self._state().places
        assert places is not None
        try:
            return [Slicer(layout, read, node, buffer).rows(kind, start, stop) for kind, node, buffer in places]
        except IndexError as error:
            raise ValueError("it has less columns than its schema") from error

    def _decode(self, group: int) -> tuple[TableRows, int]:
        """Have pyarrow decode a whole batch: from a stream of the schema, the dictionaries before it, and the batch."""
        pa = pyarrow()
        state = self._state()
        file = self._file_of(group)
        pieces = [state.schema_message]
        first, last = self._index.starts("dictionary_offsets")[file : file + 2]
        before = group - int(self._index.starts("rows")[file])
        for number in range(int(first), int(last)):
            if self._index["dictionary_before"][number] <= before:
                place = self._index["dictionary_offsets"][number], self._index["dictionary_lengths"][number]
                pieces.append(self._opened.read(file, int(place[0]), int(place[1])))
        pieces += [self._opened.read(*self._place_of(group)), _END]
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=sorted(state.numbers))
        batch = pa.ipc.open_stream(b"".join(pieces), options=options).read_next_batch()
        batch.validate(full=True)  # a damaged one must not lead a read outside of its memory
        arrays = [batch.column(name) for name in self._columns]
        return TableRows(state.columns, arrays, batch.num_rows), batch.nbytes

    def _place_of(self, group: int, length: int | None = None) -> tuple[int, int, int]:
        return (
            self._file_of(group),
            int(self._index["offsets"][group]),
            int(self._index["lengths"][group]) if length is None else length,
        )
