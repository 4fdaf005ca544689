"""The index of files: where their records lie, found once, kept in a file, mapped by every process that reads them.

An index has arrays, and each of them is made of one part of each file, in the order of the files; what they mean is
the format's business. It lies in the user's cache, under a name that follows from the format and from path, size and
time of change of each file: so files that have changed have another one. A file that was written again with the same
size and time of change has another ctime: then the index is made again under the same name.

    1. The first process that has none locks the name (`flock`), and looks again: others of this host wait here.
    2. It scans the files, in several processes where there is much of them, and compares each with what it was before.
    3. It writes the index, which gets its name when it is whole; see `mpqueue.files.index_file`.
    4. The others find it there.

A pickle of an index has its name only; a process that does not find it there, since it is on another machine, makes its
own, which must be the same.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files import index_file
from mpqueue.files.index_file import Array, Identity, IndexArrays
from mpqueue.files.kept import cache_errors, cache_folder
from mpqueue.files.opened import IndexedFile
from mpqueue.files.scanning import Scan, scan_all
from mpqueue.system import descriptors, log
from mpqueue.telemetry.bars import bar_class

_BAR_AFTER_S = 2.0
_OF_FILES = "files/"  # names of arrays that a format cannot have
_STARTS = "starts/"
_CTIMES, _INODES = _OF_FILES + "ctimes", _OF_FILES + "inodes"
_OF_THIS_MACHINE = frozenset({_CTIMES, _INODES})


class IndexedFiles(Sequence[IndexedFile]):
    """The files of an index, made when they are asked for: a hundred thousand of them cost no memory."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._names = Texts(arrays[_OF_FILES + "names"], arrays[_OF_FILES + "name_ends"])
        self._sizes, self._versions = arrays[_OF_FILES + "sizes"], arrays[_OF_FILES + "versions"]
        self._ctimes, self._inodes = arrays[_CTIMES], arrays[_INODES]

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, number: int) -> IndexedFile:  # type: ignore[override]  # no slices are taken
        numbers = (self._sizes, self._versions, self._ctimes, self._inodes)
        return IndexedFile(self._names[number], *(int(each[number]) for each in numbers))


class Texts(Sequence[str]):
    """Texts in an array of bytes, one behind the other, and an array of their ends."""

    def __init__(self, text: Array, ends: Array) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> str:  # type: ignore[override]  # no slices are taken
        start = int(self._ends[number - 1]) if number else 0
        return os.fsdecode(self._text[start : int(self._ends[number])].tobytes())


def packed(texts: Sequence[bytes]) -> tuple[Array, Array]:
    """Return the two arrays of `Texts`."""
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    return np.frombuffer(b"".join(texts), np.uint8), ends


class Index:
    """The places of the records of files; made, or found in the cache.

    Args:
        format: The name of the format, with all of its parameters that change what a scan finds.
        version: Of the arrays that the scan makes: another number, another index.
        paths: The files.
        scan: Returns the arrays of one file, one-dimensional and of the same names and dtypes for each file; can be
            pickled. It raises a `FileError` for what cannot be read.
        folder: Where the index is kept; None: `cache_folder`.

    Raises:
        FileError: A file is no regular one, has changed meanwhile, or what the scan says.
        OSError: The system's: a file is not there, or the folder cannot be written.
    """

    def __init__(
        self, format: str, version: int, paths: Sequence[str], scan: Scan, folder: str | os.PathLike[str] | None = None
    ) -> None:
        files = IndexedFile.of_all(paths)
        self._recipe = format, version, [file.path for file in files], scan
        self._folder = cache_folder(folder)
        self._key = files_key(format, version, files)
        self._compared: Identity | None = None
        self._content: int | None = None
        self._arrays: IndexArrays | None = None
        self._open(files)

    def __getstate__(self) -> tuple[Any, ...]:
        return self._recipe, self._folder, self._key, self._compared, self._content

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._recipe, self._folder, self._key, self._compared, self._content = state
        self._arrays = None

    @property
    def path(self) -> str:
        """The file in which it is kept."""
        return os.path.join(self._folder, f"{self._key}.index")

    @property
    def key(self) -> str:
        """The name that tells this index from all others: of other files, or of files that have changed."""
        return self._key

    def fingerprint(self) -> str:
        """Return what elements of these files are kept under: the key, wherever the index lies."""
        return self._key

    def __getitem__(self, name: str) -> Array:
        """Return an array: the parts of all files, one behind the other; read-only."""
        return self._mapped()[name]

    def starts(self, name: str) -> Array:
        """Return where the part of each file begins in an array, and at the end the array's length."""
        return self._mapped()[_STARTS + name]

    @functools.cached_property
    def files(self) -> IndexedFiles:
        """The files, as they were when they were indexed."""
        return IndexedFiles(self._mapped())

    def total_bytes(self) -> int:
        """Return the bytes of all files together."""
        return int(self._mapped()[_OF_FILES + "sizes"].sum())

    def _mapped(self) -> Mapping[str, Array]:
        if self._arrays is None:
            self._arrays = _read(self.path, self._compared)
        if self._arrays is None:
            self._open(self._same_files())
        assert self._arrays is not None
        if self._content is None:
            self._content = self._arrays.content
        elif self._content != self._arrays.content:  # another program has indexed files that replaced these
            self._arrays = None
            raise self._another()
        return self._arrays

    def _same_files(self) -> list[IndexedFile]:
        """Return the files, which must be what they were in the process that made the source."""
        format, version, paths, _ = self._recipe
        files = IndexedFile.of_all(paths)
        if files_key(format, version, files) != self._key:
            raise self._another()
        return files

    def _another(self) -> FileError:
        paths = self._recipe[2]
        return FileError(
            paths[0], None, f"this file, or one of {len(paths)}, is another one here than where the source was made"
        )

    def _open(self, files: Sequence[IndexedFile]) -> None:
        def is_current(arrays: IndexArrays) -> bool:
            return np.array_equal(arrays[_CTIMES], [file.ctime for file in files])

        self._arrays = open_or_make(self.path, functools.partial(self._build, files), is_current)
        self._compared = self._arrays.identity

    def _build(self, files: Sequence[IndexedFile], writer: index_file.IndexWriter) -> None:
        _, _, paths, scan = self._recipe
        total_bytes = sum(file.size for file in files)
        starts: dict[str, list[int]] = {}
        with (
            contextlib.closing(_Bar(len(files), total_bytes)) as bar,
            contextlib.closing(scan_all(scan, paths, total_bytes)) as scans,
        ):
            for file, arrays in zip(files, scans, strict=True):
                if not file.is_remote:  # these are asked for together
                    # Behind its scan: a change before that, or meanwhile, is seen.
                    self._check_same(file, IndexedFile.of(file.path))
                for name, part in arrays.items():
                    starts.setdefault(name, [0]).append(writer.add(name, part))
                bar.step(file.size)
            far = [file for file in files if file.is_remote]
            for file, now in zip(far, IndexedFile.of_all([file.path for file in far]), strict=True):
                self._check_same(file, now)
            for name, ends in starts.items():
                writer.add(_STARTS + name, np.array(ends, np.int64))
            names, name_ends = packed([os.fsencode(file.path) for file in files])
            writer.add(_OF_FILES + "names", names)
            writer.add(_OF_FILES + "name_ends", name_ends)
            writer.add(_OF_FILES + "sizes", np.array([file.size for file in files], np.int64))
            writer.add(_OF_FILES + "versions", np.array([file.version for file in files], np.int64))
            writer.add(_CTIMES, np.array([file.ctime for file in files], np.int64))
            writer.add(_INODES, np.array([file.inode for file in files], np.uint64))

    @staticmethod
    def _check_same(file: IndexedFile, now: IndexedFile) -> None:
        if not now.is_same(file):
            raise FileError(file.path, None, "it has changed while it was indexed")


