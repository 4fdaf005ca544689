"""Positional reads, and a file object over them for libraries that require one."""

import io
import os
from collections.abc import Callable


def read_at(fd: int, offset: int, length: int) -> bytes:
    """Return bytes of an open file; fewer only at the end of the file."""
    data = os.pread(fd, length, offset)
    while len(data) < length:  # Linux returns at most 2 GB per call
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


class PositionedFile(io.RawIOBase):
    """A read-only file object with its own position.

    Args:
        read: A function that returns bytes for an offset and a length.
        size: The size of the file.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._at, self._size = read, 0, size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, and return it."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return bytes from the position, and advance it."""
        left = max(self._size - self._at, 0)
        size = left if size is None or size < 0 else min(size, left)
        data = self._read(self._at, size)
        self._at += len(data)
        return data
