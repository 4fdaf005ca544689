"""Files that a scan reads from header to header, with read-ahead where headers are close together.

A remote file is read ahead in several concurrent blocks if the next header is nearby, because the latency of a request
equals the time for several MB.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from mpqueue.errors import FileError
from mpqueue.files.access import ranges
from mpqueue.files.access.opened import IndexedFile, checked
from mpqueue.files.access.positioned import read_at
from mpqueue.files.access.ranges import RangedFile
from mpqueue.files.access.urls import is_url
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor

_AHEAD_BYTES = 128 * 1024
# If headers are further apart than this, the bytes between them are not read.
_CLOSE_BYTES = 8 * 1024
_BLOCK_BYTES = 2 * 1024 * 1024
_BLOCKS_AHEAD = 8


class ScanWindow:
    """A context manager for a file that is open for one scan."""

    path: str
    size: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; fewer at the end of the file."""
        raise NotImplementedError

    def check(self, file: IndexedFile) -> None:
        """Raise a `FileError` if the file has changed since an earlier time.

        Args:
            file: The file at that time.
        """
        raise NotImplementedError

    def error(self, offset: int, problem: str) -> FileError:
        """Return an error about a position of this file."""
        return FileError(self.path, offset, problem)


def content_error(path: str, offset: int, problem: str) -> FileError:
    """Return an error about a position of the decompressed content of a file, which is not a position of the file."""
    return FileError(path, None, f"{problem} (at byte {offset:,} of the decompressed content)")


def open_window(path: str) -> ScanWindow:
    """Open a file for one scan.

    Raises:
        OSError: The file cannot be opened.
    """
    # O_NONBLOCK: opening a named pipe would otherwise block until it has a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    return _RemoteWindow(path) if is_url(path) else window_of(path, HeldDescriptor(os.open, path, flags))


def window_of(path: str, held: HeldDescriptor) -> ScanWindow:
    """Return a window of an open file, which closes the descriptor."""
    return _LocalWindow(path, held)


class _LocalWindow(ScanWindow):
    def __init__(self, path: str, held: HeldDescriptor) -> None:
        self.path, self._held, self._fd = path, held, held.fd
        self.size = os.fstat(self._fd).st_size
        self._start, self._data = 0, b""
        self._last, self._num_close = 0, 0

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def check(self, file: IndexedFile) -> None:
        checked(file, self._fd)

    def read(self, offset: int, length: int) -> bytes:
        position = offset - self._start
        if position >= 0 and position + length <= len(self._data):
            self._last = offset
            return self._data[position : position + length]
        # Read-ahead is not worth its cost for single small files between large ones.
        self._num_close = self._num_close + 1 if 0 <= offset - self._last <= _CLOSE_BYTES else 0
        self._last = offset
        if self._num_close < 3 or length > _AHEAD_BYTES:
            return read_at(self._fd, offset, length)
        self._start, self._data = offset, read_at(self._fd, offset, _AHEAD_BYTES)
        return self._data[:length]


class _RemoteWindow(ScanWindow):
    def __init__(self, path: str) -> None:
        self.path = path
        self.size, version = ranges.stat(path)
        self._file = RangedFile(path, self.size, version)
        self._pool = ThreadPoolExecutor(_BLOCKS_AHEAD, "mpqueue-ahead")
        self._blocks: dict[int, Future[bytes]] = {}  # by block index
        self._last = 0

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def check(self, file: IndexedFile) -> None:
        pass  # each read compares the version

    def read(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        first, last = offset // _BLOCK_BYTES, (offset + length - 1) // _BLOCK_BYTES
        data = b"".join([self._block(block) for block in range(first, last + 1)])
        start = offset - first * _BLOCK_BYTES
        return data[start : start + length]

    def _block(self, block: int) -> bytes:
        # Read ahead only near the last block: the first block, or a distant one, may be the only one needed.
        is_near = 0 < block - self._last <= _BLOCKS_AHEAD // 2 or (block == self._last and len(self._blocks) > 1)
        end = min(block + (_BLOCKS_AHEAD if is_near else 1), -(-self.size // _BLOCK_BYTES))
        for other in [other for other in self._blocks if not block <= other < end]:
            self._blocks.pop(other).cancel()
        for wanted in range(block, end):
            if wanted not in self._blocks:
                start = wanted * _BLOCK_BYTES
                length = min(_BLOCK_BYTES, self.size - start)
                self._blocks[wanted] = self._pool.submit(self._file.read, start, length)
        self._last = block
        return self._blocks[block].result()


class ForwardWindow(ScanWindow):
    """The content of a compressed file, which can only be read sequentially.

    Its size is unknown until the end, so a read past the end returns fewer bytes.

    Args:
        path: The name of the compressed file.
        blocks: The content.
    """

    size = sys.maxsize

    def __init__(self, path: str, blocks: Iterator[bytes]) -> None:
        self.path = path
        self._blocks, self._start, self._data = blocks, 0, bytearray()

    def __exit__(self, *_: object) -> None:
        pass  # the file belongs to the caller

    def error(self, offset: int, problem: str) -> FileError:
        """Return an error about a position of the content."""
        return content_error(self.path, offset, problem)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; fewer at the end. Later reads must not start before ``offset``.

        Raises:
            FileError: The file is damaged or truncated.
            OSError: The file cannot be read.
        """
        assert offset >= self._start, "a forward window cannot go back"
        data = self._data
        while offset - self._start > len(data):  # discard the bytes before the offset
            self._start += len(data)
            data.clear()
            if not self._fill():
                return b""
        del data[: offset - self._start]
        self._start = offset
        while len(data) < length and self._fill():
            pass
        with memoryview(data) as view:
            return bytes(view[:length])

    def _fill(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        self._data += block
        return True
