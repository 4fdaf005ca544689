"""`JSONLines`: files with one JSON value per line.

A scan only looks for line ends, at memory speed. A line is parsed when it is read. Line feeds inside JSON strings are
escaped, so each line feed byte ends a line. A compressed file is decompressed first, and lines are read from the
result; see `mpqueue.files.unpacked`.
"""

import json
import os
from typing import Any

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.index_file import Array, Arrays
from mpqueue.files.names import Names
from mpqueue.files.ranges import FileRange
from mpqueue.files.unpacked import compression_of
from mpqueue.files.unpacked_source import UnpackedSource, scan_unpacked
from mpqueue.files.window import ScanWindow
from mpqueue.system.interrupts import not_of_handler

_BLOCK_BYTES = 4 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = {
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"
}  # fmt: skip
_SPACES = b" \t\r\n"
_IS_SPACE = np.isin(np.arange(256), np.frombuffer(_SPACES, np.uint8))


class JSONLines(UnpackedSource):
    r"""Values of files with one JSON value per line; blank lines are skipped.

    Compressed files (gzip, zstd, bzip2, xz) are decompressed once, into the index folder, which must have space for all
    of their lines.

    Args:
        paths: A path, an fsspec URL, or a list of them; ``*`` and ``?`` match existing files, and ``{000..099}``
            expands to a hundred names.
        index: The folder for the index, which is created once. If None, ``$XDG_CACHE_HOME/mpqueue``.

    Raises:
        FileNotFoundError: A file does not exist, or no file matches.
        FileError: A compressed file is damaged or truncated, or a file is not UTF-8 text. When reading: a line is not
            valid JSON.
        ImportError: A file is compressed with zstd, and zstandard is not installed (extra ``files``).

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
        super().__init__("json lines", 4, paths, scan, compression_of, "offsets", index)

    def _ranges(self, number: int, file: int) -> list[FileRange]:
        return [FileRange(file, int(self._index["offsets"][number]), int(self._index["lengths"][number]))]

    def _sample(self, number: int, ranges: list[FileRange], parts: list[bytes]) -> Any:
        try:
            return json.loads(parts[0])
        except not_of_handler(ValueError, RecursionError) as error:
            line = number - int(self._index.starts("offsets")[ranges[0].file])
            raise self._error(
                ranges[0], f"value {line:,} of the file, counted from 0, is not valid JSON: {error}"
            ) from error


def scan(path: str, *, folder: str) -> Arrays:
    """Return the positions of the non-blank lines of a file; for a compressed file, in its decompressed content.

    Args:
        path: The path of the file.
        folder: The folder for the decompressed content.

    Raises:
        FileError: The file is a damaged or truncated compressed file, or its text is UTF-16 or UTF-32.
    """
    return scan_unpacked(path, folder, compression_of, _lines)


def _lines(window: ScanWindow, path: str) -> Arrays:
    _refuse_wide_text(window, path)
    first = len(_BYTE_ORDER_MARK) * (window.read(0, 3) == _BYTE_ORDER_MARK)
    ends_of_blocks: list[Array] = []
    has_values: list[Array] = []  # whether each line has more than white space
    has_value = False  # for the line that continues from the previous block
    for at in range(first, window.size, _BLOCK_BYTES):
        block = window.read(at, _BLOCK_BYTES)
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        starts = np.concatenate([np.zeros(1, np.int64), ends + 1])
        has = np.ones(len(starts), np.bool_)
        if starts[-1] == len(data):
            has[-1] = False
        within = starts[: len(ends)] if starts[-1] == len(data) else starts
        # A line that starts with another byte than a space is not blank; its other bytes are not checked.
        for number in np.flatnonzero(_IS_SPACE[data[within]]).tolist():
            stop = int(ends[number]) if number < len(ends) else len(block)
            has[number] = bool(block[int(starts[number]) : stop].strip(_SPACES))
        has[0] |= has_value
        ends_of_blocks.append(ends + at)
        has_values.append(has[:-1])
        has_value = bool(has[-1])
    # The last line may have no line feed.
    ends = np.concatenate([*ends_of_blocks, np.array([window.size], np.int64)])
    is_line = np.concatenate([*has_values, np.array([has_value])])
    starts = np.concatenate([np.array([first]), ends[:-1] + 1])
    return {"offsets": starts[is_line], "lengths": (ends - starts)[is_line]}


def _refuse_wide_text(window: ScanWindow, path: str) -> None:
    """Raise a `FileError` for a file in UTF-16 or UTF-32, where characters can contain the byte of a line feed."""
    head = window.read(0, 4)
    name = next((name for mark, name in _WIDE_MARKS.items() if head.startswith(mark)), None)
    if name is None and len(head) == 4 and 0 < head.count(0) < 4 and max(head) < 128:
        name = json.detect_encoding(head).upper()  # without a byte order mark: each JSON character contains zero bytes
        name = None if name == "UTF-8" else name
    if name is not None:
        raise FileError(
            path, 0, f"its text is {name}, expected UTF-8: convert it with `iconv -f {name} -t UTF-8 OLD > NEW`"
        )
