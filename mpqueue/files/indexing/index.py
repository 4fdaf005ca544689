"""The index of files: the positions of their records, found once, stored in a file, and mapped by all readers.

An index consists of arrays. Each array is the concatenation of one part per file, in the order of the files; the format
defines their meaning. The index is stored in the user's cache folder. Its name is derived from the format and from
path, size and modification time of each file, so changed files get another index. A file that was rewritten with the
same size and modification time has another ctime. The index is then created again under the same name.

    1. The first process without an index locks its name (`flock`) and checks again. Other processes of the host wait.
    2. It scans the files, in several processes if they are large, and checks that they have not changed.
    3. It writes the index atomically; see `mpqueue.files.indexing.index_file`.
    4. The other processes find it.

A pickled index contains only its name. A process on another machine, where the index does not exist, creates it again,
and the result must be the same.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.access.opened import IndexedFile
from mpqueue.files.indexing import index_file
from mpqueue.files.indexing.index_file import Array, Arrays, Identity, IndexArrays
from mpqueue.files.indexing.kept import cache_errors, cache_folder, open_kept
from mpqueue.files.indexing.scanning import Scan, scan_all
from mpqueue.system import log
from mpqueue.system.descriptors import descriptors
from mpqueue.system.paths.lock_files import is_at, release, wait_for
from mpqueue.system.paths.own_files import DamagedFile
from mpqueue.telemetry.bars import bar_class

_BAR_AFTER_S = 2.0
_OF_FILES = "files/"  # prefixes of array names that are reserved
_STARTS = "starts/"
_CTIMES, _INODES = _OF_FILES + "ctimes", _OF_FILES + "inodes"
_ATTRIBUTES = _OF_FILES + "attributes"
_GIVEN_CTIMES = _OF_FILES + "given_ctimes"  # also of the skipped files
_OF_THIS_MACHINE = frozenset({_CTIMES, _INODES, _ATTRIBUTES, _GIVEN_CTIMES})
_NUMBERS, _ERROR_TEXTS = _OF_FILES + "numbers", _OF_FILES + "errors"
# An array in the result of a scan: the text of the error that ended it. Alone, the file is skipped.
ERROR = "error"
_NO_ERROR = np.empty(0, np.uint8)
Found = TypeVar("Found")


class IndexedFiles(Sequence[IndexedFile]):
    """The files of an index, created on access, so that a hundred thousand of them need no memory."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._names = Texts(arrays[_OF_FILES + "names"], arrays[_OF_FILES + "name_ends"])
        self._sizes, self._versions = arrays[_OF_FILES + "sizes"], arrays[_OF_FILES + "versions"]
        self._ctimes, self._inodes, self._attributes = arrays[_CTIMES], arrays[_INODES], arrays[_ATTRIBUTES]

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, index: int) -> IndexedFile:  # type: ignore[override]  # slices are not supported
        numbers = (self._sizes, self._versions, self._ctimes, self._inodes, self._attributes)
        return IndexedFile(self._names[index], *(int(each[index]) for each in numbers))


class _IndexedStates(NamedTuple):
    """The state of all files of an index on one machine, see `IndexedFile.is_same`."""

    machine: str
    ctimes: int
    attributes: int

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Self:
        # Not of skipped files: none of their bytes is used, and a repaired file changes the content.
        ctimes, attributes = (zlib.crc32(arrays[name].tobytes()) for name in (_CTIMES, _ATTRIBUTES))
        return cls(os.uname().nodename, ctimes, attributes)

    def is_same(self, other: "_IndexedStates") -> bool:
        return self.machine != other.machine or self.ctimes == other.ctimes or self.attributes != other.attributes


class Texts(Sequence[str]):
    """Strings in an array of concatenated bytes and an array of their ends."""

    def __init__(self, text: Array, ends: Array) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # slices are not supported
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._text[start : int(self._ends[index])].tobytes())


def packed(texts: Sequence[bytes]) -> tuple[Array, Array]:
    """Return the two arrays of `Texts`."""
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    return np.frombuffer(b"".join(texts), np.uint8), ends


