"""Sources of files: ``len``, ``[i]``, many samples at once, a pickle that is small.

A format says in which ranges of which file a sample lies, and what a sample is made of their bytes. Nothing is open and
nothing is mapped until a process reads; see `mpqueue.files.opened` and `mpqueue.files.index`.
"""

import functools
import operator
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from mpqueue.errors import FileError
from mpqueue.files.index import Index
from mpqueue.files.opened import OpenFiles
from mpqueue.files.ranges import FileRange
from mpqueue.telemetry.units import size_text

_MADE_ANEW = ("_opened", "_starts", "_suffixes_of")  # by each process


def checked_number(index: int, length: int, source: object) -> int:
    """Return the number of a sample, not negative.

    Raises:
        IndexError: The source, which has so many, has none of this number.
    """
    number = operator.index(index)
    if not -length <= number < length:
        raise IndexError(f"index {index} is out of range: {source!r}")
    return number % length


class FileSource:
    """Samples of files by their numbers; any thread may ask for some.

    Args:
        index: Where they lie.
        counted: The array of the index that has an item for each sample.
    """

    thread_safe = True

    def __init__(self, index: Index, counted: str) -> None:
        self._index, self._counted = index, counted
        self._length = int(index.starts(counted)[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _MADE_ANEW}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        """Return a sample.

        Raises:
            IndexError: There is none of this number.
            FileError: Its file has changed since it was indexed, or is damaged.
            OSError: The system's.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return samples, whose bytes are read in the order in which they lie; raises as ``[i]`` does."""
        places = [self._place(index) for index in indices]
        found = [self._ranges(*place) for place in places]
        # One call for all samples: neighbours are read at once, and what is far is waited for at once.
        parts = iter(self._read(places, found))
        return [
            self._sample(number, ranges, [next(parts) for _ in ranges])
            for (number, _), ranges in zip(places, found, strict=True)
        ]

    @property
    def index_path(self) -> str:
        """The file in which the index is kept."""
        return self._index.path

    def __repr__(self) -> str:
        index, files = self._index, len(self._index.files)
        return (
            f"{type(self).__name__}({files:,} file{'s' * (files != 1)}, {len(self):,} samples, "
            f"{size_text(index.total_bytes())})"
        )

    @functools.cached_property
    def _opened(self) -> OpenFiles:
        return OpenFiles(self._index.files)

    @functools.cached_property
    def _starts(self) -> list[int]:
        """Return the number of the first sample of each file."""
        starts: list[int] = self._index.starts(self._counted)[:-1].tolist()
        return starts

    def _read(self, places: list[tuple[int, int]], found: list[list[FileRange]]) -> list[bytes]:  # noqa: ARG002
        """Return the bytes of samples: of each sample its parts, one after the other.

        Args:
            places: The numbers of each sample and of its file.
            found: The ranges of each sample.
        """
        return self._opened.read_all([part for ranges in found for part in ranges])

    def _place(self, index: int) -> tuple[int, int]:
        """Return the number of a sample, not negative, and that of its file."""
        number = checked_number(index, self._length, self)
        return number, bisect_right(self._starts, number) - 1

    def _ranges(self, number: int, file: int) -> list[FileRange]:
        """Return where the parts of a sample lie."""
        raise NotImplementedError

    def _sample(self, number: int, ranges: list[FileRange], parts: list[bytes]) -> Any:
        """Return a sample of its parts.

        Raises:
            FileError: They are damaged.
        """
        raise NotImplementedError

    def _error(self, where: FileRange, what: str) -> FileError:
        return FileError(self._index.files[where.file].path, where.offset, what)
