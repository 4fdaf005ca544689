"""Memory-mapped arrays are pickled as descriptions, and mapped again by the receiver.

Pickling a memory map would read the whole file, and keep one copy of it per process. So the trainer's pickler calls
`MapFinder` for each array on a map (`np.memmap`, and all views of one):

    trainer    looks up the array's address in /proc/self/maps: the kernel lists file, inode, offset and mode, also for
               views, and after the file was renamed
    receiver   opens the file, checks that its inode is the same, maps it in the same mode, and creates the view

The buffers of pyarrow tables and arrays read from a `pyarrow.memory_map` are handled in the same way.

A map for reading, or for reading and writing, is shared with the file: all processes see every change, and two
descriptions are equal although the contents have changed. A copy-on-write map becomes private as soon as it is written
to; only unchanged ones are described. Everything else is pickled by value: if the file was deleted or replaced, or has
no name, if the system has no /proc, and for receivers on other machines.
"""

import mmap
import os
import stat
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from mpqueue.system.descriptors.memory_maps import Area, area_of, read_areas

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_DETAILS = "/proc/self/smaps"
_MIN_BUFFER_BYTES = 4096  # a smaller buffer is cheaper by value
_DELETED = " (deleted)"
_OWN_PAGES = ("Anonymous", "Swap")  # of a private map: counts of pages that differ from the file


class MappedFile(NamedTuple):
    """A mapped part of a file.

    Attributes:
        path: Absolute path.
        inode: Inode of the file.
        start: Offset of the first byte.
        nbytes: Number of bytes.
        mode: Mode of `np.memmap`: "r", "r+" or "c".
    """

    path: str
    inode: int
    start: int
    nbytes: int
    mode: Literal["r", "r+", "c"]

    def open(self) -> int:
        """Return a descriptor of the file.

        Raises:
            OSError: The file cannot be opened, or was replaced or truncated.
        """
        fd = os.open(self.path, (os.O_RDWR if self.mode == "r+" else os.O_RDONLY) | os.O_CLOEXEC)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_ino != self.inode or status.st_size < self.start + self.nbytes:
            os.close(fd)
            raise OSError(f"{self.path} was replaced or truncated after the source mapped it")
        return fd

    def map(self) -> Any:
        """Map the file, as an array of bytes.

        Raises:
            OSError: See `open`.
        """
        with os.fdopen(self.open(), "r+b" if self.mode == "r+" else "rb") as file:
            return np.memmap(file, np.uint8, self.mode, self.start, (self.nbytes,))


