"""A file that a scan reads from header to header: it looks ahead where headers lie close together."""

import os
from typing import Self

_AHEAD_BYTES = 128 * 1024
# Where headers lie further apart than this, what lies between is not read.
_CLOSE_BYTES = 8 * 1024


class ScanWindow:
    """A regular file, open for one scan: a context."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.size = os.fstat(self._fd).st_size
        self._start, self._data = 0, b""
        self._last, self._num_close = 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; fewer where the file ends."""
        place = offset - self._start
        if place >= 0 and place + length <= len(self._data):
            self._last = offset
            return self._data[place : place + length]
        # A single small file beside each large one is not worth it.
        self._num_close = self._num_close + 1 if 0 <= offset - self._last <= _CLOSE_BYTES else 0
        self._last = offset
        if self._num_close < 3 or length > _AHEAD_BYTES:
            return os.pread(self._fd, length, offset)
        self._start, self._data = offset, os.pread(self._fd, _AHEAD_BYTES, offset)
        return self._data[:length]
