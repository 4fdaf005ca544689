"""Open files, read by position: a limited number per process, opened on first use.

Remote files are not opened; their ranges are requested concurrently, see `mpqueue.files.access.ranges`.

The ranges are from an index, which also stores size and modification time of each file. Each read compares these. A
file that has changed since it was indexed raises an error with its name, and never returns unrelated bytes. The
comparison is made *after* the read, so a change before or during the read is detected.

- The user's files are never mapped: if a mapped file shrinks, the process is killed with SIGBUS, whereas `os.pread`
  returns fewer bytes.
- `os.pread` does not use the file position, so threads and forked processes do not affect each other.
- A child process opens the files itself and does not close its parent's files. It may already have closed the parent's
  descriptors, and their numbers may belong to other files.
- An open file belongs to its readers. If another thread exceeds the limit, the file with the oldest read is removed
  from the table, and is closed after its last read.
"""

import os
import stat
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Self

from mpqueue.errors import FileError
from mpqueue.files.access import ranges
from mpqueue.files.access.positioned import read_at
from mpqueue.files.access.ranges import Piece, RangedFile
from mpqueue.files.access.urls import is_url
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.system.process_cache import ProcessCache

# The maximum gap between requests that are joined into one read.
_MAX_GAP_BYTES = 4 * 1024
# Larger records are read separately: a system call costs less than copying the record out of a larger read.
_MAX_JOINED_BYTES = 16 * 1024


