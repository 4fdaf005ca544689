"""`ArrayRecord`: records of Google's ArrayRecord files, read with the library `array_record`.

The library starts a thread pool in the process that opens its first file. Therefore no file is opened if only paths
and numbers are needed, and child processes do not use the readers of their parent: they open the files themselves.

The library opens only local files. Remote files are downloaded completely, once, into a cache file. Its name depends on
URL, size and version of the remote file, so that new content gets a new file.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.access.names import Names, expand
from mpqueue.files.access.opened import IndexedFile, OpenFiles, changed_error
from mpqueue.files.indexing.index import Index
from mpqueue.files.indexing.index_file import Arrays
from mpqueue.files.indexing.kept import cache_errors, cache_folder, open_kept
from mpqueue.files.sources.groups import GroupedFiles
from mpqueue.files.sources.unpacked import has_content, has_size, made_once, path_of
from mpqueue.system.process_cache import ProcessCache
from mpqueue.system.signals.interrupts import not_of_handler
from mpqueue.system.user_code.extras import import_extra
from mpqueue.system.user_code.keywords import suggests_keywords

_VERSION = 1
_MAX_OPEN = 64
# The number of concurrent requests of a download, and the bytes of each. Their results are in memory until they are
# written.
_REQUESTS, _REQUEST_BYTES = 8, 8 * 1024 * 1024
# No read-ahead: the next requested record may be anywhere.
_OPTIONS = "readahead_buffer_size:0"

# Readers of a parent process, kept in memory, because destroying one waits for threads that a child does not have.
_of_parents: list[Any] = []


def _module() -> Any:
    return import_extra(
        "array_record.python.array_record_module",
        'mpqueue.files.ArrayRecord needs array_record: pip install "mpqueue[files]" or, where there is no wheel '
        "of it for this Python and system, another version of Python",
    )


def _open(file: IndexedFile, folder: str, is_intact: Callable[[int, int, int], bool]) -> Any:
    """Open a file; a remote file is first downloaded into a folder, once, by one process of a host.

    Args:
        file: The file.
        folder: The folder.
        is_intact: How downloaded content is verified; see `made_once`.

    Raises:
        FileError: The file has changed, or is not an ArrayRecord file.
        OSError: The file cannot be read, even after several attempts, or cannot be written.
    """
    if not file.is_remote:
        return _reader_of(file.path, file.path)
    path = made_once(path_of(file, folder, "fetched"), lambda: _blocks(file), file.path, None, is_intact)
    # The library opens the file with the checked owner, and not its name.
    with cache_errors(path):
        held = open_kept(path, os.O_RDONLY)
    with held:
        return _reader_of(f"/proc/self/fd/{held.fd}", file.path)


def _reader_of(path: str, name: str) -> Any:
    """Open a local file; errors contain ``name``."""
    reader = _module().ArrayRecordReader(path, _OPTIONS)
    if not reader.ok():
        raise FileError(name, None, "it is not an ArrayRecord file, or is truncated")
    return reader


def _blocks(file: IndexedFile) -> Iterator[bytes]:
    requests = [(0, start, min(_REQUEST_BYTES, file.size - start)) for start in range(0, file.size, _REQUEST_BYTES)]
    with contextlib.closing(OpenFiles([file])) as opened:
        for at in range(0, len(requests), _REQUESTS):
            yield from opened.read_all(requests[at : at + _REQUESTS])


def scan(path: str, *, folder: str) -> Arrays:
    """Return the number of records in a file, as ``rows``.

    Args:
        path: The path of the file.
        folder: The folder for the download of a remote file.

    Raises:
        FileError: The file is not an ArrayRecord file, or is truncated.
        OSError: The file cannot be read or downloaded.
    """
    _module()  # fail before downloading many gigabytes
    reader = _open(IndexedFile.of(path), folder, has_content)
    try:
        return {"rows": np.array([reader.num_records()], np.int64)}
    finally:
        reader.close()


class _Readers(ProcessCache):
    """The open files of each process. Their size in the cache counts files."""

    def _of_this_process(self) -> Any:
        if self._kept is not None and self._kept.pid != os.getpid():
            _of_parents.append(self._kept)
        return super()._of_this_process()


@suggests_keywords
class ArrayRecord(GroupedFiles):
    """Records of ArrayRecord files, by index; each record is `bytes`.

    A source with ``len``, ``[i]`` and ``__getitems__``, which reads the records of a file together. Shuffling is fast
    for files that were written with ``group_size:1``. Otherwise a whole group is decompressed for each record.

    Reads are thread-safe, and a copy in another process opens the files itself.

    Remote files are downloaded completely, once, into the index folder, which must have enough space.

    Args:
        paths: The files: a path, an fsspec URL, a pattern, braces, or a list of these.
        exclude: A pattern of files to exclude, or a list of patterns. A pattern without a slash is compared with the
            file's name.
        on_error: What to do if a file is truncated or damaged when the source is created. ``"raise"`` raises a
            `FileError`. ``"skip"`` skips the file, and logs a warning that names it; see `file_errors`.
        index: The folder for the index of the files. If None, the user's cache folder.

    Raises:
        FileNotFoundError: No file matches, or ``exclude`` excludes all of them.
        FileError: A file is not an ArrayRecord file, or is truncated. When reading: a file has changed, or is damaged.
        ValueError: ``on_error`` is unknown.
        ImportError: array_record is not installed (extra ``files``).

    Follows: `ArrayRecordDataSource` of `array_record` and Grain.
    """

    _group_noun = "file"

    def __init__(
        self,
        paths: Names,
        *,
        exclude: Names | None = None,
        on_error: str = "raise",
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        self._folder = cache_folder(index)
        find = functools.partial(scan, folder=self._folder)
        files = expand(paths, exclude)
        super().__init__(Index("array_record", _VERSION, files, find, self._folder, on_error=on_error), 0)
        self._has_remote = False  # all are read from local files
        self._readers = _Readers(_MAX_OPEN)

    def _rows(self, group: int, rows: Sequence[int]) -> list[Any]:
        file = self._index.files[group]
        try:
            try:
                records: list[Any] = self._readers.get(group, self._reader).read(rows)
            except not_of_handler(RuntimeError, FileError):
                if not file.is_remote:
                    raise
                # The downloaded content may be damaged. If so, it is downloaded again.
                self._readers = _Readers(_MAX_OPEN)
                records = _open(file, self._folder, has_content).read(rows)
        except not_of_handler(RuntimeError) as error:
            self._check(file)  # raises a clearer error if the file has changed
            raise FileError(file.path, None, f"records {rows[0]:,} to {rows[-1]:,} cannot be read: {error}") from error
        self._check(file)
        return records

    def _block(self, group: int, start: int, stop: int) -> Sequence[Any]:
        return self._rows(group, range(start, stop))

    def _offset_of(self, group: int) -> int | None:  # a group is a whole file
        return None

    @staticmethod
    def _check(file: IndexedFile) -> None:
        if not file.is_remote and not (now := IndexedFile.of(file.path)).is_same(file):
            raise changed_error(file, now)

    def _reader(self, group: int) -> tuple[Any, int]:
        file = self._index.files[group]
        self._check(file)
        return _open(file, self._folder, has_size), 1