class Index:
    """The positions of the records of files, created or read from the cache.

    Args:
        format: The name of the format, with all parameters that affect the result of a scan.
        version: The version of the arrays. Another version results in another index.
        paths: The files.
        scan: A picklable function that returns the arrays of one file: one-dimensional, with the same names and dtypes
            for each file. It raises a `FileError` for an unreadable file.
        folder: The folder of the index; None for `cache_folder`.
        on_error: ``"skip"`` skips files if their scan raises a `FileError`, and logs a warning for each.

    Raises:
        ValueError: ``on_error`` is unknown.
        FileError: A file is not a regular file, changed during the scan, or could not be scanned. With
            ``on_error="skip"``: no file could be scanned; the error of the first file is raised.
        OSError: A file does not exist, or the folder is not writable, for example.
    """

    def __init__(
        self,
        format: str,
        version: int,
        paths: Sequence[str],
        scan: Scan,
        folder: str | os.PathLike[str] | None = None,
        *,
        on_error: str = "raise",
    ) -> None:
        is_skipping = check_on_error(on_error) == "skip"
        if is_skipping:
            format = f"{format}, on_error=skip"
        # Before the scan: the key must describe the files as they were when the scan began.
        files = IndexedFile.of_all(paths)
        self._recipe = format, version, [file.path for file in files], scan, is_skipping
        self._folder = cache_folder(folder)
        self._key = files_key(format, version, files)
        self._compared: Identity | None = None
        self._content: int | None = None
        self._stamp: _IndexedStates | None = None
        self._stamped: IndexArrays | None = None  # compared with the stamp
        self._arrays: IndexArrays | None = None
        self._open(files)
        for error in self.errors:
            warn_of_damage(error)

    def __getstate__(self) -> tuple[Any, ...]:
        return self._recipe, self._folder, self._key, self._compared, self._content, self._stamp

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._recipe, self._folder, self._key, self._compared, self._content, self._stamp = state
        self._arrays = self._stamped = None

    @property
    def path(self) -> str:
        """The file that contains the index."""
        return os.path.join(self._folder, f"{self._key}.index")

    def fingerprint(self) -> str:
        """Return the key that identifies these files in caches, independent of the folder of the index."""
        return self._key

    def __getitem__(self, name: str) -> Array:
        """Return an array: the concatenated parts of all files, read-only."""
        return self._mapped()[name]

    def starts(self, name: str) -> Array:
        """Return the start of each file's part in an array, followed by the array's length."""
        return self._mapped()[_STARTS + name]

    def file_of(self, name: str, position: int) -> int:
        """Return the index of the file that has a position of an array."""
        return int(np.searchsorted(self.starts(name), position, side="right")) - 1

    @functools.cached_property
    def files(self) -> IndexedFiles:
        """The files at the time of indexing, without skipped files."""
        return IndexedFiles(self._mapped())

    @property
    def file_indices(self) -> list[int]:
        """The index of each file of `files` among the given paths."""
        indices: list[int] = self._mapped()[_NUMBERS].tolist()
        return indices

    @property
    def errors(self) -> Sequence[str]:
        """The errors of files with omitted samples."""
        return Texts(self._mapped()[_ERROR_TEXTS], self._mapped()[_ERROR_TEXTS + "/ends"])

    def total_bytes(self) -> int:
        """Return the total size of all files in bytes."""
        return int(self._mapped()[_OF_FILES + "sizes"].sum())

    def _mapped(self) -> Mapping[str, Array]:
        if self._arrays is None:
            with contextlib.suppress(DamagedFile):  # it is created again below
                self._arrays = index_file.read(self.path, self._compared, _OF_THIS_MACHINE)
        if self._arrays is None:
            self._open(self._same_files())
        assert self._arrays is not None
        if self._content is None:
            self._content = self._arrays.content
        if self._arrays is not self._stamped:
            self._compare(self._arrays)
        return self._arrays

    def _compare(self, arrays: IndexArrays) -> None:
        """Raise an error if another program has indexed files that replaced the files of this index."""
        stamp = _IndexedStates.of(arrays)
        if self._content != arrays.content or not stamp.is_same(self._stamp or stamp):
            self._arrays = None
            raise self._changed_error()
        self._stamp, self._stamped = stamp, arrays

    def _same_files(self) -> list[IndexedFile]:
        """Return the files, which must be unchanged since the source was created."""
        format, version, paths, *_ = self._recipe
        files = IndexedFile.of_all(paths)
        if files_key(format, version, files) != self._key:
            raise self._changed_error()
        return files

    def _changed_error(self) -> FileError:
        paths = self._recipe[2]
        return FileError(
            paths[0],
            None,
            f"this file, or another of {len(paths)} files, differs from the file with which the source was created",
        )

    def _open(self, files: Sequence[IndexedFile]) -> None:
        def is_current(arrays: IndexArrays) -> bool:
            return np.array_equal(arrays[_GIVEN_CTIMES], [file.ctime for file in files])

        self._arrays = open_or_make(self.path, functools.partial(self._build, files), is_current)
        self._compared = self._arrays.identity

    def _build(self, files: Sequence[IndexedFile], writer: index_file.IndexWriter) -> None:
        _, _, paths, scan, is_skipping = self._recipe
        scan_file = scan
        if is_skipping:
            scan_file = functools.partial(scan_or_note, scan)
        elif len(paths) > 1:
            scan_file = functools.partial(scan_or_advise, scan)
        total_bytes = sum(file.size for file in files)
        starts: dict[str, list[int]] = {}
        indices: list[int] = []
        errors: list[bytes] = []
        with (
            _bar(len(files), total_bytes) as bar,
            contextlib.closing(scan_all(scan_file, paths, total_bytes)) as scans,
        ):
            for index, (file, arrays) in enumerate(zip(files, scans, strict=True)):
                if not file.is_remote:  # remote files are checked together below
                    # After its scan, so that a change before or during the scan is detected.
                    self._check_same(file, IndexedFile.of(file.path))
                if (error := arrays.pop(ERROR, _NO_ERROR)).size:
                    errors.append(error.tobytes())
                elif is_skipping and not file.size:  # valid in some formats, and the result of many failed copies
                    errors.append(os.fsencode(f"{file.path}: it is empty, so no samples of it are read"))
                if arrays:
                    indices.append(index)
                for name, part in arrays.items():
                    starts.setdefault(name, [0]).append(writer.add(name, part))
                if bar is not None:
                    bar.update(file.size)
            far = [file for file in files if file.is_remote]
            for file, now in zip(far, IndexedFile.of_all([file.path for file in far]), strict=True):
                self._check_same(file, now)
            for name, ends in starts.items():
                writer.add(_STARTS + name, np.array(ends, np.int64))
            if not indices:
                scan(paths[0])  # raises its error
                raise FileError(paths[0], None, "it changed while it was being indexed")
            for name, array in zip(("", "/ends"), packed(errors), strict=True):
                writer.add(_ERROR_TEXTS + name, array)
            writer.add(_NUMBERS, np.array(indices, np.int64))
            writer.add(_GIVEN_CTIMES, np.array([file.ctime for file in files], np.int64))
            files = [files[index] for index in indices]
            names, name_ends = packed([os.fsencode(file.path) for file in files])
            writer.add(_OF_FILES + "names", names)
            writer.add(_OF_FILES + "name_ends", name_ends)
            writer.add(_OF_FILES + "sizes", np.array([file.size for file in files], np.int64))
            writer.add(_OF_FILES + "versions", np.array([file.version for file in files], np.int64))
            writer.add(_CTIMES, np.array([file.ctime for file in files], np.int64))
            writer.add(_INODES, np.array([file.inode for file in files], np.uint64))
            writer.add(_ATTRIBUTES, np.array([file.attributes for file in files], np.uint32))

    @staticmethod
    def _check_same(file: IndexedFile, now: IndexedFile) -> None:
        if not now.is_same(file):
            raise FileError(file.path, None, "it changed while it was being indexed")


