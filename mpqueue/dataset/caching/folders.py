"""The segments of the caches in a folder, and the bound that all caches of the folder share.

::

    NAME.index                 see `mpqueue.dataset.caching.record_files`
    NAME.SEGMENT-LIMIT.data    the records, in segments that are numbered from 0; the size of none exceeds its limit
    NAME.use                   locked (`flock`, shared) by each process that uses the name; contains its counters
    UID-MAX_BYTES.bound        locked in the same way by each process with this ``max_bytes``

*A new segment* needs the lock of the folder, which is held for a few system calls, because the room of the folder is
counted then. A segment of a name in use counts with its limit, and others with their sizes. The bound is the smallest
``max_bytes`` of the running processes. If there is too little room, segments of names that no process uses are removed:
the least recently opened name first, and the oldest segment of a name first. Without them, no segment is created, and
new elements are not stored.

*A process uses a name* from the moment at which it has locked NAME.use. It checks afterwards that the file is still
there: a process that removes a name holds the lock exclusively. The kernel releases the locks of killed
processes. A process that is killed while it removes segments leaves some of them: the index goes before the last
segment, and NAME.use goes last. Readers ignore an entry of the index without a segment.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mpqueue.dataset.caching.counts import CacheCounts, counts_in
from mpqueue.dataset.caching.record_files import DataFile, FullError, NoRoomError
from mpqueue.system.descriptors import descriptors
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.system.paths.lock_files import is_at, release, wait_for
from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.signals.locks import Lock

_SHARE = 8  # a segment has at most this part of the bound, and the first segment this part of that
_OFFSET_BITS = 40
_MOST_BYTES = 1 << _OFFSET_BITS
_FIRST_UNBOUNDED_BYTES = 1 << 30
_SEGMENT = re.compile(r"(.+)\.(\d+)-(\d+)\.data")
_BOUND = re.compile(r"(\d+)-(\d+)\.bound")
Opener = Callable[[str, int], HeldDescriptor]


class SegmentFile(NamedTuple):
    """A segment in a folder.

    Attributes:
        id: Its id in its name.
        limit: The limit of its size.
        path: Its path.
        size: Its size.
    """

    id: int
    limit: int
    path: str
    size: int


class NameUsage(NamedTuple):
    """The usage of a folder by a name.

    Attributes:
        name: The name.
        hits: Elements that were read.
        stored: Elements that were stored.
        evictions: Segments of other names that were removed for it.
        size: The bytes of its segments.
    """

    name: str
    hits: int
    stored: int
    evictions: int
    size: int


def hold(path: str, flags: int, open_file: Opener) -> HeldDescriptor:
    """Open a file, and mark it as used until this process closes it or ends.

    Raises:
        OSError: The file cannot be opened.
    """
    while True:
        held = open_file(path, flags).above_standard()
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(held.fd, fcntl.LOCK_SH)
        if is_at(held.fd, path):
            return held
        held.close()  # another process has just removed it


def usage_of_name(folder: str, name: str, segments: list[SegmentFile] | None = None) -> NameUsage:
    """Return the usage by a name, without waiting for any process.

    Args:
        folder: The folder.
        name: The name.
        segments: Its segments, if they are known.

    Raises:
        OSError: The folder or the counters cannot be read.
    """
    found = _segments_in(folder).get(name, []) if segments is None else segments
    with open(os.path.join(folder, f"{name}.use"), "rb") as file:
        return NameUsage(name, *counts_in(file.read()), sum(segment.size for segment in found))


def usage_of(folder: str, open_file: Opener) -> tuple[list[tuple[NameUsage, bool]], int | None]:
    """Return the usage by each name, with a flag for names that a running process uses; and the bound, or None.

    Raises:
        OSError: The folder cannot be read.
    """
    usages = []
    with _alone_in(folder):
        for name, segments in sorted(_segments_in(folder).items()):
            with _claimed(os.path.join(folder, f"{name}.use"), open_file, os.O_CREAT) as is_claimed:
                usages.append((usage_of_name(folder, name, segments), not is_claimed))
        return usages, _bound_of(folder, open_file)


class Segments:
    """The segments of a name as opened by one process.

    Args:
        folder: The folder.
        name: The name.
        max_bytes: The bound of the folder that this process wishes; None for none.
        is_writable: Segments may be written.
        counts: The counters of the process.
        open_file: Opens a file of this user.

    Raises:
        OSError: A segment cannot be opened, or the mark of the bound cannot be written.
    """

    def __init__(
        self, folder: str, name: str, max_bytes: int | None, counts: CacheCounts, open_file: Opener, *,
        is_writable: bool,
    ) -> None:  # fmt: skip
        self._folder, self._name, self._counts, self._open_file = folder, name, counts, open_file
        self._flags = os.O_RDWR | os.O_APPEND if is_writable else os.O_RDONLY
        self._opened: dict[int, DataFile | None] = {}
        self._last = -1
        self._lock = Lock()  # protects the two
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._close)
            self._open_new()
            if max_bytes is not None and is_writable:
                path = os.path.join(folder, f"{os.geteuid()}-{max_bytes}.bound")
                self._bound = hold(path, os.O_RDWR | os.O_CREAT, open_file)
            on_error.pop_all()

    def _close(self) -> None:
        """Close the segments now: the traceback of an error refers to this object."""
        for opened in self._opened.values():
            if opened is not None:
                opened.close()

    def _open_new(self) -> None:
        for segment in _segments_in(self._folder).get(self._name, ()):
            if segment.id not in self._opened:
                with contextlib.suppress(FileNotFoundError):
                    held = self._open_file(segment.path, self._flags).above_standard()
                    self._opened[segment.id] = DataFile(held, segment.limit)
                    self._last = max(self._last, segment.id)

    def view(self, position: int, length: int) -> memoryview | None:
        """Return a read-only view of a record, or None if the bytes do not exist."""
        segment_id = position >> _OFFSET_BITS
        if segment_id not in self._opened:
            with self._lock:
                self._open_new()
                self._opened.setdefault(segment_id, None)  # removed, and ids are not used again
        opened = self._opened[segment_id]
        return None if opened is None else opened.view(position & (_MOST_BYTES - 1), length)

    def append(self, record: bytes) -> int:
        """Append a record, in a new segment if needed, and return its position.

        Raises:
            NoRoomError: The record was not stored.
        """
        while True:
            last = self._last
            opened = self._opened.get(last)
            if opened is not None:
                with contextlib.suppress(FullError):
                    return last << _OFFSET_BITS | opened.append(record)
            with self._lock:
                if self._last == last:
                    try:
                        self._add_segment(len(record))
                    except NoRoomError:
                        raise
                    except OSError as error:
                        raise NoRoomError(str(error)) from error

    def _add_segment(self, least: int) -> None:
        """Open the next segment, which another process may have created."""
        with _alone_in(self._folder), contextlib.ExitStack() as claims:
            last = self._last
            self._open_new()
            if self._last > last:
                return
            bound = _bound_of(self._folder, self._open_file)
            most = _MOST_BYTES if bound is None else bound // _SHARE
            if least > most:
                raise NoRoomError(f"an element of {least:,} bytes is larger than a segment, max_bytes / {_SHARE}")
            segments = _segments_in(self._folder)
            first = _FIRST_UNBOUNDED_BYTES if bound is None else most // _SHARE
            # Each new one has as many bytes as all earlier ones together, so that a large cache has few segments.
            size = max(least, min(most, max(first, sum(each.size for each in segments.get(self._name, ())))))
            if bound is not None:
                room = self._make_room(segments, bound, size, claims)
                if room < least:
                    raise NoRoomError(f"the limit max_bytes={bound:,} is reached by caches that are in use")
                size = min(size, room)
            # Not an id that was noted as removed: a removed index left it, or all segments were removed by hand.
            segment_id = max([last, *self._opened]) + 1
            path = os.path.join(self._folder, f"{self._name}.{segment_id}-{size}.data")
            self._open_file(path, self._flags | os.O_CREAT).close()
            self._open_new()

    def _make_room(
        self, segments: dict[str, list[SegmentFile]], bound: int, size: int, claims: contextlib.ExitStack
    ) -> int:
        """Remove segments of other names until a number of bytes is free; return the free bytes."""
        unused = []
        room = bound
        for name, owned in segments.items():
            path = os.path.join(self._folder, f"{name}.use")
            if name == self._name or not claims.enter_context(_claimed(path, self._open_file, os.O_CREAT)):
                room -= sum(max(each.limit, each.size) for each in owned)
            else:
                room -= sum(each.size for each in owned)
                unused.append((os.stat(path).st_mtime_ns, path, owned))
        for _, path, owned in sorted(unused):
            for index, segment in enumerate(owned):
                if room >= size:
                    return room
                if segment is owned[-1]:
                    _remove(path.removesuffix("use") + "index")
                if not _remove(segment.path):
                    break
                self._counts.evicted()
                room += segment.size
                if index == len(owned) - 1:
                    _remove(path)
        return room


def _remove(path: str) -> bool:
    """Remove a file, and return whether it was removed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:  # of a different user
        return False
    return True


