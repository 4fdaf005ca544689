"""The base class of sources over files that may be compressed, and are then decompressed once into a cache file.

The cache file may be damaged or removed later. The index therefore contains its size and a checksum of each record: a
reader of a few records cannot verify the checksum of all content. Content that differs is decompressed again, by one
process of a host, with one warning.
"""

import functools
import os
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.access.opened import IndexedFile, OpenFiles, changed_error
from mpqueue.files.access.ranges import FileRange
from mpqueue.files.access.window import ScanWindow, content_error, open_window, window_of
from mpqueue.files.indexing.index import Index
from mpqueue.files.indexing.index_file import Array, Arrays
from mpqueue.files.indexing.kept import cache_errors, cache_folder, open_kept
from mpqueue.files.sources.source import FileSource
from mpqueue.files.sources.unpacked import KeptFile, path_of, unpack

Compression = Callable[[ScanWindow], str | None]
FindRecords = Callable[[ScanWindow, str], Arrays]

_BYTES, _CHECKS = "unpacked_bytes", "unpacked_checks"
_NOT_COMPRESSED = -1
_BLOCK_BYTES = 4 * 1024 * 1024


class UnpackedSource(FileSource):
    """Samples of files by index. Each sample is one range, and the files may be compressed.

    Args:
        format, version, on_error: See `Index`.
        paths: The files, expanded.
        find, compression_of: See `scan_unpacked`.
        index: The folder for the index and the decompressed files.
        more_bytes: See `scan_unpacked`.
    """

    def __init__(
        self,
        format: str,
        version: int,
        paths: Sequence[str],
        find: FindRecords,
        compression_of: Compression,
        index: str | os.PathLike[str] | None,
        more_bytes: int = 0,
        *,
        on_error: str,
    ) -> None:
        self._folder, self._compression_of = cache_folder(index), compression_of
        scan = functools.partial(
            scan_unpacked, folder=self._folder, compression_of=compression_of, find=find, more_bytes=more_bytes
        )
        super().__init__(Index(format, version, paths, scan, self._folder, on_error=on_error), "offsets")
        self._has_compressed = bool((self._index[_BYTES] != _NOT_COMPRESSED).any())
        if self._has_compressed:
            contents = self._contents()
            for file in np.flatnonzero(self._index[_BYTES] != _NOT_COMPRESSED).tolist():
                contents.require(file)  # it may have been removed or truncated since the scan

    @functools.cached_property
    def _opened(self) -> OpenFiles:
        return OpenFiles(self._contents() if self._has_compressed else self._index.files)

    def _contents(self) -> "_Contents":
        return _Contents(self._index.files, self._index[_BYTES], self._folder, self._compression_of)

    def _read(self, positions: list[tuple[int, int]], found: list[list[FileRange]]) -> list[bytes]:
        if not self._has_compressed:
            return super()._read(positions, found)
        # Kept for this read: another thread may replace damaged content, and open it, at any time.
        opened, pieces = self._opened, [part for ranges in found for part in ranges]
        try:
            parts = opened.read_all(pieces)
            damaged = self._damaged(positions, parts)
        except FileError as error:
            damaged = [file for file in {file for _, file in positions} if self._is_content(file, error.path)]
            if not damaged:
                raise
        if not damaged:
            return parts
        contents = self._contents()
        for file in damaged:
            contents.replace(file, opened.file(file) or contents.require(file))
        self._opened = OpenFiles(contents)
        parts = self._opened.read_all(pieces)
        for file in self._damaged(positions, parts):
            path = self._index.files[file].path
            raise FileError(path, None, f"its decompressed content in {self._folder} is damaged again: check the disk")
        return parts

    def _span(self, index: int, file: int) -> tuple[int | None, int | None]:
        """Return the span of a sample; None for a compressed file: its bytes are elsewhere."""
        return super()._span(index, file) if self._index[_BYTES][file] == _NOT_COMPRESSED else (None, None)

    def _error(self, where: FileRange, problem: str) -> FileError:
        if self._index[_BYTES][where.file] == _NOT_COMPRESSED:
            return super()._error(where, problem)
        return content_error(self._index.files[where.file].path, where.offset, problem)

    def _is_content(self, file: int, path: str) -> bool:
        """Return whether a path belongs to the decompressed content of a file; the file name is a digest."""
        return os.path.basename(path) == os.path.basename(path_of(self._index.files[file], self._folder))

    def _damaged(self, positions: list[tuple[int, int]], parts: list[bytes]) -> list[int]:
        """Return the indices of compressed files with records that do not match the index."""
        checks, starts, sizes = self._index[_CHECKS], self._index.starts(_CHECKS), self._index[_BYTES]
        damaged = set()
        for (index, file), part in zip(positions, parts, strict=True):
            if sizes[file] == _NOT_COMPRESSED:
                continue
            if zlib.crc32(part) != checks[int(starts[file]) + index - self._starts[file]]:
                damaged.add(file)
        return sorted(damaged)


