"""Files and folders by name: ``tf.gfile``. Names may be fsspec URLs (extra ``[fsspec]``)."""

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
from mpqueue.tf1.compat.program.texts import as_bytes, as_text
from mpqueue.tf1.readers.file_systems import located, problems_of
from mpqueue.tf1.readers.files import matching_files

_MODES: Final = ("r", "w", "a", "r+", "w+", "a+")  # of a GFile, but for the "b"


class FileStatistics(NamedTuple):
    """Size, time and kind of a file or folder.

    Attributes:
        length: Bytes.
        mtime_nsec: Time of the last change, nanoseconds since 1970; 0 where it is not known.
        is_directory: Whether it is a folder.
    """

    length: int
    mtime_nsec: int
    is_directory: bool


def Exists(filename: Any) -> bool:
    """Return whether there is a file or folder of this name."""
    with located(filename) as (files, path):
        return bool(files.exists(path))


def IsDirectory(dirname: Any) -> bool:
    """Return whether there is a folder of this name."""
    with located(dirname) as (files, path):
        return bool(files.isdir(path))


def ListDirectory(dirname: Any) -> list[str]:
    """Return the names of what is in a folder, without its own name, in no order.

    Raises:
        NotFoundError: There is no such folder.
    """
    with located(dirname) as (files, path):
        if not files.isdir(path):
            raise NotFoundError(None, None, f"Could not find directory {as_text(dirname)}")
        return [os.path.basename(each.rstrip("/")) for each in files.ls(path, detail=False)]


def Glob(filename: Any) -> list[str]:
    """Return the names of the files and folders that match a pattern, or several, sorted."""
    patterns = filename if isinstance(filename, Iterable) and not isinstance(filename, str | bytes) else [filename]
    return [as_text(match) for pattern in patterns for match in matching_files(pattern).tolist()]


def MakeDirs(dirname: Any) -> None:
    """Make a folder and those it lies in, as far as they are not there."""
    with located(dirname) as (files, path):
        files.makedirs(path, exist_ok=True)


def MkDir(dirname: Any) -> None:
    """Make a folder, if it is not there.

    Raises:
        NotFoundError: The folder that it is to lie in does not exist.
    """
    with located(dirname) as (files, path):
        if not files.isdir(path):
            files.mkdir(path, create_parents=False)


def Remove(filename: Any) -> None:
    """Remove a file.

    Raises:
        NotFoundError: There is none.
        FailedPreconditionError: It is a folder.
    """
    with located(filename) as (files, path):
        files.rm_file(path)


def DeleteRecursively(dirname: Any) -> None:
    """Remove a folder with all that is in it.

    Raises:
        NotFoundError: There is none.
    """
    with located(dirname) as (files, path):
        files.rm(path, recursive=True)


def Copy(oldpath: Any, newpath: Any, overwrite: bool = False) -> None:
    """Copy a file.

    Raises:
        NotFoundError: There is none.
        AlreadyExistsError: ``newpath`` exists and is not to be overwritten.
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
    """Give a file or folder another name.

    Raises:
        NotFoundError: There is none.
        AlreadyExistsError: ``newname`` exists and is not to be overwritten.
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
    """Return size, time and kind of a file or folder.

    Raises:
        NotFoundError: There is none.
    """
    with located(filename) as (files, path):
        known = files.info(path)
    when = known.get("mtime")
    seconds = when if isinstance(when, int | float) else 0
    return FileStatistics(int(known.get("size") or 0), int(seconds * 1e9), known["type"] == "directory")


def Walk(top: Any, in_order: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield the folders below one, each as its name, the names of the folders in it, and those of the files.

    Args:
        top: The folder; of one that does not exist nothing is given.
        in_order: A folder before those in it, else after them.
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
    """A file, opened at its first use; a context manager, closed at the end.

    Args:
        name: A path, or a URL (extra ``[fsspec]``).
        mode: "r", "w", "a", "r+", "w+" or "a+"; with "b" at the end, what is read is bytes and not text.

    Attributes:
        name: As given.
        mode: As given.

    Raises:
        InvalidArgumentError: Another mode.

    Methods raise the `OpError` of what the system says, and `PermissionDeniedError` where the mode does not allow it.
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
        with problems_of(self.name):
            yield self._handle

    def _for_reading(self) -> AbstractContextManager[IO[bytes]]:
        return self._opened("reading", not_in=("w", "a"))

    def _converted(self, data: bytes) -> Any:
        return data if self._is_binary else as_text(data)

    def read(self, n: int = -1) -> Any:
        """Return the rest of the file, or ``n`` bytes of it; empty at its end."""
        with self._for_reading() as handle:
            return self._converted(handle.read(n))

    def readline(self) -> Any:
        """Return the next line, with the line break; empty at the end of the file."""
        with self._for_reading() as handle:
            return self._converted(handle.readline())

    def readlines(self) -> list[Any]:
        """Return the lines that are left."""
        return list(self)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.readline, self._converted(b""))

    def write(self, file_content: Any) -> None:
        """Append text or bytes."""
        with self._opened("writing", not_in=("r",)) as handle:
            handle.write(as_bytes(file_content))

    def seek(self, offset: int, whence: int = 0) -> None:
        """Go to a place in the file."""
        with self._for_reading() as handle:
            handle.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        with self._opened() as handle:
            return handle.tell()

    def seekable(self) -> bool:
        """Return True: `seek` works."""
        return True

    def size(self) -> int:
        """Return the number of bytes in the file."""
        return Stat(self.name).length

    def flush(self) -> None:
        """Put into the file what was written."""
        if self._handle is not None:
            with problems_of(self.name):
                self._handle.flush()

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with problems_of(self.name):
                handle.close()

    def __del__(self) -> None:
        if self._handle is not None:
            self._handle.close()  # scripts read a file in one line, and never close it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
