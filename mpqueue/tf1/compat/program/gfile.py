"""File system access: ``tf.gfile``. Names can be fsspec URLs (extra ``[files]``)."""

import os
from collections.abc import Container, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any, Final, NamedTuple, Self

from mpqueue.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
)
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.tf1.compat.program.texts import as_bytes, as_text
from mpqueue.tf1.readers.file_systems import located, problems_of
from mpqueue.tf1.readers.files import matching_files

_MODES: Final = ("r", "w", "a", "r+", "w+", "a+")  # modes of a GFile, without "b"


class FileStatistics(NamedTuple):
    """Size, modification time and kind of a file or directory.

    Attributes:
        length: Number of bytes.
        mtime_nsec: Modification time in nanoseconds since 1970; 0 if unknown.
        is_directory: Whether it is a directory.
    """

    length: int
    mtime_nsec: int
    is_directory: bool


def Exists(filename: Any) -> bool:
    """Return whether a file or directory exists."""
    with located(filename) as (files, path):
        return bool(files.exists(path))


def IsDirectory(dirname: Any) -> bool:
    """Return whether a directory exists."""
    with located(dirname) as (files, path):
        return bool(files.isdir(path))


def ListDirectory(dirname: Any) -> list[str]:
    """Return the names of the entries of a directory, without their paths, in arbitrary order.

    Raises:
        NotFoundError: The directory does not exist.
    """
    with located(dirname) as (files, path):
        if not files.isdir(path):
            raise NotFoundError(None, None, f"Could not find directory {as_text(dirname)}")
        return [os.path.basename(each.rstrip("/")) for each in files.ls(path, detail=False)]


def Glob(filename: Any) -> list[str]:
    """Return the sorted names of the files and directories that match one or several patterns."""
    patterns = filename if isinstance(filename, Iterable) and not isinstance(filename, str | bytes) else [filename]
    return [as_text(match) for pattern in patterns for match in matching_files(pattern).tolist()]


def MakeDirs(dirname: Any) -> None:
    """Create a directory and its missing parents; existing directories are accepted."""
    with located(dirname) as (files, path):
        files.makedirs(path, exist_ok=True)


def MkDir(dirname: Any) -> None:
    """Create a directory; an existing directory is accepted.

    Raises:
        NotFoundError: The parent directory does not exist.
    """
    with located(dirname) as (files, path):
        if not files.isdir(path):
            files.mkdir(path, create_parents=False)


def Remove(filename: Any) -> None:
    """Remove a file.

    Raises:
        NotFoundError: The file does not exist.
        FailedPreconditionError: The name is a directory.
    """
    with located(filename) as (files, path):
        files.rm_file(path)


def DeleteRecursively(dirname: Any) -> None:
    """Remove a directory and its contents.

    Raises:
        NotFoundError: The directory does not exist.
    """
    with located(dirname) as (files, path):
        files.rm(path, recursive=True)


def Copy(oldpath: Any, newpath: Any, overwrite: bool = False) -> None:
    """Copy a file.

    Raises:
        NotFoundError: The file does not exist.
        AlreadyExistsError: ``newpath`` exists and ``overwrite`` is False.
    """
    with located(newpath) as (target, new), located(oldpath) as (source, old):
        _check_free(target, new, newpath, overwrite)
        if source == target:
            source.cp_file(old, new)
        else:
            with source.open(old, "rb") as reader, target.open(new, "wb") as writer:
                while block := reader.read(1 << 20):
                    writer.write(block)


def Rename(oldname: Any, newname: Any, overwrite: bool = False) -> None:
    """Rename a file or directory.

    Raises:
        NotFoundError: The file or directory does not exist.
        AlreadyExistsError: ``newname`` exists and ``overwrite`` is False.
        UnimplementedError: The two names belong to different file systems.
    """
    with located(newname) as (target, new), located(oldname) as (files, old):
        _check_free(target, new, newname, overwrite)
        if files != target:
            raise UnimplementedError(None, None, f"Renaming {as_text(oldname)} to {as_text(newname)} not implemented")
        files.mv(old, new)


def _check_free(files: Any, path: str, name: Any, overwrite: bool) -> None:
    if not overwrite and files.exists(path):
        raise AlreadyExistsError(None, None, f"{as_text(name)}; file already exists")


