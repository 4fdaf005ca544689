"""The base class of sources over files: ``len``, ``[i]``, batched reads, small pickles.

A format returns the ranges of a sample in a file, and builds the sample from their bytes. No file is open or mapped
until a process reads; see `mpqueue.files.access.opened` and `mpqueue.files.indexing.index`.
"""

import functools
import operator
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpqueue.dataset.description.ids import as_index
from mpqueue.errors import FileError
from mpqueue.files.access.opened import OpenFiles
from mpqueue.files.access.ranges import FileRange
from mpqueue.files.indexing.index import Index
from mpqueue.files.sources.location import Location
from mpqueue.system.units import count_text, size_text


def checked_index(index: int, length: int, source: object) -> int:
    """Return the index of a sample as a non-negative integer.

    Raises:
        IndexError: The index is out of range for this length.
    """
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range: {source!r}")
    return index % length


class FileSource:
    """Samples of files by index. Reads are thread-safe.

    Args:
        index: The index of the files.
        counted: The array of the index with one item per sample.
    """

    thread_safe = True
    # Attributes that are created again in each process.
    _made_anew = frozenset({"_opened", "_starts", "_suffixes_of"})

    def __init__(self, index: Index, counted: str) -> None:
        self._index, self._counted = index, counted
        self._length = int(index.starts(counted)[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in self._made_anew}

    def __len__(self) -> int:
        return self._length

    if TYPE_CHECKING:  # Python iterates by `__getitem__`, and type checkers do not know that

        def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, index: int) -> Any:
        """Return a sample.

        Raises:
            IndexError: The index is out of range.
            FileError: The file has changed since it was indexed, or is damaged.
            OSError: The file cannot be read.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return samples, reading their bytes in the order of their positions; raises as ``[i]``."""
        positions = [self._position(index) for index in indices]
        ranges_of_samples = [self._ranges(*position) for position in positions]
        # One call for all samples, so that adjacent ranges are read together, and remote ones concurrently.
        parts = iter(self._read(positions, ranges_of_samples))
        return [
            self._sample(index, ranges, [next(parts) for _ in ranges])
            for (index, _), ranges in zip(positions, ranges_of_samples, strict=True)
        ]

    def locate(self, index: int) -> Location:
        """Return the location of a sample in a file, without reading the sample.

        Args:
            index: The index of the sample, from 0.

        Raises:
            TypeError: The index is not an integer.
            LookupError: The sample does not exist.
        """
        index = as_index(index, len(self), repr(self))
        return self._location(index)

    def _location(self, index: int) -> Location:
        _, file = self._position(index)
        start, stop = self._span(index, file)
        return Location(self._index.files[file].path, index - self._starts[file], start, stop)

    def _span(self, index: int, file: int) -> tuple[int | None, int | None]:
        """Return the first byte of a sample in its file, and the byte after the sample; None if there are none."""
        ranges = self._ranges(index, file)
        return ranges[0].offset, ranges[-1].offset + ranges[-1].length

    @property
    def file_errors(self) -> list[str]:
        """The errors of the files with samples that ``on_error="skip"`` has skipped, one for each file."""
        return list(self._index.errors)

    @property
    def index_path(self) -> str:
        """The file that contains the index."""
        return self._index.path

    def __repr__(self) -> str:
        index, files = self._index, len(self._index.files)
        return (
            f"{type(self).__name__}({count_text(files, 'file')}, {count_text(len(self), 'sample')}, "
            f"{size_text(index.total_bytes())})"
        )

    @functools.cached_property
    def _opened(self) -> OpenFiles:
        return OpenFiles(self._index.files)

    @functools.cached_property
    def _starts(self) -> list[int]:
        """Return the index of the first sample of each file."""
        starts: list[int] = self._index.starts(self._counted)[:-1].tolist()
        return starts

    def _read(self, positions: list[tuple[int, int]], found: list[list[FileRange]]) -> list[bytes]:
        """Return the bytes of samples: all parts of the first sample, then of the second, and so on.

        Args:
            positions: The index of each sample, and of its file.
            found: The ranges of each sample.
        """
        return self._opened.read_all([part for ranges in found for part in ranges])

    def _position(self, index: int) -> tuple[int, int]:
        """Return the non-negative index of a sample, and the index of its file."""
        index = checked_index(index, self._length, self)
        return index, bisect_right(self._starts, index) - 1

    def _ranges(self, index: int, file: int) -> list[FileRange]:
        """Return the ranges of a sample's parts."""
        raise NotImplementedError

    def _sample(self, index: int, ranges: list[FileRange], parts: list[bytes]) -> Any:
        """Return a sample, built from its parts.

        Raises:
            FileError: The sample is damaged.
        """
        raise NotImplementedError

    def _error(self, where: FileRange, problem: str) -> FileError:
        return FileError(self._index.files[where.file].path, where.offset, problem)
