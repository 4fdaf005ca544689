"""`Parquet`: rows of Parquet files by index.

A row group is compressed, column by column, so a row cannot be read by itself: the whole group is decoded by pyarrow,
and kept as long as it fits; see `mpqueue.files.decoded`. The decoding is done by the thread that asks, without threads
of pyarrow, which a worker that is forked later would not have.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.arrow import schemas
from mpqueue.files.columns import chosen, difference
from mpqueue.files.decoded import DEFAULT_BYTES, DecodedParts
from mpqueue.files.groups import GroupedFiles, Groups
from mpqueue.files.index import Index
from mpqueue.files.index_file import Arrays
from mpqueue.files.names import Names, expand
from mpqueue.files.opened import IndexedFile, OpenFiles
from mpqueue.files.positioned import PositionedFile
from mpqueue.files.ranges import FileRange
from mpqueue.files.rows import TableRows, pyarrow

_VERSION = 1
# What the parsed footer of a file takes in memory, as a multiple of its bytes.
_FOOTER_FACTOR = 10
# Of footers that are kept in a process, beside its row groups: who keeps no row group needs the footer of the next one.
_MAX_FOOTER_BYTES = 64 * 1024 * 1024


def scan(path: str) -> Arrays:
    """Return what the footer of a file says.

    Returns: ``rows`` and ``offsets`` of its row groups, ``decoded`` (bytes of them, uncompressed), and ``schema``:
    bytes.

    Raises:
        FileError: It is no Parquet file, or is cut short.
        OSError: The system's.
    """
    file = IndexedFile.of(path)
    with contextlib.closing(OpenFiles([file])) as opened:
        try:
            metadata = pyarrow("parquet").read_metadata(PositionedFile(partial(opened.read, 0), file.size))
            schema = metadata.schema.to_arrow_schema().serialize().to_pybytes()
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            offsets = [_offset(group) for group in groups]
        except FileError:
            raise
        except (ValueError, NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise FileError(path, None, f"it is no Parquet file, or is damaged or cut short: {error}") from error
    return {
        "rows": np.array([group.num_rows for group in groups], np.int64),
        "offsets": np.array(offsets, np.int64),
        "decoded": np.array([group.total_byte_size for group in groups], np.int64),
        "schema": np.frombuffer(schema, np.uint8),
    }


def _offset(group: Any) -> int:
    """Return where a row group begins."""
    if not group.num_columns:
        return 0
    column = group.column(0)
    return int(column.dictionary_page_offset or column.data_page_offset)


class Parquet(GroupedFiles):
    """Rows of Parquet files, by index.

    A source: ``len``, ``[i]`` and ``__getitems__`` give rows as dicts of Python values; a list of numbers is an array
    of NumPy. Rows are numbered through the files in their order.

    A row is not readable by itself: whoever asks for it decodes its row group, in the columns that are wanted. Each
    process keeps the groups that were used last. So rows in order are cheap; to shuffle rows is cheap where all groups
    fit into ``cache_bytes``; and where they do not, nearly each row decodes its group anew, which a warning tells. Then
    shuffle the row groups and, in a buffer, their rows; see `row_groups`.

    Any thread may read, and a copy in another process opens its files itself.

    Args:
        paths: Files: a path, a pattern, braces, or a list of these.
        columns: Names of those that are wanted, in this order; None: all. Others are not read.
        cache_bytes: Of decoded row groups, at most, for each process; more of it for shuffled rows, less where there
            are many workers. The group that was decoded last is kept in any case.
        index: The folder in which the index of the files is kept; None: the user's cache folder.

    Raises:
        FileNotFoundError: No file matches.
        FileError: A file is no Parquet file, is cut short, or its columns are not those of the first one. Later, at a
            read: it has changed, or is damaged. It names file and offset.
        ValueError: A column is not there; the text names those that are.
        ImportError: pyarrow is not installed (extra ``files``).

    Follows: `pyarrow.parquet`, and the samples of Hugging Face's `datasets`, which gives lists of numbers as lists.
    """

    def __init__(
        self,
        paths: Names,
        columns: Iterable[str] | None = None,
        *,
        cache_bytes: int = DEFAULT_BYTES,
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(Index("parquet", _VERSION, expand(paths), scan, index), cache_bytes)
        self._footers = DecodedParts(_MAX_FOOTER_BYTES)
        files = self._index.files
        (_, schema), *others = schemas(self._index)
        self._columns = chosen(columns, schema.names)
        for number, other in others:
            if what := difference(schema, other, self._columns, files[0].path):
                raise FileError(files[number].path, None, what)

    def row_groups(self) -> Groups:
        """Return the row groups as a source: ``[i]`` is the rows of one, a sequence.

        ``Dataset(parquet.row_groups()).shuffle().flat_map(list).shuffle(buffer=10_000)`` decodes each group once in an
        epoch, however little of them fits into memory.
        """
        return Groups(self)

    def _decode(self, group: int) -> tuple[TableRows, int]:
        pq = pyarrow("parquet")
        file = self._file_of(group)
        metadata, idle = self._footers.get(file, lambda: self._readers_of(file))
        number = group - int(self._index.starts("rows")[file])
        indexed = self._index.files[file]
        read: Callable[[int, int], bytes] = partial(self._opened.read, file)
        try:
            # To make a reader takes longer than to decode a row group of 1 MB.
            reader = idle.pop()
        except IndexError:
            if indexed.is_remote:
                read = self._fetched(file, metadata.row_group(number))
            reader = pq.ParquetFile(PositionedFile(read, indexed.size), metadata=metadata, pre_buffer=False)
        table = reader.read_row_group(number, columns=self._columns, use_threads=False)
        # One that failed is not used again, nor one of a remote file: it reads what was fetched of one row group.
        if not indexed.is_remote:
            idle.append(reader)
        # Of several chunks, where a column has more than 2 GB; one is found faster.
        chunked = [table.column(name) for name in self._columns]
        arrays = [column.chunk(0) if column.num_chunks == 1 else column for column in chunked]
        return TableRows(self._columns, arrays, table.num_rows), table.nbytes

    def _readers_of(self, file: int) -> tuple[tuple[Any, list[Any]], int]:
        """Return the footer of a file, and a list of readers that no thread uses: each has a place in the file."""
        source = PositionedFile(partial(self._opened.read, file), self._index.files[file].size)
        metadata = pyarrow("parquet").read_metadata(source)
        return (metadata, []), metadata.serialized_size * _FOOTER_FACTOR

    def _fetched(self, file: int, group: Any) -> Callable[[int, int], bytes]:
        """Read the columns of a row group at once; pyarrow would wait for one after the other."""
        wanted = set(self._columns)
        columns = [group.column(number) for number in range(group.num_columns)]
        ranges = [
            FileRange(file, min(_places(column)), column.total_compressed_size)
            for column in columns
            if column.path_in_schema.partition(".")[0] in wanted
        ]
        pieces = list(zip(ranges, self._opened.read_all(ranges), strict=True))

        def read(offset: int, length: int) -> bytes:
            for (_, start, size), data in pieces:
                if start <= offset and offset + length <= start + size:
                    return data[offset - start : offset - start + length]
            return self._opened.read(file, offset, length)

        return read


def _places(column: Any) -> list[int]:
    """Return where the pages of a column may begin."""
    return [place for place in (column.dictionary_page_offset, column.data_page_offset) if place]
