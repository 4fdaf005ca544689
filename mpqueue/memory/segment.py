"""The one file that creates, maps and frees shared memory.

A segment is one OS object. The trainer creates it and removes its name in the same breath, so that nothing is left to
clean up: the kernel frees the memory when the last process that maps it is gone, however it went. Other processes get
the descriptor, over a socket or by fork, and map it themselves.

The segment is sparse: its size is address space, and only pages that were *reserved* cost memory. Writing to a page
that `/dev/shm` has no room for is a SIGBUS, so whoever writes reserves first (`posix_fallocate`), and gets ENOSPC as
an ordinary error instead.
"""

import contextlib
import errno
import mmap
import os
import resource
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from mpqueue.system import platform_support

if TYPE_CHECKING:
    from mpqueue.system.limits import GroupMemory

_SHM_FOLDER = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory
# Docker gives containers 64 MiB of /dev/shm: too little for a ring of images, while the memory itself is there.
_SMALLEST_SHM_BYTES = 1 << 30
# Reserved with a slot's first grant, so that an exception always has a place to travel in.
FIRST_BYTES = 1 << 16
# Reservations are counted, and the control group is looked at once for so many bytes: to read its files takes 0.1 ms,
# as long as a reservation of this size.
_LOOK_AFTER_BYTES = 1 << 20
# What stays free in a group: for other memory of its processes, and for a process that is still to start.
_LEAST_RESERVE, _MOST_RESERVE, _RESERVE_SHARE = 8 << 20, 256 << 20, 8
_MADV_POPULATE_WRITE = 23  # of Linux 5.14; Python has no name for it

# Of `SharedMemoryFull`, where batches lack memory.
MEMORY_REMEDY = (
    "Use smaller batches, a smaller max_queue_size, or a larger /dev/shm "
    "(`docker run --shm-size`, `mount -o remount,size=... /dev/shm`)"
)


class GroupFull(OSError):
    """The control group of this process would have too little memory left.

    The kernel does not refuse a reservation there: it kills a process of the group.
    """