def _read(path: str, compared: Identity | None = None, *, warns: bool = False) -> IndexArrays | None:
    """Return the arrays of an index file; None if it is absent, of another version, or damaged."""
    try:
        return index_file.read(path, compared, _OF_THIS_MACHINE)
    except index_file.DamagedIndexError as damage:
        if warns:
            log.warn(f"the index is damaged, and is made again: {damage}", "Your files", "The index")
        return None


def open_or_make(
    path: str,
    make: Callable[[index_file.IndexWriter], None],
    is_current: Callable[[IndexArrays], bool] = lambda _: True,
) -> IndexArrays:
    """Return the arrays of an index file, which is made if it is not there: by one process, while the others wait.

    A file that is damaged is made again, with a warning by the process that makes it.

    Args:
        path: Of the file; its name says what is in it.
        make: Adds the arrays.
        is_current: Returns whether the arrays of a file that is there are still right; if not, it is made again.

    Raises:
        OSError: The system's, with the remedy: the folder cannot be written, say.
        Exception: What ``make`` raises; nothing is left then.
    """
    found = _read(path)
    if found is not None and is_current(found):
        return found
    with cache_errors(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with locked(f"{path}.lock"):
        # Once more: whoever held the lock may have made it.
        found = _read(path, warns=True)
        if found is None or not is_current(found):
            with index_file.IndexWriter(path) as writer:
                make(writer)
                writer.finish()
            found = _read(path)
        assert found is not None
        return found


def files_key(format: str, version: int, files: Sequence[IndexedFile]) -> str:
    """Return a key of files of a format; it differs if one of the files has changed."""
    known = [file[:3] for file in files]  # the same on each machine that has copies of these files
    return hashlib.sha256(json.dumps([format, version, known]).encode()).hexdigest()


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a lock among all processes of this host; its file is removed at the end, and is never locked by two."""
    while True:
        # Noted, or children that another thread forks meanwhile would hold the lock, too.
        with cache_errors(path):
            fd = descriptors.own(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Whoever had it before has removed the file that we waited for, and others lock a new one of its name.
            if _is_same(fd, path):
                try:
                    yield
                finally:
                    os.unlink(path)
                return
        finally:
            descriptors.close(fd)


def _is_same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


class _Bar:
    """A bar of tqdm in a terminal, where that is installed, when it takes long."""

    def __init__(self, num_files: int, total_bytes: int) -> None:
        try:
            make = bar_class()
        except ImportError:
            self._bar = None
            return
        self._bar = make(
            desc=f"indexing {num_files:,} files", total=total_bytes, unit="B", unit_scale=True, delay=_BAR_AFTER_S,
            disable=None,
        )  # fmt: skip

    def step(self, num_bytes: int) -> None:
        """One more file is done."""
        if self._bar is not None:
            self._bar.update(num_bytes)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
