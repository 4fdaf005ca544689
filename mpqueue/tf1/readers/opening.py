"""Opening files by name: local paths, ``os.PathLike`` objects and URLs, with one small protocol.

- A **local** file is read by position (`os.pread`), so that a forked child with the same descriptor does not move the
  file offset. It is never memory-mapped: if a mapped file shrinks, SIGBUS kills the process.
- A path that is **not a regular file** is never opened: a FIFO would wait for a writer, a device may react, and neither
  ends. As in TensorFlow, the first *read* fails, so a reader with a directory as its work unit keeps the unit.
- A **URL** (``scheme://...``) is opened with fsspec (extra ``[files]``) and read sequentially. ``file://`` is local.
"""

import os
import stat
from typing import Any, BinaryIO, Protocol, cast

from mpqueue.errors import FailedPreconditionError, InvalidArgumentError, OpError, UnimplementedError
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.tf1.readers.failures import file_error, shown

# Fits into the second-level cache, and is large enough to make the time of the system call negligible.
BLOCK_BYTES = 256 * 1024
# Maximum size of one read: a record with a wrong, huge length allocates memory only for the bytes that exist.
CHUNK_BYTES = 16 * 1024 * 1024

FileName = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class ByteSource(Protocol):
    """A file that one reader reads sequentially, under the reader's lock.

    A failed `read` consumes no data, so it can be retried.
    """

    size_hint: int
    """Size of the file in bytes, or 0 if unknown."""

    def read(self, num_bytes: int, /) -> bytes:
        """Return at most ``num_bytes`` next bytes, possibly fewer; ``b""`` only at the end of the file."""

    def close(self) -> None:
        """Close the file. Idempotent."""


def file_name(name: Any) -> bytes:
    """Convert a file name to bytes, as in keys and queues.

    Raises:
        TypeError: ``name`` is not a string, bytes or ``os.PathLike``.
    """
    plain = name.item() if hasattr(name, "item") else name
    if isinstance(plain, str | bytes | os.PathLike):
        return os.fsencode(plain)
    raise TypeError(f"A file name must be a string, bytes or an os.PathLike, got {type(name).__name__}: {name!r}.")


def remote_scheme(name: bytes) -> str | None:
    """Return the scheme of a URL that fsspec must open, or None for a local file."""
    scheme, separator, _ = name.partition(b"://")
    is_scheme = bool(separator) and scheme.replace(b"+", b"").replace(b"-", b"").isalnum() and scheme != b"file"
    return scheme.decode("ascii") if is_scheme else None


def local_path(name: bytes) -> bytes:
    """Return the path of a local file, without a leading ``file://``."""
    return name.removeprefix(b"file://")


def open_input(name: bytes) -> ByteSource:
    """Open a file for reading.

    Raises:
        NotFoundError, PermissionDeniedError, ...: The error of the operating system, with the name.
        ImportError: The name is a URL, and fsspec is not installed.
    """
    if remote_scheme(name):
        return RemoteFile(name)
    try:
        mode = os.stat(local_path(name)).st_mode
        return LocalFile(name) if stat.S_ISREG(mode) else NotAFile(name, mode)
    except (OSError, ValueError) as problem:
        raise _name_error(problem, name) from problem


def open_output(name: bytes) -> BinaryIO:
    """Open a file for writing and truncate it. Raises the errors of `open_input`."""
    if remote_scheme(name):
        return cast("BinaryIO", _open_remote(name, "wb"))
    try:
        return open(local_path(name), "wb")
    except (OSError, ValueError) as problem:
        raise _name_error(problem, name) from problem


def _name_error(problem: OSError | ValueError, name: bytes) -> OpError:
    if isinstance(problem, ValueError):
        return InvalidArgumentError(None, None, f"{shown(name)!r} is not a valid file name: {problem}")
    return file_error(problem, name)


def remote_filesystem(name: bytes) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises:
        ImportError: fsspec, or the package for this scheme, is not installed.
        UnimplementedError: fsspec does not support the scheme.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as missing:
        raise ImportError(f'{shown(name)} is a URL, which requires fsspec: pip install "mpqueue[files]"') from missing
    try:
        filesystem, path = url_to_fs(os.fsdecode(name))
    except ValueError as unknown:
        raise UnimplementedError(None, None, f"{shown(name)}: {unknown}") from unknown
    return filesystem, path


def _open_remote(name: bytes, mode: str) -> Any:
    filesystem, path = remote_filesystem(name)
    try:
        return filesystem.open(path, mode)
    except Exception as problem:
        raise file_error(problem, name) from problem


class LocalFile:
    """A regular local file."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        # O_NONBLOCK: if the path was replaced by a FIFO after the stat, opening it must not block.
        self._held = HeldDescriptor(os.open, local_path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._descriptor, self._position = self._held.fd, 0
        self.size_hint = os.fstat(self._descriptor).st_size

    def read(self, num_bytes: int) -> bytes:
        """Return the next bytes; see `ByteSource`."""
        try:
            data = os.pread(self._descriptor, min(num_bytes, CHUNK_BYTES), self._position)
        except OSError as problem:
            raise file_error(problem, self._name) from problem
        self._position += len(data)
        return data

    def close(self) -> None:
        """Close the file, which also happens when this object is garbage-collected."""
        self._held.close()


class RemoteFile:
    """A file that fsspec reads.

    Each read seeks first if possible. Some file systems share one position among all users of a file, and a failed read
    may have moved it.
    """

    def __init__(self, name: bytes) -> None:
        self._name, self._position = name, 0
        self._file = _open_remote(name, "rb")
        self.size_hint = int(getattr(self._file, "size", None) or 0)

    def read(self, num_bytes: int) -> bytes:
        """Return the next bytes; see `ByteSource`."""
        try:
            if self._file.seekable():
                self._file.seek(self._position)
            data = bytes(self._file.read(min(num_bytes, CHUNK_BYTES)))
        except Exception as problem:
            raise file_error(problem, self._name) from problem
        self._position += len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NotAFile:
    """Placeholder for a directory, FIFO, socket or device. Each read fails."""

    size_hint = 0

    def __init__(self, name: bytes, mode: int) -> None:
        kinds = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
        kind = next((words for asks, words in kinds if asks(mode)), "a device")
        self._text = f"{shown(name)} is {kind}, not a file. Readers require regular files."

    def read(self, _num_bytes: int) -> bytes:
        """Raise an error.

        Raises:
            FailedPreconditionError: Always.
        """
        raise FailedPreconditionError(None, None, self._text)

    def close(self) -> None:
        """No-op: the path was not opened."""