class Segment:
    """One mapped piece of shared memory.

    Attributes:
        fd: Its descriptor, to be passed to other processes. Owned: closed by `close`.
        size: Bytes of address space.
        memory: The mapping. NumPy arrays made on it keep it mapped, also after `close`.
        kind: ``"shm"`` (in ``/dev/shm``), ``"memfd"`` (an anonymous memory file) or
            ``"file"`` (a temporary file without a name).
    """

    def __init__(self, fd: int, size: int, kind: str) -> None:
        self.fd, self.size, self.kind = fd, size, kind
        self._not_looked_at = 0  # bytes that were reserved since the last look at the control group
        from mpqueue.system import descriptors

        with descriptors.apart_from_standard():
            self.memory = mmap.mmap(fd, size)
        with contextlib.suppress(AttributeError, OSError):  # Linux only; without it a core dump writes the whole ring
            self.memory.madvise(mmap.MADV_DONTDUMP)

    @classmethod
    def create(cls, size: int, kind: str | None = None) -> Self:
        """Make a segment without a name.

        Args:
            size: Bytes of address space.
            kind: "memfd" where others are to get it, see `open_read_only`; None: the best that there is.

        Raises:
            OSError: The kernel refused: the text names the bytes and the limit that was met.
        """
        fd, kind = (_memory_file(), "memfd") if kind == "memfd" else _anonymous_descriptor()
        try:
            os.ftruncate(fd, size)
            return cls(fd, size, kind)
        except (OSError, ValueError) as error:
            os.close(fd)
            raise _cannot_map(size, error) from error

    @classmethod
    def create_largest(cls, size_within: Callable[[int], int], kind: str | None = None) -> Self:
        """Make the largest segment without a name for which this process has address space left.

        Each size that does not fit is halved, because `ulimit -v` does not tell how much of it is in use.

        Args:
            size_within: Returns the size of a segment that has at most the given number of bytes; 0 if that is too few.
            kind: See `create`.

        Raises:
            OSError: Not even the smallest one fits, or the kernel refused for another reason.
        """
        failure: OSError | None = None
        size = size_within(largest_segment_bytes())
        while size:
            try:
                return cls.create(size, kind)
            except OSError as error:
                if error.errno != errno.ENOMEM:
                    raise
                failure = error
            size = size_within(size // 2)
        raise failure or OSError(
            errno.ENOMEM, "no shared memory fits into the address space that `ulimit -v` and `ulimit -f` allow"
        )

    def open_read_only(self) -> int:
        """Return another descriptor of a "memfd", for a process that is to read it and no more; the caller's to close.

        A process of another user can neither map it for writing nor open it again for that: the file is this user's
        alone, and a descriptor that was passed grants what it was opened for.

        Raises:
            OSError: There are no descriptors left, or no /proc.
        """
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    def reserve(self, offset: int, end: int, *, spare: int | None = 0) -> None:
        """Back the bytes from ``offset`` to ``end`` with memory, so that writing them cannot fail.

        Args:
            offset: The first byte.
            end: The end.
            spare: Bytes that a control group must have left after it, in addition to its reserve. None: half of the
                reserve is enough, since nothing continues without these bytes.

        Raises:
            OSError: ENOSPC or ENOMEM: there is not so much memory; what was reserved before stays.
            GroupFull: The control group would have too little left.
        """
        if platform_support.HAS_FALLOCATE:
            self._look_at_group(end - offset, spare)
            os.posix_fallocate(self.fd, offset, end - offset)

    def _look_at_group(self, nbytes: int, spare: int | None) -> None:
        self._not_looked_at += nbytes
        if self._not_looked_at < _LOOK_AFTER_BYTES:
            return
        group = _group_memory()
        left = 0 if group is None else reserve_of(group) // 2 if spare is None else reserve_of(group) + spare
        if group is not None and nbytes + left > group.room:
            raise GroupFull(
                errno.ENOMEM, f"the control group allows {group.limit:,} bytes, and has {group.room:,} left"
            )
        self._not_looked_at = 0

    def populate(self, offset: int, end: int) -> None:
        """Map reserved bytes into this process all at once, where the system can; else each page is when it is written.

        To write 77 MiB that are new took 48 ms more than to write them again, and 37 with this; where another process
        had written them, 31 and 12.
        """
        if platform_support.IS_LINUX:
            start = offset // mmap.PAGESIZE * mmap.PAGESIZE
            with contextlib.suppress(OSError):  # an older kernel, or no memory for the page table
                self.memory.madvise(_MADV_POPULATE_WRITE, start, end - start)

    def discard(self, offset: int, end: int) -> None:
        """Give the pages from ``offset`` to ``end`` (page aligned) back to the system; they read as zeros then."""
        if platform_support.HAS_HOLES:
            self.memory.madvise(mmap.MADV_REMOVE, offset, end - offset)

    def free_bytes(self) -> int:
        """Return the bytes that the file system, or the machine, has left."""
        if self.kind != "memfd":
            status = os.fstatvfs(self.fd)
            return status.f_bavail * status.f_frsize
        import psutil

        return int(psutil.virtual_memory().available)

    def available_bytes(self) -> int:
        """Return the bytes that could still be reserved; to look at the control group as well takes 0.1 ms."""
        available, group = self.free_bytes(), _group_memory()
        return available if group is None else min(available, max(0, group.room - reserve_of(group)))

    def is_group_short(self) -> bool:
        """Return whether the control group has less than its reserve left."""
        group = _group_memory()
        return group is not None and group.room < reserve_of(group)

    def close(self) -> None:
        """Close the descriptor and let go of the mapping, which lives on while arrays on it do."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
            del self.memory


def _group_memory() -> "GroupMemory | None":
    from mpqueue.system import limits  # with the first large batch: most programs of small ones do without it

    return limits.group_memory()


def reserve_of(group: "GroupMemory") -> int:
    """Return the bytes that stay free in a control group."""
    return min(max(_LEAST_RESERVE, group.limit // _RESERVE_SHARE), _MOST_RESERVE, group.limit // 2)


class ForeignSegment:
    """A segment of another process, mapped for reading.

    Args:
        fd: Its descriptor. Owned, and closed at once.
        size: Bytes of address space, as that process says.

    Attributes:
        memory: The mapping. NumPy arrays made on it keep it mapped, and are read-only.

    Raises:
        OSError: It is smaller than that, or cannot be mapped.
    """

    def __init__(self, fd: int, size: int) -> None:
        from mpqueue.system import descriptors

        try:
            there = os.fstat(fd).st_size
            if there < size:  # to read behind its end would be a SIGBUS
                raise OSError(errno.EINVAL, f"shared memory of {there:,} bytes, {size:,} expected")
            with descriptors.apart_from_standard():
                self.memory = mmap.mmap(fd, size, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise _cannot_map(size, error) from error
        finally:
            os.close(fd)
        with contextlib.suppress(AttributeError, OSError):  # as above
            self.memory.madvise(mmap.MADV_DONTDUMP)


_REMEDIES = {
    errno.EMFILE: "; this process has too many open files: check `ulimit -n`",
    errno.ENFILE: "; this machine has too many open files: check `sysctl fs.file-max`",
    errno.EFBIG: "; check `ulimit -f`",
    errno.ENOMEM: "; check `ulimit -v`",
}


def _cannot_map(size: int, error: OSError | ValueError) -> OSError:
    code = getattr(error, "errno", None) or errno.ENOMEM
    return OSError(code, f"cannot map {size:,} bytes of shared memory ({error}){_REMEDIES.get(code, '')}")


def largest_segment_bytes() -> int:
    """Return the address space that a segment may take under this process's limits (RLIMIT_AS, RLIMIT_FSIZE)."""
    largest = 1 << 40
    for limit, share in ((resource.RLIMIT_AS, 4), (resource.RLIMIT_FSIZE, 1)):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            largest = min(largest, soft // share)
    return largest


def memory_file(shown_as: str = "mpqueue") -> int:
    """Return a descriptor of an anonymous memory file, or, where there are none, of a temporary file without a name.

    Args:
        shown_as: What the kernel calls the memory file in ``/proc``.

    Raises:
        OSError: There are no descriptors left.
    """
    return _memory_file(shown_as) if platform_support.HAS_MEMORY_FILES else _anonymous_descriptor()[0]


def _anonymous_descriptor() -> tuple[int, str]:
    if not platform_support.HAS_MEMORY_FILES:  # macOS: an object of `shm_open` gets its size once, and can never grow
        import tempfile

        with tempfile.TemporaryFile(prefix="mpqueue") as file:
            return _apart(os.dup(file.fileno())), "file"
    if _shm_is_roomy():
        with contextlib.suppress(OSError):  # a kernel that lacks it; where descriptors lack, the next call says so
            return _shared_memory(), "shm"
    return _memory_file(), "memfd"


def _apart(fd: int) -> int:
    """The same under a number that is none of the standard streams'."""
    from mpqueue.system import descriptors  # and `socket`, which a loader needs only when it starts

    return descriptors.above_standard(fd)


def _shared_memory() -> int:
    """Return the descriptor of POSIX shared memory without a name: the file that `shm_open` would make, and unlink.

    Not by `multiprocessing.shared_memory`, which is 3.5 ms to import, leaves its name where it finds no descriptor or
    no memory halfway, and before Python 3.13 starts a process that removes names: 6 MB and 20 ms.
    """
    return _apart(os.open(_SHM_FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _memory_file(shown_as: str = "mpqueue") -> int:
    fd = _apart(os.memfd_create(shown_as, os.MFD_CLOEXEC))
    os.fchmod(fd, 0o600)  # it is made open to everybody
    return fd


def _shm_is_roomy() -> bool:
    try:
        status = os.statvfs(_SHM_FOLDER)
    except OSError:
        return False
    return status.f_blocks * status.f_frsize >= _SMALLEST_SHM_BYTES
