"""`JSONLines`: files with one JSON value per line.

A scan only looks for line ends, at memory speed. A line is parsed when it is read. Line feeds inside JSON strings are
escaped, so each line feed byte ends a line. A compressed file is decompressed first, and lines are read from the
result; see `mpqueue.files.sources.unpacked`.
"""

import json
import os
from typing import Any

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.access.names import Names, expand
from mpqueue.files.access.ranges import FileRange
from mpqueue.files.access.window import ScanWindow
from mpqueue.files.indexing.index_file import Array, Arrays
from mpqueue.files.sources.unpacked import compression_of
from mpqueue.files.sources.unpacked_source import UnpackedSource
from mpqueue.system.user_code.keywords import suggests_keywords

_BLOCK_BYTES = 4 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACES = b" \t\r\n"
_IS_SPACE = np.isin(np.arange(256), np.frombuffer(_SPACES, np.uint8))


@suggests_keywords
class JSONLines(UnpackedSource):
    r"""Values of files with one JSON value per line; blank lines are skipped.

    Compressed files (gzip, zstd, bzip2, xz) are decompressed once, into the index folder, which must have space for all
    of their lines.

    Args:
        paths: A path, an fsspec URL, or a list of them; ``*`` and ``?`` match existing files, and ``{000..099}``
            expands to a hundred names.
        exclude: A pattern of files to exclude, or a list of patterns. A pattern without a slash is compared with the
            file's name.
        on_error: What to do if a file is truncated or damaged when the source is created. ``"raise"`` raises a
            `FileError`. ``"skip"`` skips the file, and logs a warning that names it; see `file_errors`.
        index: The folder for the index, which is created once. If None, ``$XDG_CACHE_HOME/mpqueue``.

    Raises:
        FileNotFoundError: A file does not exist, no file matches, or ``exclude`` excludes all of them.
        FileError: A compressed file is damaged or truncated, or a file is not UTF-8 text. When reading: a line is not
            valid JSON.
        ValueError: ``on_error`` is unknown.
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

    def __init__(
        self,
        paths: Names,
        *,
        exclude: Names | None = None,
        on_error: str = "raise",
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        files = expand(paths, exclude)
        super().__init__("json lines", 4, files, _lines, compression_of, index, on_error=on_error)

    def _ranges(self, index: int, file: int) -> list[FileRange]:
        return [FileRange(file, int(self._index["offsets"][index]), int(self._index["lengths"][index]))]

    def _sample(self, index: int, ranges: list[FileRange], parts: list[bytes]) -> Any:
        try:
            return json.loads(parts[0])
        except (ValueError, RecursionError) as error:
            line = index - int(self._index.starts("offsets")[ranges[0].file])
            raise self._error(
                ranges[0], f"value {line:,} of the file, counted from 0, is not valid JSON: {error}"
            ) from error


def _lines(window: ScanWindow, path: str) -> Arrays:
    """Return the positions of the lines that are not blank.

    Raises:
        FileError: The text is UTF-16 or UTF-32, where characters can contain the byte of a line feed.
    """
    encoding = json.detect_encoding(window.read(0, 4))
    if not encoding.startswith("utf-8"):
        name = encoding.upper()
        raise FileError(
            path, 0, f"its text is {name}, expected UTF-8: convert it with `iconv -f {name} -t UTF-8 OLD > NEW`"
        )
    first = len(_BYTE_ORDER_MARK) * (window.read(0, 3) == _BYTE_ORDER_MARK)
    parts: list[Array] = [np.empty(0, np.int64)]
    begins_blank: list[Array] = [np.empty(0, np.bool_)]
    before = b"\n"  # the byte before the block
    for at in range(first, window.size, _BLOCK_BYTES):
        block = window.read(at, _BLOCK_BYTES)
        data = np.frombuffer(before + block, np.uint8)
        starts_in_block = np.flatnonzero(data[:-1] == ord("\n"))
        parts.append(starts_in_block + at)
        begins_blank.append(_IS_SPACE[data[starts_in_block + 1]])
        before = block[-1:]
    starts = np.concatenate(parts)
    end = window.size - (before == b"\n")  # the last line may have no line feed
    lengths = np.append(starts[1:] - 1, end)[: len(starts)] - starts
    is_line = lengths > 0
    # A line that starts with another byte than a space is not blank; its other bytes are not checked.
    for line in np.flatnonzero(is_line & np.concatenate(begins_blank)).tolist():
        is_line[line] = bool(window.read(int(starts[line]), int(lengths[line])).strip(_SPACES))
    return {"offsets": starts[is_line], "lengths": lengths[is_line]}
