"""The base class of files with samples in groups: row groups, record batches, shards.

Samples are numbered across the groups of all files. Samples that are requested together are sorted by group, and each
group is read or decoded once.
"""

import functools
import operator
import pickle
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from mpqueue.dataset.description.ids import as_index
from mpqueue.errors import FileError
from mpqueue.files.access import ranges
from mpqueue.files.indexing.index import Index
from mpqueue.files.sources.location import Location
from mpqueue.files.sources.row_blocks import RowBlocks, rows_of
from mpqueue.files.sources.source import FileSource, checked_index
from mpqueue.system import log
from mpqueue.system.process_cache import ProcessCache
from mpqueue.system.signals.interrupts import is_of_handler
from mpqueue.system.units import count_text

# The number of groups that are decoded before a warning that they are decoded for very few rows.
_GROUPS_BEFORE_WARNING = 30
# The errors that pyarrow raises for damaged data; a wrong size may exceed the available memory, and a wrong time the
# range of Python's.
DAMAGED = (ValueError, NotImplementedError, OSError, LookupError, ArithmeticError, MemoryError)
# A group, some of its rows, sorted, and their positions in the request.
Run = tuple[int, list[int], list[int]]


class GroupedFiles(FileSource):
    """A source of samples in groups, in files.

    A format stores the number of samples of each group in the array ``rows`` of its index, and reads or decodes a
    group.

    Args:
        index: The index of the files.
        cache_bytes: The size of the cache of decoded groups, per process.

    Raises:
        TypeError: ``cache_bytes`` is not an integer.
        ValueError: ``cache_bytes`` is negative.
    """

    _group_noun = "row group"
    _made_anew = FileSource._made_anew | {
        "_group_bounds",
        "_columns_to_read",
        "_state",
        "_num_served",
        "_num_decoded",
        "_num_groups_decoded",
        "_is_warned",
    }
    # For the warning of a cache that is too small, in this process.
    _num_served = _num_decoded = _num_groups_decoded = 0
    _is_warned = False

    def __init__(self, index: Index, cache_bytes: int) -> None:
        if not isinstance(cache_bytes, int) or isinstance(cache_bytes, bool):
            raise TypeError(f"cache_bytes must be an integer, got {cache_bytes!r}")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes must be 0 or more, got {cache_bytes}")
        self._index, self._parts = index, ProcessCache(cache_bytes)
        self._has_remote = any(file.is_remote for file in index.files)
        self._length = int(index["rows"].sum())

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several samples, in the order of the indices, reading each group once; raises as ``[i]``."""
        samples: list[Any] = [None] * len(indices)
        self._read_runs(list(self._runs(indices)), samples)
        return samples

    def group_sizes(self) -> Any:
        """Return the number of samples in each group of all files, as an array, for a shuffle by blocks."""
        return self._index["rows"]

    def get_blocks(self, blocks: Sequence[range]) -> RowBlocks:
        """Return the samples of blocks of neighbours, for a shuffle by blocks.

        The blocks are read now, once, and each sample is decoded on access.

        Args:
            blocks: The indices of each block.

        Raises:
            FileError: A file has changed, or is damaged.
            OSError: A file cannot be read.
        """
        (starts, ends), pieces = self._group_bounds, []
        for block in blocks:
            at = block.start
            while at < block.stop:
                group = int(ends.searchsorted(at, side="right"))
                first, stop = int(starts[group]), min(block.stop, int(ends[group]))
                pieces.append((group, at - first, stop - first))
                at = stop
        calls = [partial(self._named_block, *piece) for piece in pieces]
        return RowBlocks(ranges.at_once(calls) if self._has_remote else [call() for call in calls])

    def _named_block(self, group: int, start: int, stop: int) -> Sequence[Any]:
        try:
            return self._block(group, start, stop)
        except DAMAGED as error:
            self._raise_named(group, error)

    def _block(self, group: int, start: int, stop: int) -> Sequence[Any]:
        """Return neighbours of a group, in memory that does not contain other samples."""
        whole: Any = self._whole(group)
        self._num_served += stop - start
        rows: Sequence[Any] = whole if stop - start == len(whole) else whole.part(start, stop)
        return rows

    def column(self, name: str) -> list[Any]:
        """Return one column of all samples, also one that ``columns`` leaves out; the whole column is in memory.

        Raises:
            ValueError: The column does not exist.
            FileError: A file has changed, or is damaged.
        """
        alone = pickle.loads(pickle.dumps(self))  # without the state that depends on the columns
        alone._select(name)
        return [row[name] for group in range(len(self._index["rows"])) for row in alone._read_group(group)]

    def _select(self, column: str) -> None:
        """Read only one column.

        Raises:
            ValueError: The column does not exist, or this format has no columns.
        """
        raise ValueError(f"{type(self).__name__} has no columns, got {column!r}")

    def _read_runs(self, runs: Sequence[Run], found: list[Any]) -> None:
        """Store the samples of groups at their positions; groups of remote files are read concurrently."""
        if self._is_remote(runs):
            ranges.at_once([partial(self._read_run, *run, found) for run in runs])
            return
        for group, rows, positions in runs:
            self._read_run(group, rows, positions, found)

    def _is_remote(self, runs: Sequence[Run]) -> bool:
        """Return whether several groups are read, and at least one group from a remote file."""
        if not self._has_remote or len(runs) < 2:
            return False
        return any(self._index.files[self._index.file_of("rows", group)].is_remote for group, _, _ in runs)

    def _read_run(self, group: int, rows: Sequence[int], positions: Sequence[int], found: list[Any]) -> None:
        try:
            samples = self._rows(group, rows)
        except DAMAGED as error:
            self._raise_named(group, error)
        for position, sample in zip(positions, samples, strict=True):
            found[position] = sample

    def _runs(self, indices: Sequence[int]) -> Iterator[Run]:
        """Yield the groups of indices, in order: index, sorted rows, and their positions among the indices."""
        (starts, ends), length = self._group_bounds, self._length
        indices = list(map(operator.index, indices))
        if indices and not -length <= min(indices) <= max(indices) < length:
            bad = next(index for index in indices if not -length <= index < length)
            raise IndexError(f"index {bad} is out of range: {self!r}")
        sample_indices = np.array(indices, np.int64)
        sample_indices[sample_indices < 0] += length
        # Sort by group, so that each group is read or decoded once for all of its rows.
        order = sample_indices.argsort(kind="stable")
        sample_indices = sample_indices[order]
        groups = ends.searchsorted(sample_indices, side="right")
        rows = (sample_indices - starts[groups]).tolist() if len(ends) else []
        positions, of_rows = order.tolist(), groups.tolist()
        at = 0
        while at < len(positions):
            stop = bisect_right(of_rows, of_rows[at], at)
            yield of_rows[at], rows[at:stop], positions[at:stop]
            at = stop

    def _location(self, index: int) -> Location:
        starts, ends = self._group_bounds
        group = int(ends.searchsorted(index, side="right"))
        row = index - int(starts[group])
        path, first, _, _ = self._location_of_group(group)
        return Location(path, first + row, *self._span_in(group, row))

    def _location_of_group(self, group: int) -> Location:
        """Return the location of the first row of a group."""
        starts, _ = self._group_bounds
        file = self._index.file_of("rows", group)
        first_group = int(self._index.starts("rows")[file])
        return Location(self._index.files[file].path, int(starts[group] - starts[first_group]))

    def _span_in(self, group: int, row: int) -> tuple[int | None, int | None]:
        """Return the span of a row of a group; None for formats that store columns or compress their rows."""
        return None, None

    @functools.cached_property
    def _group_bounds(self) -> tuple[Any, Any]:
        """Return the number of rows before each group, and including it."""
        rows = self._index["rows"]
        ends = np.cumsum(rows)
        return ends - rows, ends

    def _read_group(self, group: int) -> Sequence[Any]:
        try:
            return _GroupRows(self, group, self._all_rows(group))
        except DAMAGED as error:
            self._raise_named(group, error)

    def _raise_named(self, group: int, error: Exception) -> NoReturn:
        """Raise an error that names the damaged group; a specific error is raised unchanged."""
        if isinstance(error, FileError) or not is_about_content(error):
            raise error
        file = self._index.file_of("rows", group)
        index = group - int(self._index.starts("rows")[file])
        problem = f"{self._group_noun} {index} of this file cannot be read: {error}"
        raise FileError(self._index.files[file].path, self._offset_of(group), problem) from error

    def _offset_of(self, group: int) -> int | None:
        """Return the offset of a group in its file."""
        return int(self._index["offsets"][group])

    def _rows(self, group: int, rows: Sequence[int]) -> list[Any]:
        """Return rows of a group; ``rows`` is sorted."""
        whole = self._whole(group)
        self._num_served += len(rows)
        return rows_of(whole, rows)

    def _all_rows(self, group: int) -> Sequence[Any]:
        """Return all rows of a group."""
        return self._whole(group)

    def _whole(self, group: int) -> Sequence[Any]:
        rows: Sequence[Any] = self._parts.get(group, self._decode_noted)
        return rows

    def _decode_noted(self, group: int) -> tuple[Sequence[Any], int]:
        rows, num_bytes = self._decode(group)
        self._num_decoded += len(rows)
        self._num_groups_decoded += 1
        self._warn_of_thrashing()
        return rows, num_bytes

    def _warn_of_thrashing(self) -> None:
        if self._is_warned or self._num_groups_decoded < _GROUPS_BEFORE_WARNING:
            return
        # If everything fits, each group is decoded only once, however few of its rows were requested so far.
        if self._num_served * 20 >= self._num_decoded or not self._parts.num_dropped():
            return
        self._is_warned = True
        log.warn(
            f"{self!r}: {count_text(self._num_groups_decoded, self._group_noun)} of {self._num_decoded:,} rows were "
            f"decoded for {self._num_served:,} rows, because cache_bytes={self._parts.max_size:,} holds few of them. "
            'Shuffle by blocks instead: Dataset(source).shuffle(block="group")',
            "Tables and shards",
            "Shuffled Parquet",
        )

    def _decode(self, group: int) -> tuple[Sequence[Any], int]:
        """Return a whole group, and its size in bytes."""
        raise NotImplementedError


def is_about_content(error: Exception) -> bool:
    """Return False for an error of the operating system, and for the exception of a signal handler."""
    if is_of_handler(error) or isinstance(error, PermissionError):  # also from `open_kept`, without an index
        return False
    return not isinstance(error, OSError) or error.errno is None


class _GroupRows(Sequence[Any]):
    """The samples of a group, each built on access; an error names the group."""

    def __init__(self, files: GroupedFiles, group: int, rows: Sequence[Any]) -> None:
        self._files, self._group, self._rows = files, group, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Any:  # type: ignore[override]  # slices are not supported
        index, length = operator.index(row), len(self._rows)
        if not -length <= index < length:
            raise IndexError(f"row {index} is out of range: there are {count_text(length, 'row')}")
        try:
            return self._rows[index % length]
        except DAMAGED as error:
            self._files._raise_named(self._group, error)


class Groups(Sequence[Sequence[Any]]):
    """The groups of files as a source: ``[i]`` is a sequence of all samples of one group.

    Args:
        files: The files.
    """

    def __init__(self, files: GroupedFiles) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files._index["rows"])

    def __getitem__(self, index: int) -> Sequence[Any]:  # type: ignore[override]  # slices are not supported
        """Return the samples of a group; each is built on access.

        Raises:
            IndexError: The index is out of range.
            FileError: The file has changed since it was indexed, or is damaged there.
            OSError: The file cannot be read.
        """
        return self._files._read_group(checked_index(index, len(self), self))

    def locate(self, index: int) -> Location:
        """Return the location of the first sample of a group; raises as `FileSource.locate`."""
        index = as_index(index, len(self), repr(self))
        return self._files._location_of_group(index)

    def __repr__(self) -> str:
        return f"<{len(self):,} groups of samples of {self._files!r}>"
