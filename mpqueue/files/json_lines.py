"""`JSONLines`: lines of JSON.

A scan looks for the ends of lines only, at the speed of the memory; a line is parsed when it is asked for. Line feeds
inside of JSON's strings are escaped, so each one that is seen ends a line. The lines of a compressed file are read from
what it unpacks to; see `mpqueue.files.unpacked`.
"""

import functools
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.index import Index
from mpqueue.files.index_file import Array, Arrays
from mpqueue.files.kept import cache_folder
from mpqueue.files.names import Names, expand
from mpqueue.files.opened import IndexedFile, OpenFiles
from mpqueue.files.ranges import FileRange
from mpqueue.files.source import FileSource
from mpqueue.files.unpacked import compression_of, path_of, unpack
from mpqueue.files.window import ScanWindow, open_window

_BLOCK_BYTES = 4 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JSONLines(FileSource):
    r"""Values of files that have one JSON value in each line; empty lines are left out.

    Compressed files (gzip, zstd, bzip2, xz) are unpacked once, into the folder of the index, and read from there: it
    needs room for all of their lines.

    Args:
        paths: A path, a URL of fsspec, or a list of them; ``*`` and ``?`` match what is there, and ``{000..099}`` are a
            hundred.
        index: The folder of the index, which is made once; None: ``$XDG_CACHE_HOME/mpqueue``.

    Raises:
        FileNotFoundError: A file is not there, or no file matches.
        FileError: A compressed file is damaged or cut short. A line that is no JSON is one when it is read.
        ImportError: A file is compressed by zstd, and zstandard is not installed (extra ``files``).

    Follows: jsonlines.org.

    Example:
        >>> import mpqueue, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
        >>> lines = mpqueue.files.JSONLines(folder / "*.jsonl", index=folder)
        >>> len(lines), lines[1]
        (2, {'text': 'two'})
    """

    def __init__(self, paths: Names, *, index: str | os.PathLike[str] | None = None) -> None:
        self._folder = cache_folder(index)
        find = functools.partial(scan, folder=self._folder)
        super().__init__(Index("json lines", 2, expand(paths), find, self._folder), "offsets")
        for number in np.flatnonzero(self._index["is_compressed"]).tolist():
            unpack(self._index.files[number], self._folder)  # may have been deleted

    @functools.cached_property
    def _opened(self) -> OpenFiles:
        is_compressed = self._index["is_compressed"]
        return OpenFiles(
            _Unpacked(self._index.files, is_compressed, self._folder) if is_compressed.any() else self._index.files
        )

    def _ranges(self, number: int, file: int) -> list[FileRange]:
        return [FileRange(file, int(self._index["offsets"][number]), int(self._index["lengths"][number]))]

    def _sample(self, number: int, ranges: list[FileRange], parts: list[bytes]) -> Any:
        try:
            return json.loads(parts[0])
        except (ValueError, RecursionError) as error:
            line = number - int(self._index.starts("offsets")[ranges[0].file])
            raise self._error(ranges[0], f"value {line:,} of the file, counted from 0, is no JSON: {error}") from error


class _Unpacked(Sequence[IndexedFile]):
    """Files, in place of compressed ones what they unpack to."""

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
            raise FileError(file.path, None, f"its lines are gone from {path}: make the source anew") from gone


def scan(path: str, *, folder: str) -> Arrays:
    """Return where the lines of a file lie that are not empty; if it is compressed, in what it unpacks to.

    Args:
        path: Of the file.
        folder: Where it is unpacked to.

    Raises:
        FileError: It is compressed, and is damaged or cut short.
    """
    with open_window(path) as window:
        is_compressed = compression_of(window) is not None
        if not is_compressed:
            return _lines(window) | {"is_compressed": np.zeros(1, np.bool_)}
    with open_window(unpack(IndexedFile.of(path), folder)) as window:
        return _lines(window) | {"is_compressed": np.ones(1, np.bool_)}


def _lines(window: ScanWindow) -> Arrays:
    parts: list[Array] = []
    returns: list[Array] = []  # whether a carriage return lies before each line feed
    last = b""
    for at in range(0, window.size, _BLOCK_BYTES):
        block = window.read(at, _BLOCK_BYTES)
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        parts.append(ends + at)
        is_behind = data[ends - 1] == ord("\r")
        if len(ends) and ends[0] == 0:
            is_behind[0] = last == b"\r"
        returns.append(is_behind)
        last = block[-1:]
    # The last line may have no line feed.
    ends = np.concatenate([*parts, np.array([window.size], np.int64)])
    is_return = np.concatenate([*returns, np.array([last == b"\r"])])
    mark = len(_BYTE_ORDER_MARK) * (window.read(0, 3) == _BYTE_ORDER_MARK)
    starts = np.concatenate([np.array([mark]), ends[:-1] + 1])
    lengths = ends - starts
    lengths[(lengths == 1) & is_return] = 0  # a carriage return alone is an empty line, too
    is_line = lengths > 0
    return {"offsets": starts[is_line], "lengths": lengths[is_line]}