class _Contents(Sequence[IndexedFile]):
    """The files, with the decompressed content in place of each compressed file."""

    def __init__(self, files: Sequence[IndexedFile], sizes: Array, folder: str, compression_of: Compression) -> None:
        self._files, self._sizes, self._folder, self._compression_of = files, sizes, folder, compression_of

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> IndexedFile:  # type: ignore[override]  # slices are not supported
        return self._files[index] if self._sizes[index] == _NOT_COMPRESSED else self.require(index)

    def require(self, index: int) -> IndexedFile:
        """Return the decompressed content of a compressed file, created again if it is missing or truncated."""
        content = self.current(index)
        if content is None or content.size != self._sizes[index]:
            self.replace(index, content)
            content = self.made(index)
        return content

    def made(self, index: int) -> IndexedFile:
        """Return the decompressed content of a compressed file, which this process has just created.

        Raises:
            OSError: Another program has removed it.
        """
        path = path_of(self._files[index], self._folder)
        with cache_errors(path):
            return KeptFile.of(path)

    def current(self, index: int) -> IndexedFile | None:
        """Return the current decompressed content of a compressed file; None if it is missing."""
        try:
            return KeptFile.of(path_of(self._files[index], self._folder))
        except FileNotFoundError:
            return None

    def replace(self, index: int, content: IndexedFile | None) -> None:
        """Decompress a file again, unless another thread or process has already replaced the damaged content.

        Args:
            index: The index of the file.
            content: The damaged content; None if it is missing.
        """
        file = self._files[index]
        if not (now := IndexedFile.of(file.path)).is_same(file):
            raise changed_error(file, now)
        with open_window(file.path) as window:
            compression = self._compression_of(window)
        unpack(file, self._folder, compression, None if content is None else content.inode)


def scan_unpacked(
    path: str, folder: str, compression_of: Compression, find: FindRecords, more_bytes: int = 0
) -> Arrays:
    """Return the arrays of a file, and the size and checksums of its decompressed content.

    Args:
        path: The file.
        folder: The folder for the decompressed content.
        compression_of: A picklable function that returns the compression of an open file; None if it is not compressed.
        find: A picklable function that returns the arrays of an open file or of its decompressed content, including
            ``offsets`` and ``lengths``. It also receives the path of the file, for its errors.
        more_bytes: The number of bytes that a sample reads after its length.

    Raises:
        FileError: The file is damaged or truncated, or ``find`` raised.
    """
    with open_window(path) as window:
        compression = compression_of(window)
        if compression is None:
            return find(window, path) | {_BYTES: np.array([_NOT_COMPRESSED]), _CHECKS: np.empty(0, np.uint32)}
    content = unpack(IndexedFile.of(path), folder, compression)
    with cache_errors(content):
        held = open_kept(content, os.O_RDONLY)
    with window_of(content, held) as window:
        try:
            arrays = find(window, path)
        except FileError as error:
            if error.offset is None:
                raise
            raise content_error(path, error.offset, error.what) from error
        checks = _checks(window, arrays["offsets"], arrays["lengths"] + more_bytes)
        return arrays | {_BYTES: np.array([window.size]), _CHECKS: checks}


def _checks(window: ScanWindow, offsets: Array, lengths: Array) -> Array:
    """Return the checksum of each range. Ranges must not overlap, and must be in ascending order."""
    checks = np.empty(len(offsets), np.uint32)
    start, block = 0, memoryview(b"")
    for index, (offset, length) in enumerate(zip(offsets.tolist(), lengths.tolist(), strict=True)):
        if offset + length > start + len(block):
            start, block = offset, memoryview(window.read(offset, max(length, _BLOCK_BYTES)))
        checks[index] = zlib.crc32(block[offset - start : offset - start + length])
    return checks
