"""`Parquet`: rows of Parquet files by index.

A row group is compressed column by column, so a row cannot be read separately. pyarrow decodes the whole group, which
is cached while it fits; see `mpqueue.system.process_cache`. The requesting thread decodes, without threads of pyarrow,
which would not exist in a worker that is forked later.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.access.names import Names, expand
from mpqueue.files.access.opened import IndexedFile, OpenFiles
from mpqueue.files.access.positioned import PositionedFile
from mpqueue.files.access.ranges import FileRange
from mpqueue.files.arrow.arrow import schemas
from mpqueue.files.indexing.index import Index
from mpqueue.files.indexing.index_file import Arrays
from mpqueue.files.sources.columns import chosen, difference
from mpqueue.files.sources.groups import GroupedFiles, Groups, is_about_content
from mpqueue.files.sources.rows import TableRows, pyarrow
from mpqueue.plan.options import checks
from mpqueue.system.process_cache import DEFAULT_BYTES, ProcessCache
from mpqueue.system.user_code.keywords import suggests_keywords

_VERSION = 1
# The memory usage of a parsed footer, as a multiple of its size in the file.
_FOOTER_FACTOR = 10
# The limit of cached footers per process, in addition to row groups: even without cached groups, footers are reused.
_MAX_FOOTER_BYTES = 64 * 1024 * 1024


def scan(path: str) -> Arrays:
    """Return the contents of the footer of a file.

    Returns: ``rows`` and ``offsets`` of its row groups, ``decoded`` (their uncompressed sizes), and ``schema`` (bytes).

    Raises:
        FileError: The file is not a Parquet file, or is truncated.
        OSError: The file cannot be read.
    """
    file = IndexedFile.of(path)
    with contextlib.closing(OpenFiles([file])) as opened:
        try:
            metadata = pyarrow("parquet").read_metadata(PositionedFile(partial(opened.read, 0), file.size))
            schema = metadata.schema.to_arrow_schema().serialize().to_pybytes()
            groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
            offsets = [_offset(group.column(0)) if group.num_columns else 0 for group in groups]
        except FileError:
            raise
        except (ValueError, NotImplementedError, OSError) as error:
            if not is_about_content(error):
                raise
            raise FileError(path, None, f"it is not a Parquet file, or is damaged or truncated: {error}") from error
    return {
        "rows": np.array([group.num_rows for group in groups], np.int64),
        "offsets": np.array(offsets, np.int64),
        "decoded": np.array([group.total_byte_size for group in groups], np.int64),
        "schema": np.frombuffer(schema, np.uint8),
    }


def _offset(column: Any) -> int:
    """Return the offset of the first page of a column in a row group."""
    return int(min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset))


@suggests_keywords
class Parquet(GroupedFiles):
    """Rows of Parquet files, by index.

    A source with ``len``, ``[i]`` and ``__getitems__``. Rows are dicts of Python values; a list of numbers is a NumPy
    array. Rows are numbered across the files in order.

    A row cannot be read separately: reading it decodes the selected columns of its row group. Each process caches the
    groups that it used last. Reading in order is therefore fast, and shuffling is fast if all groups fit into
    ``cache_bytes``. If they do not fit, almost every row decodes its group again, and a warning is logged. In that
    case, shuffle with ``block="group"``, or shuffle the row groups, and then their rows in a buffer; see `row_groups`.

    Reads are thread-safe, and a copy in another process opens the files itself.

    Args:
        paths: The files: a path, a pattern, braces, or a list of these.
        columns: The names of the columns to read, in this order. If None, all.
        cache_bytes: The size of the cache of decoded row groups, per process. Use a larger cache for shuffled rows, and
            a smaller one with many workers. The group that was decoded last is always kept.
        exclude: A pattern of files to exclude, or a list of patterns. A pattern without a slash is compared with the
            file's name.
        on_error: What to do if a file is truncated or damaged when the source is created. ``"raise"`` raises a
            `FileError`. ``"skip"`` skips the file, and logs a warning that names it; see `file_errors`.
        verify: Compare the checksum of each page that is read, if the file has checksums: pyarrow's
            ``page_checksum_verification``. Files have them if they were written with ``write_page_checksum=True``.
        index: The folder for the index of the files. If None, the user's cache folder.

    Raises:
        FileNotFoundError: No file matches, or ``exclude`` excludes all of them.
        FileError: A file is not a Parquet file, is truncated, or has other columns than the first one. When reading: a
            file has changed, or is damaged. The message contains the file and the offset.
        ValueError: A column does not exist; the message lists the existing ones. Or ``on_error`` is unknown.
        ImportError: pyarrow is not installed (extra ``files``).

    Follows: `pyarrow.parquet`, and the samples of Hugging Face's `datasets`, which returns lists of numbers as lists.
    """

    def __init__(
        self,
        paths: Names,
        columns: Iterable[str] | None = None,
        *,
        cache_bytes: int = DEFAULT_BYTES,
        exclude: Names | None = None,
        on_error: str = "raise",
        verify: bool = False,
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        checks.flag("verify", verify)
        super().__init__(
            Index("parquet", _VERSION, expand(paths, exclude), scan, index, on_error=on_error), cache_bytes
        )
        self._footers, self._verify = ProcessCache(_MAX_FOOTER_BYTES), verify
        files = self._index.files
        (_, schema), *others = schemas(self._index)
        self._columns = chosen(columns, schema.names)
        for file_index, other in others:
            if mismatch := difference(schema, other, self._columns, files[0].path):
                raise FileError(files[file_index].path, None, mismatch)

    def row_groups(self) -> Groups:
        """Return the row groups as a source: ``[i]`` is a sequence of the rows of one group.

        ``Dataset(parquet.row_groups()).shuffle().flat_map(list).shuffle(buffer=10_000)`` decodes each group once per
        epoch, however few of them fit into memory.
        """
        return Groups(self)

    def _select(self, column: str) -> None:
        (_, schema), *_ = schemas(self._index)
        self._columns = chosen([column], schema.names)

    def _decode(self, group: int) -> tuple[TableRows, int]:
        pq = pyarrow("parquet")
        file = self._index.file_of("rows", group)
        metadata, idle = self._footers.get(file, self._readers_of)
        index = group - int(self._index.starts("rows")[file])
        indexed = self._index.files[file]
        read: Callable[[int, int], bytes] = partial(self._opened.read, file)
        try:
            # Creating a reader takes longer than decoding a row group of 1 MB.
            reader = idle.pop()
        except IndexError:
            if indexed.is_remote:
                read = self._fetched(file, metadata.row_group(index))
            source = PositionedFile(read, indexed.size)
            reader = pq.ParquetFile(
                source, metadata=metadata, pre_buffer=False, page_checksum_verification=self._verify
            )
        table = reader.read_row_group(index, columns=self._columns, use_threads=False)
        # A reader that failed is not reused. Nor is one of a remote file: it reads from the fetched columns of one row
        # group.
        if not indexed.is_remote:
            idle.append(reader)
        # A column with more than 2 GB has several chunks; a single chunk is accessed faster.
        chunked = [table.column(name) for name in self._columns]
        arrays = [column.chunk(0) if column.num_chunks == 1 else column for column in chunked]
        return TableRows(self._columns, arrays, table.num_rows), table.nbytes

    def _readers_of(self, file: int) -> tuple[tuple[Any, list[Any]], int]:
        """Return the footer of a file, and a list of idle readers. Each reader has its own file position."""
        source = PositionedFile(partial(self._opened.read, file), self._index.files[file].size)
        metadata = pyarrow("parquet").read_metadata(source)
        return (metadata, []), metadata.serialized_size * _FOOTER_FACTOR

    def _fetched(self, file: int, group: Any) -> Callable[[int, int], bytes]:
        """Read the columns of a row group together; pyarrow would request them one after another."""
        selected = set(self._columns)
        columns = [group.column(index) for index in range(group.num_columns)]
        ranges = [
            FileRange(file, _offset(column), column.total_compressed_size)
            for column in columns
            if column.path_in_schema.partition(".")[0] in selected
        ]
        pieces = list(zip(ranges, self._opened.read_all(ranges), strict=True))

        def read(offset: int, length: int) -> bytes:
            for (_, start, size), data in pieces:
                if start <= offset and offset + length <= start + size:
                    return data[offset - start : offset - start + length]
            return self._opened.read(file, offset, length)

        return read