def check_on_error(on_error: str) -> str:
    """Return the argument ``on_error`` of a source.

    Raises:
        ValueError: It is unknown.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
    return on_error


def scan_or_note(scan: Scan, path: str) -> Arrays:
    """Return the arrays of a file, or the error of the scan as `ERROR`."""
    try:
        return scan(path)
    except FileError as error:
        return {ERROR: error_array(f"{error}; this file is left out")}


def scan_or_advise(scan: Scan, path: str) -> Arrays:
    """Return the arrays of one of several files, or add a remedy to the error of the scan."""
    try:
        return scan(path)
    except FileError as error:
        if "on_error" in error.what:
            raise
        remedy = "pass on_error='skip' to leave out such files, or exclude= to leave out this one"
        raise FileError(error.path, error.offset, f"{error.what}; {remedy}") from error


def error_array(text: str) -> Array:
    """Return a string as an array."""
    return np.frombuffer(os.fsencode(text), np.uint8)


def warn_of_damage(text: str) -> None:
    """Log a warning about a file with omitted samples."""
    log.warn(text, "Files", "Leave out files")


def open_or_make(
    path: str,
    make: Callable[[index_file.IndexWriter], None],
    is_current: Callable[[IndexArrays], bool] = lambda _: True,
) -> IndexArrays:
    """Return the arrays of an index file. If it is missing, one process creates it, and the others wait.

    A damaged file is created again, with a warning in the process that creates it.

    Args:
        path: The path of the file. Its name identifies the content.
        make: A function that adds the arrays to the writer.
        is_current: A function that returns whether the arrays of an existing file are valid. If not, it is created
            again.

    Raises:
        PermissionError: Another user may have written the file.
        OSError: The folder is not writable, for example; the message contains a remedy.
        Exception: ``make`` raised. No file is left.
    """
    damages: list[Exception] = []

    def find() -> IndexArrays | None:
        damages.clear()
        try:
            arrays = index_file.read(path, None, _OF_THIS_MACHINE)
        except DamagedFile as damage:
            damages.append(damage)
            return None
        return arrays if arrays is not None and is_current(arrays) else None

    def write() -> None:
        for damage in damages:
            log.warn(
                f"the index is damaged and is created again: {damage}",
                "Files",
                "The index",
            )
        with index_file.IndexWriter(path) as writer:
            make(writer)
            writer.finish()

    return found_or_made(path, find, write)


def found_or_made(path: str, find: Callable[[], Found | None], make: Callable[[], None]) -> Found:
    """Return the content of a cache file. If it is missing, one process of a host makes it, and the others wait.

    Args:
        path: The path of the file.
        find: A function that returns the content; None if it is missing.
        make: A function that writes the file.

    Raises:
        OSError: The file was removed while it was created, for example.
    """
    found = find()
    if found is not None:
        return found
    with cache_errors(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with locked(f"{path}.lock"):
        # Check again: the previous holder of the lock may have created the file.
        found = find()
        if found is None:
            make()
            found = find()
        if found is None:
            with cache_errors(path):
                raise OSError(errno.EIO, "This file was removed or damaged as soon as it was written", path)
        return found


def files_key(format: str, version: int, files: Sequence[IndexedFile]) -> str:
    """Return a key of files of a format, which changes if one of the files changes."""
    attributes = [
        file[:3] for file in files
    ]  # path, size and version: equal on each machine that has copies of these files
    return hashlib.sha256(json.dumps([format, version, attributes]).encode()).hexdigest()


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a lock among all processes of this host; its file is removed at the end, and never locked by two of them."""
    while True:
        # Registered, so that children that another thread forks do not inherit the descriptor and keep the lock. The
        # file is private: another user who may open it could lock it forever.
        with cache_errors(path):
            fd = descriptors.own(open_kept(path, os.O_RDWR | os.O_CREAT).dup())
        try:
            with cache_errors(path):
                wait_for(fd, path)
            # The previous holder may have removed this file while this process waited, and others may have created a
            # new one.
            if is_at(fd, path):
                try:
                    yield
                finally:
                    # The user may have deleted the folder, and another process may have created the file again.
                    if is_at(fd, path):
                        os.unlink(path)
                return
        finally:
            release(fd)


def _bar(num_files: int, total_bytes: int) -> Any:
    """Return a tqdm progress bar in a terminal, shown if indexing takes long; a context of None without tqdm."""
    try:
        make = functools.partial(bar_class(), unit="B", unit_scale=True, disable=None)
    except ImportError:
        return contextlib.nullcontext()
    return make(desc=f"indexing {num_files:,} files", total=total_bytes, delay=_BAR_AFTER_S)