class IndexedFile(NamedTuple):
    """A file at the time of indexing.

    Attributes:
        path: Its absolute path, or its URL.
        size: Its size in bytes.
        version: Its modification time in nanoseconds; for remote files see `mpqueue.files.access.ranges`.
        ctime: The time of the last change of the file or its inode, in nanoseconds; 0 for remote files. Programs cannot
            set it, so it reveals changes that preserve size and modification time.
        inode: Its inode number; 0 for remote files.
        attributes: A checksum of mode, owner and number of hard links; 0 for remote files. If these change, the ctime
            changes, too, but not the content.
    """

    path: str
    size: int
    version: int
    ctime: int = 0
    inode: int = 0
    attributes: int = 0

    def is_same(self, other: "IndexedFile") -> bool:
        """Return whether a file is the same and unchanged.

        Some network file systems change inodes, so that alone does not count as a change. Another ctime does: the file
        was replaced, or rewritten in place and given its old modification time. The exception is a new owner, mode or
        hard link, which explains another ctime of the same inode.
        """
        if (self.path, self.size, self.version) != (other.path, other.size, other.version):
            return False
        return self.ctime == other.ctime or (self.inode == other.inode and self.attributes != other.attributes)

    def at(self, status: os.stat_result) -> Self:
        """Return this file with another status."""
        attributes = zlib.crc32(b"%d %d %d %d" % (status.st_mode, status.st_uid, status.st_gid, status.st_nlink))
        return self._replace(
            size=status.st_size,
            version=status.st_mtime_ns,
            ctime=status.st_ctime_ns,
            inode=status.st_ino,
            attributes=attributes,
        )

    def open(self) -> HeldDescriptor:
        """Open the file for reading."""
        # O_NONBLOCK: if the path has become a FIFO, opening it must not block; `_OpenFile.check` will raise an error.
        return HeldDescriptor(os.open, self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def is_remote(self) -> bool:
        """True if the file is read over a network."""
        return is_url(self.path)

    @classmethod
    def of(cls, path: str) -> "IndexedFile":
        """Return the current state of a file.

        Raises:
            FileError: The file is not a regular file. Opening a FIFO may block indefinitely, and a device has no end.
            OSError: The file does not exist, for example.
        """
        if is_url(path):
            return cls(path, *ranges.stat(path))
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            remedy = f"; name the files in it, such as {path.rstrip('/')}/*" if stat.S_ISDIR(status.st_mode) else ""
            raise FileError(path, None, f"it is not a regular file{remedy}")
        return cls(os.path.realpath(path), 0, 0).at(status)

    @classmethod
    def of_all(cls, paths: Sequence[str]) -> "list[IndexedFile]":
        """Return the current state of several files, requesting remote ones concurrently. Raises as `of`."""
        if not any(map(is_url, paths)):
            return [cls.of(path) for path in paths]
        return ranges.at_once([partial(cls.of, path) for path in paths])


def changed_error(file: IndexedFile, now: IndexedFile) -> FileError:
    """Return the error for a file that has changed since it was indexed."""
    if (now.size, now.version) != (file.size, file.version):
        kind = f"it had {file.size:,} bytes, and now has {now.size:,} with another modification time"
    else:
        kind = "it was replaced or rewritten with its old size and modification time, because its ctime differs"
    return FileError(file.path, None, f"it has changed since it was indexed: {kind}; create the source again")


def checked(file: IndexedFile, fd: int) -> IndexedFile:
    """Return the current state of an open file, which must be unchanged since it was indexed.

    Raises:
        FileError: The file has changed.
    """
    status = os.fstat(fd)
    if status.st_ctime_ns == file.ctime and status.st_size == file.size and status.st_mtime_ns == file.version:
        return file
    now = file.at(status)
    if not now.is_same(file):
        raise changed_error(file, now)
    return now


class _OpenFile:
    """An open file, which is closed when no reader uses it any longer."""

    def __init__(self, file: IndexedFile) -> None:
        self.file, self._held = file, file.open()
        self.fd = self._held.fd

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file.

        Raises:
            FileError: The bytes do not exist, or the file has changed.
        """
        data = self._read(offset, length)
        self.check()
        return data

    def read_sorted(self, pieces: Sequence[Piece], order: Sequence[int], found: list[bytes]) -> None:
        """Read pieces of this file into a list; raises as `read`.

        Args:
            pieces: Pieces of any files.
            order: The indices of the pieces of this file, sorted by position.
            found: A list with an entry for each piece, to which the bytes are written.
        """
        # This loop is part of the cost of every sample, so it avoids function calls, which take 0.1 us each.
        pread, fd, size, last, at = os.pread, self.fd, self.file.size, len(order) - 1, 0
        while at <= last:
            index = order[at]
            _, start, length = pieces[index]
            if (
                at < last
                and length <= _MAX_JOINED_BYTES
                and pieces[order[at + 1]][1] - start - length <= _MAX_GAP_BYTES
            ):
                stop, end = ranges.joined(pieces, order, at, _MAX_GAP_BYTES, _MAX_JOINED_BYTES)
                ranges.share_out(self._read(start, end - start), start, pieces, order[at:stop], found)
                at = stop
                continue
            at += 1
            if 0 <= start <= start + length <= size:
                found[index] = data = pread(fd, length, start)
                if len(data) == length:
                    continue
            # Outside of the file, or a short read, because the file has shrunk or the piece exceeds 2 GB.
            found[index] = self._read(start, length)
        # Once after all reads: no bytes have been returned yet, and a check takes as long as reading a small record.
        self.check()

    def _read(self, offset: int, length: int) -> bytes:
        """Return bytes that must not be returned to the caller before `check`."""
        file = self.file
        if not 0 <= offset <= offset + length <= file.size:
            raise FileError(
                file.path, offset, f"cannot read {length:,} bytes: the file had {file.size:,} bytes when it was indexed"
            )
        return read_at(self.fd, offset, length)  # fewer bytes if the file has shrunk; `check` raises then

    def check(self) -> None:
        """Compare the file with its index.

        Raises:
            FileError: The file has changed.
        """
        # The new state: a new owner, mode or link must not explain a second change. See `IndexedFile.is_same`.
        self.file = checked(self.file, self.fd)


class OpenFiles:
    """Files by index; any thread may read them. In an unpickled copy or a forked process, no file is open.

    Args:
        files: The files at the time of indexing.
        limit: The maximum number of open files per process.
    """

    def __init__(self, files: Sequence[IndexedFile], limit: int = 64) -> None:
        self._files, self._opened = files, ProcessCache(limit)

    def read(self, file: int, offset: int, length: int) -> bytes:
        """Return bytes of a file.

        Raises:
            FileError: The file has changed since it was indexed, or the bytes do not exist.
            OSError: The file was deleted, for example.
        """
        return self._open(file).read(offset, length)

    def read_all(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Return the bytes of pieces, in the given order; raises as `read`.

        Pieces are read in the order of their positions, small adjacent ones in one read, and remote ones concurrently.
        """
        if len(pieces) == 1:
            return [self.read(*pieces[0])]
        parts: list[bytes] = [b""] * len(pieces)
        order = sorted(range(len(pieces)), key=pieces.__getitem__)
        remote_reads: list[Callable[[], None]] = []
        at = 0
        while at < len(order):
            file = pieces[order[at]][0]
            stop = at + 1
            while stop < len(order) and pieces[order[stop]][0] == file:
                stop += 1
            opened = self._open(file)
            if isinstance(opened, RangedFile):
                remote_reads += opened.reads(pieces, order[at:stop], parts)
            else:
                opened.read_sorted(pieces, order[at:stop], parts)
            at = stop
        if remote_reads:
            ranges.at_once(remote_reads)
        return parts

    def file(self, index: int) -> IndexedFile | None:
        """Return a local file that this process has open; None if it is not open."""
        (opened,) = self._opened.get_kept([index])
        return opened.file.at(os.fstat(opened.fd)) if isinstance(opened, _OpenFile) else None

    def close(self) -> None:
        """Release all files, which are closed after their last reads; the next read opens its file again."""
        self._opened = ProcessCache(self._opened.max_size)

    def _open(self, index: int) -> _OpenFile | RangedFile:
        # A file that the cache drops is closed after its last read, because its readers keep a reference.
        file: _OpenFile | RangedFile = self._opened.get(index, self._newly_opened)
        return file

    def _newly_opened(self, index: int) -> tuple[_OpenFile | RangedFile, int]:
        """Return a file, and its size in the cache, which counts files."""
        while True:
            indexed = self._files[index]
            if indexed.is_remote:
                return RangedFile(indexed.path, indexed.size, indexed.version), 1
            file = _OpenFile(indexed)
            try:
                file.check()
            except FileError:
                if self._files[index] == indexed:
                    raise
                # Decompressed content, which another process has replaced since its state was read.
                continue
            return file, 1


def read_whole(path: str) -> bytes:
    """Return the bytes of a whole file.

    Raises:
        FileError: The file is not a regular file, or shrinks while it is read.
        OSError: The file cannot be read.
    """
    if is_url(path):
        return ranges.read_whole(path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileError(path, None, "it is not a regular file")
        data = read_at(fd, 0, status.st_size)
    finally:
        os.close(fd)
    if len(data) < status.st_size:
        raise FileError(path, len(data), f"it had {status.st_size:,} bytes, but shrank while it was being read")
    return data
