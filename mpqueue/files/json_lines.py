"""`JSONLines`: lines of JSON.

A scan looks for the ends of lines only, at the speed of the memory; a line is parsed when it is asked for. Line feeds
inside of JSON's strings are escaped, so each one that is seen ends a line.
"""

import json
import os
from typing import Any

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.index import Index
from mpqueue.files.index_file import Array, Arrays
from mpqueue.files.names import Names, expand
from mpqueue.files.opened import FileRange
from mpqueue.files.source import FileSource

_BLOCK_BYTES = 4 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


class JSONLines(FileSource):
    r"""Values of files that have one JSON value in each line; empty lines are left out.

    Args:
        paths: A path, or a list of them; ``*`` and ``?`` match what is there, and ``{000..099}`` are a hundred.
        index: The folder of the index, which is made once; None: ``$XDG_CACHE_HOME/mpqueue``.

    Raises:
        FileNotFoundError: A file is not there, or no file matches.
        FileError: A file is compressed. A line that is no JSON is one when it is read.

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
        folder = None if index is None else os.fspath(index)
        super().__init__(Index("json lines", 1, expand(paths), scan, folder), "offsets")

    def _ranges(self, number: int, file: int) -> list[FileRange]:
        return [FileRange(file, int(self._index["offsets"][number]), int(self._index["lengths"][number]))]

    def _sample(self, number: int, ranges: list[FileRange], parts: list[bytes]) -> Any:
        try:
            return json.loads(parts[0])
        except (ValueError, RecursionError) as error:
            line = number - int(self._index.starts("offsets")[ranges[0].file])
            raise self._error(ranges[0], f"value {line:,} of the file, counted from 0, is no JSON: {error}") from error


def scan(path: str) -> Arrays:
    """Return where the lines of a file lie that are not empty.

    Raises:
        FileError: It is compressed.
    """
    parts: list[Array] = []
    at = 0
    with open(path, "rb", buffering=0) as file:
        first = file.read(6)
        for mark, compression in _COMPRESSED.items():
            if first.startswith(mark):
                raise FileError(path, 0, f"it is compressed ({compression}): unpack it")
        file.seek(0)
        while block := file.read(_BLOCK_BYTES):
            parts.append(np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + at)
            at += len(block)
        ends = np.concatenate([*parts, np.array([at], np.int64)])  # the last line may have no line feed
        starts = np.concatenate([np.array([len(_BYTE_ORDER_MARK) * first.startswith(_BYTE_ORDER_MARK)]), ends[:-1] + 1])
        lengths = ends - starts
        is_short = np.flatnonzero(lengths == 1)  # a carriage return alone is an empty line, too
        lengths[[place for place in is_short.tolist() if os.pread(file.fileno(), 1, int(starts[place])) == b"\r"]] = 0
    is_line = lengths > 0
    return {"offsets": starts[is_line], "lengths": lengths[is_line]}
