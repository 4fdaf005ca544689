"""`Arrow`: files of Arrow's IPC formats, read by row. Hugging Face's `datasets` stores its data in these formats.

An uncompressed record batch is never read as a whole; see `mpqueue.files.arrow.values`. A record batch that is
compressed or has dictionaries is decoded by pyarrow from its messages, and cached; see `mpqueue.system.process_cache`.

pyarrow itself is slower in shuffled order. For rows of 10 KB of bytes, an integer, a string and 50 tokens, 32 at a
time, in rows per CPU second (pyarrow 26, medians of 5 interleaved rounds)::

    this module: 62,500; with cached rows: 149,000
    a mapped file, a scalar for each value: 39,900; `Table.take` and `to_pylist`: 2,000
    whole record batches, decoded into a cache of two of seven: 1,400

Other libraries map these files. Copying 10 KB from a map takes 1.4 us, and `os.pread` 2.7 us, which is most of the time
for a row. But a process that maps a file is killed if the file shrinks. Therefore the bytes of rows are cached if all
rows fit into ``cache_bytes``. A later epoch then makes no copies, and `bytes` are returned as they are. If they do not
all fit, none are cached: in shuffled order, recently used rows are not the ones used next.
"""

import functools
import itertools
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

from mpqueue.errors import FileError
from mpqueue.files.access.names import Names, expand
from mpqueue.files.access.ranges import at_once
from mpqueue.files.arrow import messages as arrow_messages
from mpqueue.files.arrow.slices import Slicer, num_parts
from mpqueue.files.arrow.values import ArrowColumn, RecordBatch, RowRanges, column_of
from mpqueue.files.indexing.index import Index
from mpqueue.files.indexing.index_file import Arrays
from mpqueue.files.sources.columns import chosen, difference
from mpqueue.files.sources.groups import DAMAGED, GroupedFiles, Groups, Run
from mpqueue.files.sources.rows import TableRows, pyarrow
from mpqueue.system.process_cache import DEFAULT_BYTES, ProcessCache
from mpqueue.system.user_code.keywords import suggests_keywords

_END = b"\xff\xff\xff\xff\0\0\0\0"
_VERSION = 1
# Memory for a cached value in addition to its bytes: an object, and an entry in a list.
_KEPT_VALUE_BYTES = 64
# The limit of small buffers of record batches with addressable rows, per process.
_MAX_BATCH_BYTES = 64 * 1024 * 1024


def read_schema(message: bytes) -> Any:
    """Return the schema in a message; pyarrow raises a `ValueError` or `OSError` if it is invalid."""
    pa = pyarrow()
    return pa.ipc.read_schema(pa.py_buffer(message))


def schemas(index: Index) -> Iterator[tuple[int, Any]]:
    """Yield the schema of the first file, and each schema with different bytes, with the index of its file.

    Raises:
        ValueError, OSError: pyarrow cannot read a schema.
    """
    starts, data = index.starts("schema").tolist(), index["schema"]
    known = set()
    for file_index, (start, stop) in enumerate(itertools.pairwise(starts)):
        message = data[start:stop].tobytes()
        if message not in known:  # schemas with other bytes may differ only in metadata
            known.add(message)
            yield file_index, read_schema(message)


def scan(path: str) -> Arrays:
    """Return the positions of the messages of a file, see `mpqueue.files.arrow.messages`, and check its schema.

    Raises:
        FileError: The file is not an Arrow file, is damaged, or is truncated.
        OSError: The file cannot be read.
    """
    arrays = arrow_messages.scan(path)
    message = arrays["schema"].tobytes()
    try:
        schema = read_schema(message)
        schema.to_string()
        _check_names(schema)
        arrow_messages.is_little_endian(message)
    except (ValueError, NotImplementedError, OSError, IndexError, struct.error) as error:
        raise FileError(path, 0, f"its schema cannot be read: {error}") from error
    return arrays


def _check_names(fields: Iterable[Any]) -> None:
    """Raise a `UnicodeDecodeError` if the name of a column or of a nested field is not UTF-8."""
    for field in fields:
        _ = field.name
        kind = field.type
        _check_names(kind.field(index) for index in range(kind.num_fields))


