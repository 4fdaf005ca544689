"""Bytes by position as a file object, for libraries that want one."""

import io
from collections.abc import Callable


class PositionedFile(io.RawIOBase):
    """A file that is read from a place, which is this object's own.

    Args:
        read: Returns bytes, of an offset and a length.
        size: Of the file.
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
        """Go to a place; return it."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return bytes from the place, and pass them."""
        left = max(self._size - self._at, 0)
        size = left if size is None or size < 0 else min(size, left)
        data = self._read(self._at, size)
        self._at += len(data)
        return data
