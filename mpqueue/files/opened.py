"""Open files, read by position: a bounded number of them in each process, opened when they are first read.

Remote ones are not opened, but asked for ranges, many at once: see `mpqueue.files.ranges`.

What is asked for is known from an index, which knows the size and the time of change of each file, too. So each read
compares: a file that has changed since it was indexed is an error that names it, and never gives bytes of something
else. The comparison comes *after* the read: a change before it, or during it, is seen.

- Files of others are never mapped: one that shrinks under a map kills the process with SIGBUS; `os.pread` gives less.
- `os.pread` has no place of its own, so threads, and processes that are forks of each other, do not disturb each other.
- A child process opens its files itself. Those of its parent it leaves alone: it may have closed their numbers already,
  and have given them to other files.
- An open file belongs to those who read it: where another thread opens one too many, the one that was read longest ago
  leaves the table, and is closed when the last read of it has ended.
"""

import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from mpqueue.errors import FileError
from mpqueue.files import ranges
from mpqueue.files.ranges import Piece, RangedFile
from mpqueue.files.urls import is_url
from mpqueue.system.locks import Lock

# Of requests that are joined into one read.
_MAX_GAP_BYTES = 4 * 1024
# Above this a record is read by itself: a system call costs less than to copy it out of a larger read.
_MAX_JOINED_BYTES = 16 * 1024