class _Reading:
    """The state needed for reading, created in the process that reads.

    Args:
        schema_message: The schema message of the files.
        names: The names of the selected columns.

    Attributes:
        num_values: The maximum number of values of a row that have separate bytes.
        keeps_rows: Whether the bytes of rows are cached.
    """

    def __init__(self, schema_message: bytes, names: Sequence[str]) -> None:
        schema = read_schema(schema_message)
        self.num_values, self.keeps_rows = 0, False
        self.schema_message = schema_message
        self.numbers = [schema.get_field_index(name) for name in names]
        # Types and positions (column, first node, first buffer) of the selected columns; None if rows are not
        # addressable.
        self.kinds = [schema.field(name).type for name in names]
        self.positions: list[tuple[ArrowColumn, int, int]] | None = None
        try:
            parts = [num_parts(kind) for kind in schema.types]
        except NotImplementedError:
            return
        if sys.byteorder == "little" and arrow_messages.is_little_endian(schema_message):
            self.positions = [
                (column_of(schema.types[i]), sum(part[0] for part in parts[:i]), sum(part[1] for part in parts[:i]))
                for i in self.numbers
            ]
            self.num_values = sum(parts[i][1] for i in self.numbers)


@suggests_keywords
class Arrow(GroupedFiles):
    """Rows of Arrow files, by index: IPC files and streams, Feather version 2, and the Hugging Face cache.

    A source with ``len``, ``[i]`` and ``__getitems__``. Rows are dicts of Python values; a list of numbers is a NumPy
    array. Rows are numbered across the files in order. Shuffling is fast if batches are not compressed, because each
    row is read separately. Of compressed batches (as ``pyarrow.feather`` writes them), each process decodes whole
    batches and caches the last ones used; `record_batches` allows an order that decodes each batch once.

    Reads are thread-safe, and a copy in another process opens the files itself.

    Args:
        paths: The files: a path, a pattern, braces, or a list of these.
        columns: The names of the columns to read, in this order. If None, all.
        cache_bytes: The size of the cache per process. It contains decoded batches and, if all batches fit, the rows
            that were read. Use a smaller cache with many workers.
        exclude: A pattern of files to exclude, or a list of patterns. A pattern without a slash is compared with the
            file's name.
        on_error: What to do if a file is truncated or damaged when the source is created. ``"raise"`` raises a
            `FileError`. ``"skip"`` skips the file, and logs a warning that names it; see `file_errors`.
        index: The folder for the index of the files. If None, the user's cache folder.

    Raises:
        FileNotFoundError: No file matches, or ``exclude`` excludes all of them.
        FileError: A file has another format, is truncated, or has another schema than the first one. When reading: a
            file has changed, or is damaged. The message contains the file and the offset.
        ValueError: A column does not exist; the message lists the existing ones. Or ``on_error`` is unknown.
        ImportError: pyarrow is not installed (extra ``files``).

    Follows: `pyarrow.ipc`, and `datasets.Dataset.from_file` of Hugging Face, which maps its files and returns lists of
        numbers as lists.
    """

    _group_noun = "record batch"

    def __init__(
        self,
        paths: Names,
        columns: Iterable[str] | None = None,
        *,
        cache_bytes: int = DEFAULT_BYTES,
        exclude: Names | None = None,
        on_error: str = "raise",
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(Index("arrow", _VERSION, expand(paths, exclude), scan, index, on_error=on_error), cache_bytes)
        self._batches = ProcessCache(_MAX_BATCH_BYTES)
        self._columns = chosen(columns, self._check_schemas().names)

    def record_batches(self) -> Groups:
        """Return the record batches as a source: ``[i]`` is a sequence of the rows of one batch.

        This allows a shuffle of compressed files that decodes each batch once:
        ``Dataset(arrow.record_batches()).shuffle().flat_map(list).shuffle(buffer=10_000)``.
        """
        return Groups(self)

    def _check_schemas(self) -> Any:
        """Compare the schemas of all files, and return the schema of the first one."""
        files = self._index.files
        (_, schema), *others = schemas(self._index)
        for file_index, other in others:
            mismatch = difference(schema, other, schema.names, files[0].path)
            if mismatch is None and other.names != schema.names:
                mismatch = (
                    f"its columns are {', '.join(other.names)}, expected {', '.join(schema.names)} as in "
                    f"{files[0].path}; pass only files with the same schema"
                )
            if mismatch is not None:
                raise FileError(files[file_index].path, 0, mismatch)
        return schema

    @functools.cached_property
    def _state(self) -> "_Reading":
        starts = self._index.starts("schema")
        state = _Reading(self._index["schema"][: starts[1]].tobytes(), self._columns)
        overhead = self._length * state.num_values * _KEPT_VALUE_BYTES
        state.keeps_rows = int(self._index["lengths"].sum()) + overhead <= self._parts.max_size
        return state

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several samples, reading the rows of all uncompressed record batches together; raises as ``[i]``."""
        state = self._state
        if state.positions is None:
            return super().__getitems__(indices)
        samples_by_position: list[Any] = [None] * len(indices)
        cells: list[list[Any]] = [[] for _ in state.positions]
        ranges = RowRanges()
        read: list[int] = []  # positions in ``indices`` of the rows that are read, in order
        group = 0
        runs = list(self._runs(indices))
        if self._is_remote(runs):
            at_once([partial(self._batch, run[0]) for run in runs])
        whole: list[Run] = []
        # Under a single lock acquisition: nearly all batches are cached.
        kept = self._batches.get_kept([run[0] for run in runs])
        for (group, rows, positions), known in zip(runs, kept, strict=True):
            try:
                batch = self._batch(group) if known is None else known
                if not batch:
                    whole.append((group, rows, positions))
                    continue
                for (column, _, _), of_column, source in zip(state.positions, cells, batch.sources, strict=True):
                    column.add(of_column, source, rows, ranges)
            except DAMAGED as error:
                self._raise_named(group, error)
            read += positions
        self._read_runs(whole, samples_by_position)
        if not read:
            return samples_by_position
        try:
            parts = ranges.read(self._opened)
            values = [column.values(each, parts) for (column, _, _), each in zip(state.positions, cells, strict=True)]
        except DAMAGED as error:
            if len(indices) == 1 or isinstance(error, FileError):
                self._raise_named(group, error)
            return [self[index] for index in indices]  # read one by one, so that the error names the damaged one
        # Column by column: building each row's dict with zip would take four times as long.
        samples: list[dict[str, Any]] = [{} for _ in read]
        for name, of_column in zip(self._columns, values, strict=True):
            for sample, value in zip(samples, of_column, strict=True):
                sample[name] = value
        for position, sample in zip(read, samples, strict=True):
            samples_by_position[position] = sample
        return samples_by_position

    def _all_rows(self, group: int) -> Sequence[Any]:
        rows = self._neighbours(group, 0, None)
        return super()._all_rows(group) if rows is None else rows

    def _block(self, group: int, start: int, stop: int) -> Sequence[Any]:
        rows = self._neighbours(group, start, stop)
        return super()._block(group, start, stop) if rows is None else rows

    def _neighbours(self, group: int, start: int, stop: int | None) -> TableRows | None:
        """Return rows of a group, all from ``start`` on if ``stop`` is None; None if it must be decoded as a whole."""
        state = self._state
        batch = state.positions is not None and self._batch(group)
        if not batch or state.positions is None:
            return None
        stop = batch.layout.num_rows if stop is None else stop
        arrays = [
            Slicer(batch.layout, batch.read, node, buffer).rows(kind, start, stop)
            for kind, (_, node, buffer) in zip(state.kinds, state.positions, strict=True)
        ]
        return TableRows(self._columns, arrays, stop - start)

    def _batch(self, group: int) -> RecordBatch | Literal[False]:
        """Return a record batch with separately readable rows, or False if it is compressed; an error names it."""
        try:
            batch: RecordBatch | Literal[False] = self._batches.get(group, self._new_batch)
        except DAMAGED as error:
            self._raise_named(group, error)
        return batch

    def _new_batch(self, group: int) -> tuple[RecordBatch | Literal[False], int]:
        state = self._state
        assert state.positions is not None
        length = int(self._index["headers"][group])
        file, offset, _ = position = self._position_of(group, length)
        layout = arrow_messages.layout(arrow_messages.flatbuffer(self._opened.read(*position)), length)
        if layout.is_compressed:
            return False, 100
        batch = RecordBatch(
            self._opened, file, offset + layout.body, layout, state.positions, keeps_rows=state.keeps_rows
        )
        return batch, batch.num_bytes()

    def _select(self, column: str) -> None:
        (_, schema), *_ = schemas(self._index)
        self._columns = chosen([column], schema.names)

    def _decode(self, group: int) -> tuple[TableRows, int]:
        """Decode a whole batch with pyarrow, from a stream of the schema, the dictionaries before it, and the batch."""
        pa = pyarrow()
        state = self._state
        file = self._index.file_of("rows", group)
        pieces = [state.schema_message]
        first, last = self._index.starts("dictionary_offsets")[file : file + 2]
        before = group - int(self._index.starts("rows")[file])
        for index in range(int(first), int(last)):
            if self._index["dictionary_before"][index] <= before:
                position = self._index["dictionary_offsets"][index], self._index["dictionary_lengths"][index]
                pieces.append(self._opened.read(file, int(position[0]), int(position[1])))
        pieces += [self._opened.read(*self._position_of(group)), _END]
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=sorted(state.numbers))
        batch = pa.ipc.open_stream(b"".join(pieces), options=options).read_next_batch()
        batch.validate(full=True)  # a damaged batch must not cause reads outside of its memory
        arrays = [batch.column(name) for name in self._columns]
        return TableRows(self._columns, arrays, batch.num_rows), batch.nbytes

    def _position_of(self, group: int, length: int | None = None) -> tuple[int, int, int]:
        return (
            self._index.file_of("rows", group),
            int(self._index["offsets"][group]),
            int(self._index["lengths"][group]) if length is None else length,
        )