def _segments_in(folder: str) -> dict[str, list[SegmentFile]]:
    """Return the segments of each name, by id."""
    found: dict[str, list[SegmentFile]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if (match := _SEGMENT.fullmatch(entry.name)) is not None:
                with contextlib.suppress(FileNotFoundError):
                    size = entry.stat(follow_symlinks=False).st_size
                    segment = SegmentFile(int(match[2]), int(match[3]), entry.path, size)
                    found.setdefault(match[1], []).append(segment)
    return {name: sorted(segments) for name, segments in found.items()}


def _bound_of(folder: str, open_file: Opener) -> int | None:
    """Return the smallest bound of this user's running processes, and remove the marks of finished ones."""
    bounds = []
    for entry in os.listdir(folder):
        match = _BOUND.fullmatch(entry)
        if match is not None and int(match[1]) == os.geteuid():
            path = os.path.join(folder, entry)
            with _claimed(path, open_file) as is_claimed:
                if is_claimed:
                    _remove(path)
                elif os.path.exists(path):
                    bounds.append(int(match[2]))
    return min(bounds, default=None)


@context_manager
def _claimed(path: str, open_file: Opener, flags: int = 0) -> Iterator[bool]:
    """Lock a mark exclusively if no process holds it; False if one does, or if it belongs to another user."""
    try:
        with open_file(path, os.O_RDWR | flags) as held:
            fd = descriptors.own(held.dup())
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_claimed = is_at(fd, path)
        except OSError:
            is_claimed = False
        yield is_claimed
    finally:
        release(fd)


@context_manager
def _alone_in(folder: str) -> Iterator[None]:
    """Wait for the lock of a folder, and hold it.

    Raises:
        OSError: The folder cannot be opened, or its file system has no locks.
    """
    fd = descriptors.own(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        wait_for(fd, folder)
        yield
    finally:
        release(fd)
