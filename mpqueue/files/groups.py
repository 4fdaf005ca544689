"""The base of files whose samples lie in groups: row groups, record batches, shards.

Samples are numbered through the groups of all files. Those that are asked for at once are sorted by their groups, and
each group is read, or decoded, once.
"""

import operator
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files import ranges
from mpqueue.files.decoded import DecodedParts
from mpqueue.files.index import Index
from mpqueue.files.source import FileSource
from mpqueue.system import log

# So many groups are decoded before it is told that they are decoded for next to nothing.
_GROUPS_BEFORE_WARNING = 30
# What pyarrow raises of damaged data; a wrong size may be more than there is memory.
DAMAGED = (ValueError, NotImplementedError, OSError, LookupError, MemoryError)
# What is made anew in each process.
_MADE_ANEW = {
    "_bounds", "_made", "_num_served", "_num_decoded", "_num_groups_decoded", "_is_warned", "_readers", "_is_in_order",
}  # fmt: skip

# A group, some of its rows, sorted, and the places at which they are asked for.
Run = tuple[int, list[int], list[int]]


class GroupedFiles(FileSource):
    """A source of samples that lie in groups, in files.

    A format says how many samples each group has, in the array ``rows`` of its index, and reads, or decodes, a group.

    Args:
        index: Of the files.
        cache_bytes: Of decoded groups, for each process.
    """

    _group_noun = "row group"

    def __init__(self, index: Index, cache_bytes: int) -> None:
        self._index, self._parts = index, DecodedParts(cache_bytes)
        self._has_remote = any(file.is_remote for file in index.files)
        self._length = int(index["rows"].sum())
        self._forget()

    def _forget(self) -> None:
        """Begin as in a new process: nothing is made."""
        self._bounds: tuple[Any, Any] | None = None
        self._made: Any = None
        self._num_served = self._num_decoded = self._num_groups_decoded = 0
        self._is_warned = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several samples, in the order of the indices; those of a group are read at once; raises as ``[i]``."""
        found: list[Any] = [None] * len(indices)
        self._read_runs(list(self._runs(indices)), found)
        return found

    def _read_runs(self, runs: Sequence[Run], found: list[Any]) -> None:
        """Put the samples of groups at their places; groups of remote files are waited for at once."""
        if self._is_remote(runs):
            ranges.at_once([partial(self._read_run, *run, found) for run in runs])
            return
        for group, rows, places in runs:
            self._read_run(group, rows, places, found)

    def _is_remote(self, runs: Sequence[Run]) -> bool:
        """Return whether what is read lies in several groups, and one of these behind a network."""
        if not self._has_remote or len(runs) < 2:
            return False
        return any(self._index.files[self._file_of(group)].is_remote for group, _, _ in runs)

    def _read_run(self, group: int, rows: Sequence[int], places: Sequence[int], found: list[Any]) -> None:
        try:
            samples = self._rows(group, rows)
        except DAMAGED as error:
            self._raise_named(group, error)
        for place, sample in zip(places, samples, strict=True):
            found[place] = sample

    def _runs(self, indices: Sequence[int]) -> Iterator[Run]:
        """Yield the groups of indices, in order: number, sorted rows in it, and their places among the indices."""
        (starts, ends), length = self._group_bounds(), self._length
        numbers = list(map(operator.index, indices))
        if numbers and not -length <= min(numbers) <= max(numbers) < length:
            bad = next(index for index in numbers if not -length <= index < length)
            raise IndexError(f"index {bad} is out of range: {self!r}")
        wanted = np.array(numbers, np.int64)
        wanted[wanted < 0] += length
        # By their groups, each of which is then read, or decoded, once for all of its rows.
        order = wanted.argsort(kind="stable")
        wanted = wanted[order]
        groups = ends.searchsorted(wanted, side="right")
        rows = (wanted - starts[groups]).tolist() if len(ends) else []
        places, of_rows = order.tolist(), groups.tolist()
        at = 0
        while at < len(places):
            stop = bisect_right(of_rows, of_rows[at], at)
            yield of_rows[at], rows[at:stop], places[at:stop]
            at = stop

    def _num_groups(self) -> int:
        return len(self._index["rows"])

    def _group_bounds(self) -> tuple[Any, Any]:
        """Return how many rows there are before each group, and with it."""
        if self._bounds is None:
            rows = self._index["rows"]
            ends = np.cumsum(rows)
            self._bounds = ends - rows, ends
        return self._bounds

    def _file_of(self, group: int) -> int:
        return int(np.searchsorted(self._index.starts("rows"), group, side="right")) - 1

    def _read_group(self, group: int) -> Sequence[Any]:
        try:
            return self._all_rows(group)
        except DAMAGED as error:
            self._raise_named(group, error)

    def _raise_named(self, group: int, error: Exception) -> NoReturn:
        """Raise the error that names a group whose data are damaged; one that says enough is raised as it is."""
        if isinstance(error, FileError) or (isinstance(error, OSError) and error.errno is not None):
            raise error
        file = self._file_of(group)
        number = group - int(self._index.starts("rows")[file])
        what = f"{self._group_noun} {number} of this file cannot be read: {error}"
        raise FileError(self._index.files[file].path, self._offset_of(group), what) from error

    def _offset_of(self, group: int) -> int | None:
        """Return where a group begins in its file."""
        return int(self._index["offsets"][group])

    def _rows(self, group: int, rows: Sequence[int]) -> list[Any]:
        """Return rows of a group, by their places in it, which are sorted."""
        whole = self._whole(group)
        self._num_served += len(rows)
        return [whole[row] for row in rows]

    def _all_rows(self, group: int) -> Sequence[Any]:
        """Return the rows of a group."""
        return self._whole(group)

    def _whole(self, group: int) -> Sequence[Any]:
        found: Sequence[Any] = self._parts.get(group, lambda: self._decode_noted(group))
        return found

    def _decode_noted(self, group: int) -> tuple[Sequence[Any], int]:
        rows, num_bytes = self._decode(group)
        self._num_decoded += len(rows)
        self._num_groups_decoded += 1
        self._warn_of_thrashing()
        return rows, num_bytes

    def _warn_of_thrashing(self) -> None:
        if self._is_warned or self._num_groups_decoded < _GROUPS_BEFORE_WARNING:
            return
        # Where all fits, each group is decoded once, however few of its rows were asked for up to now.
        if self._num_served * 20 >= self._num_decoded or not self._parts.num_dropped():
            return
        self._is_warned = True
        log.warn(
            f"{self!r}: {self._num_groups_decoded:,} {self._group_noun}s of {self._num_decoded:,} rows were decoded "
            f"for {self._num_served:,} rows, since cache_bytes={self._parts.max_bytes:,} holds few of them; shuffle "
            f"the {self._group_noun}s, and then rows in a buffer",
            "Tables and shards",
            "Shuffled Parquet",
        )

    def _decode(self, group: int) -> tuple[Sequence[Any], int]:
        """Return a whole group, and its bytes."""
        raise NotImplementedError


class Groups(Sequence[Sequence[Any]]):
    """The groups of files as a source: ``[i]`` is all samples of one, a sequence.

    Args:
        files: Whose groups they are.
    """

    def __init__(self, files: GroupedFiles) -> None:
        self._files = files

    def __len__(self) -> int:
        return self._files._num_groups()

    def __getitem__(self, index: int) -> Sequence[Any]:  # type: ignore[override]  # no slices are taken
        """Return the samples of a group; each is made when it is asked for.

        Raises:
            IndexError: There is no such group.
            FileError: The file has changed since it was indexed, or is damaged there.
            OSError: The system's.
        """
        number, length = operator.index(index), len(self)
        if not -length <= number < length:
            raise IndexError(f"group {number} of {length:,}")
        return self._files._read_group(number % length)

    def __repr__(self) -> str:
        return f"<{len(self):,} groups of samples of {self._files!r}>"
