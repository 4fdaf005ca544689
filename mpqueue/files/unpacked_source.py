"""Sources of files that may be compressed: these are unpacked once, and read from their unpacked content."""

import functools
import os
from collections.abc import Callable, Sequence

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.index import Index
from mpqueue.files.index_file import Array, Arrays
from mpqueue.files.kept import cache_folder
from mpqueue.files.names import Names, expand
from mpqueue.files.opened import IndexedFile, OpenFiles
from mpqueue.files.source import FileSource
from mpqueue.files.unpacked import path_of, unpack
from mpqueue.files.window import ScanWindow, open_window

Compression = Callable[[ScanWindow], str | None]
FindRecords = Callable[[ScanWindow, str], Arrays]

_IS_COMPRESSED = "is_compressed"


class UnpackedSource(FileSource):
    """Samples of files by index, each of which may be compressed.

    Args:
        format, version: See `Index`.
        paths: The files.
        scan: Returns the arrays of one file, as `scan_unpacked` does; called with the path and ``folder``.
        counted: See `FileSource`.
        index: The folder of the index, and of the unpacked files.
    """

    def __init__(
        self,
        format: str,
        version: int,
        paths: Names,
        scan: Callable[..., Arrays],
        counted: str,
        index: str | os.PathLike[str] | None,
    ) -> None:
        self._folder = cache_folder(index)
        find = functools.partial(scan, folder=self._folder)
        super().__init__(Index(format, version, expand(paths), find, self._folder), counted)
        for number in np.flatnonzero(self._index[_IS_COMPRESSED]).tolist():
            unpack(self._index.files[number], self._folder)  # it may have been deleted since the scan

    @functools.cached_property
    def _opened(self) -> OpenFiles:
        files, is_compressed = self._index.files, self._index[_IS_COMPRESSED]
        return OpenFiles(_UnpackedFiles(files, is_compressed, self._folder) if is_compressed.any() else files)


class _UnpackedFiles(Sequence[IndexedFile]):
    """Files, with the unpacked content in place of each compressed one."""

    def __init__(self, files: Sequence[IndexedFile], is_compressed: Array, folder: str) -> None:
        self._files, self._is_compressed, self._folder = files, is_compressed, folder

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> IndexedFile:  # type: ignore[override]  # no slices are taken
        file = self._files[number]
        if not self._is_compressed[number]:
            return file
        path = path_of(file, self._folder)
        try:
            return IndexedFile.of(path)
        except FileNotFoundError as gone:
            what = f"its unpacked content was removed from {path}: make the source again"
            raise FileError(file.path, None, what) from gone


def scan_unpacked(path: str, folder: str, compression_of: Compression, find: FindRecords) -> Arrays:
    """Return the arrays of a file, and whether it is compressed.

    Args:
        path: The file.
        folder: The folder into which a compressed file is unpacked.
        compression_of: Returns how an open file is compressed; None if it is not.
        find: Returns the arrays of an open file, or of the unpacked content; it also receives the path of the file,
            for its errors.

    Raises:
        FileError: The file is damaged or truncated, or what ``find`` raises.
    """
    with open_window(path) as window:
        compression = compression_of(window)
        if compression is None:
            return find(window, path) | {_IS_COMPRESSED: np.zeros(1, np.bool_)}
    with open_window(unpack(IndexedFile.of(path), folder, compression)) as window:
        return find(window, path) | {_IS_COMPRESSED: np.ones(1, np.bool_)}