def Stat(filename: Any) -> FileStatistics:
    """Return the size, modification time and kind of a file or directory.

    Raises:
        NotFoundError: The file or directory does not exist.
    """
    with located(filename) as (files, path):
        known = files.info(path)
    when = known.get("mtime")
    seconds = when if isinstance(when, int | float) else 0
    return FileStatistics(int(known.get("size") or 0), int(seconds * 1e9), known["type"] == "directory")


def Walk(top: Any, in_order: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each directory below a directory as its name, the names of its subdirectories, and the names of its files.

    Args:
        top: The directory to start from; nothing is yielded if it does not exist.
        in_order: Yield a directory before its subdirectories; otherwise after them.
    """
    name = as_text(top)
    if not IsDirectory(name):
        return
    entries = ListDirectory(name)
    folders = [each for each in entries if IsDirectory(f"{name.rstrip('/')}/{each}")]
    here = name, folders, [each for each in entries if each not in folders]
    if in_order:
        yield here
    for folder in folders:
        yield from Walk(f"{name.rstrip('/')}/{folder}", in_order)
    if not in_order:
        yield here


class GFile:
    """A file that is opened on first use, and a context manager that closes it.

    Args:
        name: A path, or a URL (extra ``[files]``).
        mode: "r", "w", "a", "r+", "w+" or "a+". With "b" at the end, reading returns ``bytes`` instead of ``str``.

    Attributes:
        name: The path or URL.
        mode: The mode.

    Raises:
        InvalidArgumentError: Another mode.

    Methods raise the `OpError` for an error of the file system, and `PermissionDeniedError` if the mode does not allow
    the operation.
    """

    def __init__(self, name: Any, mode: str = "r") -> None:
        self._handle: IO[bytes] | None = None
        self.name, self.mode = name, mode
        self._is_binary = "b" in mode
        self._plain_mode = mode.replace("b", "")
        if self._plain_mode not in _MODES:
            raise InvalidArgumentError(None, None, f"mode must be one of {', '.join(_MODES)}, got {mode!r}")

    @contextmanager
    def _opened(self, what: str = "use", *, not_in: Container[str] = ()) -> Iterator[IO[bytes]]:
        if self._plain_mode in not_in:
            raise PermissionDeniedError(None, None, f"{self.name!r} is not open for {what}: its mode is {self.mode}")
        if self._handle is None:
            with located(self.name) as (files, path):
                self._handle = files.open(path, f"{self._plain_mode}b")
            # Scripts read a file in one expression, and never close it.
            self._end = WhenCollected(self, self._handle.close)
        with problems_of(self.name):
            yield self._handle

    def _for_reading(self) -> AbstractContextManager[IO[bytes]]:
        return self._opened("reading", not_in=("w", "a"))

    def _converted(self, data: bytes) -> Any:
        return data if self._is_binary else as_text(data)

    def read(self, n: int = -1) -> Any:
        """Return the rest of the file, or the next ``n`` bytes; empty at the end of the file."""
        with self._for_reading() as handle:
            return self._converted(handle.read(n))

    def readline(self) -> Any:
        """Return the next line, with the line break; empty at the end of the file."""
        with self._for_reading() as handle:
            return self._converted(handle.readline())

    def readlines(self) -> list[Any]:
        """Return the remaining lines."""
        return list(self)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.readline, self._converted(b""))

    def write(self, file_content: Any) -> None:
        """Append a string or bytes."""
        with self._opened("writing", not_in=("r",)) as handle:
            handle.write(as_bytes(file_content))

    def seek(self, offset: int, whence: int = 0) -> None:
        """Move to a position in the file."""
        with self._for_reading() as handle:
            handle.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in the file."""
        with self._opened() as handle:
            return handle.tell()

    def seekable(self) -> bool:
        """Return True: `seek` is supported."""
        return True

    def size(self) -> int:
        """Return the number of bytes in the file."""
        return Stat(self.name).length

    def flush(self) -> None:
        """Write buffered data to the file."""
        if self._handle is not None:
            with problems_of(self.name):
                self._handle.flush()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._end.detach()
            with problems_of(self.name):
                handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