class IndexedFile(NamedTuple):
    """A file as it was when it was indexed.

    Attributes:
        path: Its absolute path, or its URL.
        size: Its bytes.
        version: When it was changed last, in nanoseconds; of a remote one see `mpqueue.files.ranges`.
        ctime: When it, or its entry in the file system, was changed last, in nanoseconds; 0 of a remote one. A program
            cannot set it, so it tells of a change that keeps size and time of change.
        inode: Its number in the file system; 0 of a remote one.
    """

    path: str
    size: int
    version: int
    ctime: int = 0
    inode: int = 0

    def is_same(self, other: "IndexedFile") -> bool:
        """Return whether a file is the same one, unchanged.

        A new owner, mode or hard link changes the ctime only, and some network file systems change inodes: neither
        alone is a change. A file that was replaced has another ctime and another inode.
        """
        if (self.path, self.size, self.version) != (other.path, other.size, other.version):
            return False
        return self.ctime == other.ctime or self.inode == other.inode

    @property
    def is_remote(self) -> bool:
        """True if it is read through a network."""
        return is_url(self.path)

    @classmethod
    def of(cls, path: str) -> "IndexedFile":
        """Return a file as it is now.

        Raises:
            FileError: It is no regular file: to open a FIFO may wait for ever, and a device has no end.
            OSError: The system's.
        """
        if is_url(path):
            return cls(path, *ranges.stat(path))
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
            kind = next((words for asks, words in kinds if asks(found.st_mode)), "a device")
            remedy = f"; name the files in it, such as {path.rstrip('/')}/*" if kind == "a folder" else ""
            raise FileError(path, None, f"it is {kind}, expected a file{remedy}")
        return cls(os.path.realpath(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    @classmethod
    def of_all(cls, paths: Sequence[str]) -> "list[IndexedFile]":
        """Return files as they are now; remote ones are asked for at once. Raises as `of`."""
        if not any(map(is_url, paths)):
            return [cls.of(path) for path in paths]
        return ranges.at_once([partial(cls.of, path) for path in paths])


class _OpenFile:
    """A descriptor that is closed when nobody reads it any more."""

    def __init__(self, file: IndexedFile) -> None:
        self.file, self._pid = file, os.getpid()
        # O_NONBLOCK: if the name has become a FIFO meanwhile, the open must not wait; `check` will tell.
        self._fd: int | None = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    # Its functions are arguments: when the interpreter ends, the names of this module may be gone first.
    def __del__(self, getpid: Callable[[], int] = os.getpid, close: Callable[[int], None] = os.close) -> None:
        fd = getattr(self, "_fd", None)
        if fd is not None and self._pid == getpid():  # see the head of this module
            close(fd)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file.

        Raises:
            FileError: They are not there.
        """
        data = self._read(offset, length)
        self.check()
        return data

    def read_sorted(self, pieces: Sequence[Piece], order: Sequence[int], found: list[bytes]) -> None:
        """Read pieces of this file into their places in a list; raises as `read`.

        Args:
            pieces: Some, of any files.
            order: The numbers of those of this file, in the order in which they lie.
            found: Has a place for each piece.
        """
        # What is done for a piece beside its read is a part of what the sample costs: a call of a function is 0.1 us.
        pread, fd, size, last, at = os.pread, self._fd, self.file.size, len(order) - 1, 0
        assert fd is not None
        while at <= last:
            number = order[at]
            _, start, length = pieces[number]
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
                found[number] = data = pread(fd, length, start)
                if len(data) == length:
                    continue
            # Outside of the file, or less came: of a file that has shrunk, or of more than 2 GB.
            found[number] = self._read(start, length)
        # Once behind all of them: nobody has seen a byte yet, and it costs as much as the read of a small record.
        self.check()

    def _read(self, offset: int, length: int) -> bytes:
        """Return bytes that are to be given to nobody before `check`."""
        file = self.file
        if not 0 <= offset <= offset + length <= file.size:
            raise FileError(
                file.path, offset, f"{length:,} bytes are asked for, and the file had {file.size:,} when it was indexed"
            )
        assert self._fd is not None
        data = os.pread(self._fd, length, offset)
        while len(data) < length:  # the system gives 2 GB at once at most
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                break  # it has shrunk, and `check` says so
            data += more
        return data

    def inode(self) -> int:
        """Return which file is open."""
        assert self._fd is not None
        return os.fstat(self._fd).st_ino

    def check(self) -> None:
        """Compare the file with its index.

        Raises:
            FileError: It is another one.
        """
        assert self._fd is not None
        found, file = os.fstat(self._fd), self.file
        if (
            found.st_size != file.size
            or found.st_mtime_ns != file.version
            or (found.st_ctime_ns != file.ctime and found.st_ino != file.inode)  # see `IndexedFile.is_same`
        ):
            raise FileError(
                file.path,
                None,
                f"it has changed since it was indexed: it had {file.size:,} bytes, and has {found.st_size:,} that "
                "were written at another time; make the source anew",
            )


class _Table:
    """The open files of one process, those read last at the end."""

    def __init__(self) -> None:
        self.pid, self.lock = os.getpid(), Lock()
        self.files: OrderedDict[int, _OpenFile | RangedFile] = OrderedDict()


class OpenFiles:
    """Files by their numbers; any thread may read them. A pickle, or a fork, has none of them open.

    Args:
        files: As they were when they were indexed.
        limit: How many may be open in a process.
    """

    def __init__(self, files: Sequence[IndexedFile], limit: int = 64) -> None:
        self._files, self._limit = files, limit
        self._table: _Table | None = None

    def __getstate__(self) -> tuple[Sequence[IndexedFile], int]:
        return self._files, self._limit

    def __setstate__(self, state: tuple[Sequence[IndexedFile], int]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # all that there is besides is made anew

    def read(self, file: int, offset: int, length: int) -> bytes:
        """Return bytes of a file.

        Raises:
            FileError: The file has changed since it was indexed, or has no such bytes.
            OSError: The system's; the file is gone, say.
        """
        return self._open(file).read(offset, length)

    def read_all(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Return the bytes of pieces, in the order in which they are asked for; raises as `read` does.

        They are read in the order in which they lie, and small neighbours in one read; remote ones all at once.
        """
        if len(pieces) == 1:
            return [self.read(*pieces[0])]
        found: list[bytes] = [b""] * len(pieces)
        order = sorted(range(len(pieces)), key=pieces.__getitem__)
        far: list[Callable[[], None]] = []
        at = 0
        while at < len(order):
            file = pieces[order[at]][0]
            stop = at + 1
            while stop < len(order) and pieces[order[stop]][0] == file:
                stop += 1
            opened = self._open(file)
            if isinstance(opened, RangedFile):
                far += opened.reads(pieces, order[at:stop], found)
            else:
                opened.read_sorted(pieces, order[at:stop], found)
            at = stop
        if far:
            ranges.at_once(far)
        return found

    def file(self, number: int) -> tuple[str, int] | None:
        """Return path and inode of a file of this machine that this process has open; None if it is not open."""
        table = self._table
        opened = None if table is None or table.pid != os.getpid() else table.files.get(number)
        return (opened.file.path, opened.inode()) if isinstance(opened, _OpenFile) else None

    def close(self) -> None:
        """Close all that nobody reads; the next read opens its file again."""
        self._table = None

    def _open(self, number: int) -> _OpenFile | RangedFile:
        table = self._table
        if table is None or table.pid != os.getpid():  # a lock that was held in the moment of a fork stays held
            table = self._table = _Table()
        with table.lock:
            file = table.files.get(number)
            if file is not None:
                table.files.move_to_end(number)
                return file
        # Without the lock: on a slow file system it takes long, and other threads read files that are open. Two may
        # open the same one; the descriptor that is not kept is closed when its reader lets go of it.
        indexed = self._files[number]
        if indexed.is_remote:
            file = RangedFile(indexed.path, indexed.size, indexed.version)
        else:
            file = _OpenFile(indexed)
            file.check()
        with table.lock:
            table.files[number] = file
            while len(table.files) > self._limit:
                table.files.popitem(last=False)  # who reads it holds it: nothing is closed under a read
        return file


def read_whole(path: str) -> bytes:
    """Return the bytes of a file that is no other's part.

    Raises:
        FileError: It is no regular file, or shrinks while it is read.
        OSError: The system's.
    """
    if is_url(path):
        return ranges.read_whole(path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise FileError(path, None, "it is no regular file")
        data = os.pread(fd, found.st_size, 0)
    finally:
        os.close(fd)
    if len(data) < found.st_size:
        raise FileError(path, len(data), f"it had {found.st_size:,} bytes, and has shrunk while it was read")
    return data