class MapFinder:
    """Finds the maps of arrays, for one image of a source; each map is described once."""

    def __init__(self) -> None:
        self._areas: list[Area] | None = None
        self._firsts: list[int] = []
        self._maps: dict[Area, _Mapped | None] = {}

    def reduced(self, array: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """Return the reduction of an array that is a map; None for normal pickling."""
        if type(array) not in (np.memmap, np.ndarray) or not _is_map(array) or not array.size:
            return None
        low, high, pointer = _bounds(array)
        found = self._mapping_at(low, high)
        if found is None:
            return by_value(array)
        area, mapped = found
        known = {**vars(array), "mode": mapped.file.mode, "_mmap": None} if _is_memmap(array) else None
        form = array.shape, array.dtype, pointer - area.first, array.strides, array.flags.writeable
        return view_of, (mapped, *form, known)

    def reduced_buffer(self, buffer: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """Return the reduction of a pyarrow buffer in a memory map; None for normal pickling."""
        if buffer.size < _MIN_BUFFER_BYTES or not buffer.is_cpu:
            return None
        found = self._mapping_at(buffer.address, buffer.address + buffer.size)
        if found is None or found[1].file.mode != "r":  # a writable map is pickled by value, with its present contents
            return None
        area, mapped = found
        return buffer_of, (mapped, buffer.address - area.first, buffer.size)

    def _mapping_at(self, low: int, high: int) -> "tuple[Area, _Mapped] | None":
        """Return the mapped file that contains these addresses."""
        areas = self._look()
        index = bisect_right(self._firsts, low) - 1
        if index < 0 or high > areas[index].end:
            return None
        mapped = self._describe(areas[index])
        if mapped is None or high - areas[index].first > mapped.file.nbytes:
            return None
        return areas[index], mapped

    def _look(self) -> list[Area]:
        if self._areas is None:
            self._areas = _merged(read_areas())
            self._firsts = [area.first for area in self._areas]  # in ascending order
        return self._areas

    def _describe(self, area: Area) -> "_Mapped | None":
        if area not in self._maps:
            file = _file_of(area)
            self._maps[area] = None if file is None else _Mapped(file)
        return self._maps[area]


class _Mapped:
    """A map in a pickle; one object, and so one map, for all its views."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return MappedFile.map, (self.file,)


def _file_of(area: Area) -> MappedFile | None:
    if not area.path.startswith("/") or area.path.endswith(_DELETED):
        return None
    if not area.is_shared and _has_own_pages(area):
        return None
    mode: Literal["r", "r+", "c"] = ("r+" if area.is_shared else "c") if area.is_writable else "r"
    try:
        # The file may end within the last page.
        nbytes = min(area.end - area.first, os.stat(area.path).st_size - area.offset)
        file = MappedFile(area.path, area.inode, area.offset, nbytes, mode)
        # The path may lead to another file by now, which only the inode shows.
        os.close(file.open())
    except OSError:  # replaced by another file, or no longer accessible
        return None
    return file


def view_of(
    mapped: Any,
    shape: tuple[int, ...],
    dtype: "DTypeLike",
    offset: int,
    strides: tuple[int, ...],
    is_writable: bool,
    known: dict[str, Any] | None,
) -> Any:
    """Create a view of a map, in the receiver; ``known`` are the attributes of an `np.memmap`."""
    kind = np.ndarray if known is None else np.memmap
    view = np.ndarray.__new__(kind, shape, dtype, mapped, offset, strides)
    if known is not None:
        vars(view).update(known, _mmap=mapped._mmap)
    if not is_writable:
        view.flags.writeable = False
    return view


def is_arrow_buffer(value: Any) -> bool:
    """Return whether this is a pyarrow buffer, without importing pyarrow."""
    kind = type(value)
    return kind.__module__ == "pyarrow.lib" and kind.__name__ == "Buffer"


def buffer_of(mapped: Any, offset: int, nbytes: int) -> Any:
    """Create a pyarrow buffer of a part of a map, in the receiver."""
    import pyarrow as pa

    return pa.py_buffer(mapped[offset : offset + nbytes])


def by_value(array: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """Return the reduction of a map by value: as a plain array, since only that class is pickled out-of-band."""
    return (np.ndarray.view, (np.asarray(array), np.memmap)) if _is_memmap(array) else None


def _is_memmap(array: Any) -> bool:
    return type(array) is np.memmap


def _is_map(array: Any) -> bool:
    base = array.base
    while base is not None:
        if isinstance(base, mmap.mmap):
            return True
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return False


def _bounds(array: Any) -> tuple[int, int, int]:
    """Return the addresses of an array's first byte, of the byte after its last, and of its first element."""
    pointer = array.__array_interface__["data"][0]
    # A negative stride leads to addresses before the first element.
    spans = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    low = pointer + sum(span for span in spans if span < 0)
    return low, pointer + sum(span for span in spans if span > 0) + array.itemsize, pointer


def _merged(areas: list[Area]) -> list[Area]:
    """Join the parts of a map that `madvise` on a part of it has split."""
    joined: list[Area] = []
    for area in areas:
        last = joined[-1] if joined else None
        if last is not None and area == last._replace(
            first=last.end, end=area.end, offset=last.offset + last.end - last.first
        ):
            joined[-1] = last._replace(end=area.end)
        else:
            joined.append(area)
    return joined


def _has_own_pages(area: Area) -> bool:
    is_inside = False
    with open(_DETAILS, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if "-" in name.split(" ", 1)[0]:
                found = area_of(line)
                is_inside = area.first <= found.first < area.end
            elif is_inside and name in _OWN_PAGES and int(rest.split()[0]):
                return True
    return False
