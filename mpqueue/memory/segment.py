"""Shared memory: the only module that creates, maps and frees it.

A segment is one OS object. The trainer creates it and removes its name at once, so that no cleanup is needed:
the kernel frees the memory when the last process that maps it exits, even by a crash. Other processes receive the
descriptor, over a socket or by fork, and map it themselves.

The segment is sparse: its size is address space, and only *reserved* pages cost memory. A write to a page without
room in `/dev/shm` raises SIGBUS. So a process reserves pages before it writes (`posix_fallocate`), and gets ENOSPC
as an ordinary error instead.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import resource
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from mpqueue.errors import SharedMemoryFull
from mpqueue.system import platform_support

if TYPE_CHECKING:
    from mpqueue.system.processes.limits import GroupMemory

_SHM_FOLDER = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory
# Docker limits /dev/shm to 64 MiB: too little for a ring of images, although there is enough memory.
_SMALLEST_SHM_BYTES = 1 << 30
# Reserved with a slot's first grant, so that there is always room for an exception.
FIRST_BYTES = 1 << 16
# The control group is checked once per this number of reserved bytes: reading its files takes 0.1 ms, as long as
# reserving this number of bytes.
_LOOK_AFTER_BYTES = 1 << 20
# Memory that is kept free in a control group: for other memory of its processes, and for processes that start later.
_LEAST_RESERVE, _MOST_RESERVE, _RESERVE_SHARE = 8 << 20, 256 << 20, 8
_MADV_POPULATE_WRITE = 23  # Linux 5.14; Python has no name for it

_LARGER_SHM = "a larger /dev/shm (`docker run --shm-size`, `mount -o remount,size=... /dev/shm`)"


def is_full(error: OSError) -> bool:
    """Return whether an error of `Segment.reserve` is a lack of memory, and not, for example, a closed descriptor."""
    return error.errno in {errno.ENOSPC, errno.ENOMEM}


class GroupFull(OSError):
    """The control group of this process would have too little memory left."""

    # The kernel does not refuse a reservation at the limit of a control group: it kills a process of the group.


class Segment:
    """One mapped piece of shared memory.

    Attributes:
        fd: Its descriptor, for other processes. Owned: closed by `close`.
        size: Bytes of address space.
        memory: The mapping. NumPy arrays created on it keep it mapped, also after `close`.
        kind: ``"shm"`` (in ``/dev/shm``), ``"memfd"`` (an anonymous memory file) or
            ``"file"`` (a temporary file without a name).
    """

    def __init__(self, fd: int, size: int, kind: str) -> None:
        self.fd, self.size, self.kind = fd, size, kind
        self._unchecked = 0  # bytes that were reserved since the last check of the control group
        self.memory = _map(fd, size, mmap.PROT_READ | mmap.PROT_WRITE)

    @classmethod
    def create(cls, size: int, kind: str | None = None) -> Self:
        """Create a segment without a name.

        Args:
            size: Bytes of address space.
            kind: "memfd" if other users' processes are to map it, see `open_read_only`; None for the best kind.

        Raises:
            OSError: The system call failed; the message has the number of bytes and the limit.
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
        """Create the largest segment without a name that fits into this process's address space.

        Args:
            size_within: Returns the size of a segment of at most the given number of bytes; 0 if that is too few.
            kind: See `create`.

        Raises:
            OSError: Not even the smallest segment fits, or the system call failed for another reason.
        """
        # Sizes that do not fit are halved, because `ulimit -v` does not show how much address space is in use.
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
        """Return a new read-only descriptor of a "memfd" for another process; the caller closes it.

        Another user's process can neither map the memory for writing nor reopen it for writing: only this user may
        open the file, and a descriptor that was passed keeps its mode.

        Raises:
            OSError: No descriptor is left, or /proc is not mounted.
        """
        from mpqueue.system.descriptors import descriptors

        return descriptors.open_again(self.fd, os.O_RDONLY)

    def reserve(self, offset: int, end: int, *, spare: int | None = 0) -> None:
        """Back the bytes from ``offset`` to ``end`` with memory, so that writing them cannot fail.

        Args:
            offset: The first byte.
            end: The end.
            spare: Bytes that a control group must have left afterwards, in addition to its reserve. None: half of the
                reserve is enough, because these bytes are needed to continue.

        Raises:
            OSError: ENOSPC or ENOMEM: there is too little memory; bytes that were reserved before remain reserved.
            GroupFull: The control group would have too little memory left.
        """
        self._check_group(end - offset, spare)
        os.posix_fallocate(self.fd, offset, end - offset)

    def try_reserve(self, offset: int, end: int, *, spare: int | None = 0) -> bool:
        """Back bytes with memory, as `reserve` does; return False if there is too little.

        Raises:
            OSError: As raised by `reserve` for any other reason.
        """
        try:
            self.reserve(offset, end, spare=spare)
        except OSError as error:
            if not is_full(error):
                raise
            return False
        return True

    def _check_group(self, nbytes: int, spare: int | None) -> None:
        self._unchecked += nbytes
        if self._unchecked < _LOOK_AFTER_BYTES:
            return
        group = _group_memory()
        if group is not None and nbytes + _left_in(group, spare) > group.room:
            raise GroupFull(errno.ENOMEM, f"the control group allows {group.limit:,} bytes, {group.room:,} are left")
        self._unchecked = 0

    def has_room(self, nbytes: int, *, spare: int | None = 0) -> bool:
        """Return False if `reserve` would fail for that many bytes; it reserves a part of them before it fails."""
        group = _group_memory()
        return nbytes <= self.free_bytes() and (group is None or nbytes + _left_in(group, spare) <= group.room)

    def populate(self, offset: int, end: int) -> None:
        """Map reserved bytes into this process at once, if the system can; otherwise each page faults when written."""
        # Writing 77 MiB of new pages took 48 ms more than writing them again, and 37 ms with this call. For pages that
        # another process had written, it took 31 and 12 ms.
        start = offset // mmap.PAGESIZE * mmap.PAGESIZE
        with contextlib.suppress(OSError):  # an older kernel, or no memory for the page table
            self.memory.madvise(_MADV_POPULATE_WRITE, start, end - start)

    def discard(self, offset: int, end: int) -> None:
        """Return the pages from ``offset`` to ``end`` (page aligned) to the system; they read as zeros afterwards."""
        try:
            self.memory.madvise(mmap.MADV_REMOVE, offset, end - offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            from mpqueue.memory import unlocked_maps as locking

            locking.unlock(self.memory)  # the user's code called `mlockall` after the memory was mapped
            self.memory.madvise(mmap.MADV_REMOVE, offset, end - offset)

    def free_bytes(self) -> int:
        """Return the number of bytes that the file system, or the machine, has left."""
        if self.kind != "memfd":
            status = os.fstatvfs(self.fd)
            return status.f_bavail * status.f_frsize
        import psutil

        return int(psutil.virtual_memory().available)

    def available_bytes(self) -> int:
        """Return the number of bytes that can still be reserved; reading the control group's files takes 0.1 ms."""
        available, group = self.free_bytes(), _group_memory()
        return available if group is None else min(available, max(0, group.room - reserve_of(group)))

    def memory_full(
        self, nbytes: int, advice: str = "Use smaller batches, a smaller max_queue_size"
    ) -> SharedMemoryFull:
        """Return the error for bytes that do not fit; it names the limit that is reached, and how to raise it.

        Args:
            nbytes: The number of bytes.
            advice: The other remedies, to be continued by "or" and a noun.
        """
        free, group = self.free_bytes(), _group_memory()
        if group is not None and group.room - reserve_of(group) < free:
            limit = (
                f"a higher memory limit of the control group (`docker run --memory`, `memory.max`): it allows "
                f"{group.limit:,} bytes, {group.room:,} are left, and {reserve_of(group):,} of them are kept free"
            )
        else:
            limit = _LARGER_SHM if self.kind == "shm" else "a machine with more free memory"
        return SharedMemoryFull(nbytes, self.available_bytes(), f"{advice}, or {limit}")

    def is_group_short(self) -> bool:
        """Return whether the control group has less than its reserve left."""
        group = _group_memory()
        return group is not None and group.room < reserve_of(group)

    def close(self) -> None:
        """Close the descriptor and drop the mapping, which exists until its last array is deleted."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
            del self.memory


def _group_memory() -> "GroupMemory | None":
    from mpqueue.system.processes import (
        limits,  # imported with the first large batch: programs with small batches do not need it
    )

    return limits.group_memory()


def _left_in(group: "GroupMemory", spare: int | None) -> int:
    """Return the number of bytes that a control group must have left; for ``spare`` see `Segment.reserve`."""
    return reserve_of(group) // 2 if spare is None else reserve_of(group) + spare


def reserve_of(group: "GroupMemory") -> int:
    """Return the number of bytes to keep free in a control group."""
    return min(max(_LEAST_RESERVE, group.limit // _RESERVE_SHARE), _MOST_RESERVE, group.limit // 2)


class ForeignSegment:
    """A segment that another process created, mapped for reading.

    Args:
        fd: Its descriptor. Owned, and closed at once.
        size: Bytes of address space, as specified by that process.

    Attributes:
        memory: The mapping. NumPy arrays created on it keep it mapped, and are read-only.

    Raises:
        OSError: The segment is smaller than that, or cannot be mapped.
    """

    def __init__(self, fd: int, size: int) -> None:
        try:
            there = os.fstat(fd).st_size
            if there < size:  # reading beyond the end would raise SIGBUS
                raise OSError(errno.EINVAL, f"expected shared memory of {size:,} bytes, got {there:,}")
            self.memory = _map(fd, size, mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise _cannot_map(size, error) from error
        finally:
            os.close(fd)


def shared_words() -> tuple[memoryview, int]:
    """Return a page of zeros as integers of 64 bits, and a descriptor with which another process can map it.

    Raises:
        OSError: Descriptors or memory are short, or the system has no memory files.
    """
    fd = _memory_file(flags=os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, mmap.PAGESIZE)
        # Otherwise the other process could shrink the file, and reading it would raise SIGBUS here.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return _words(fd), fd
    except BaseException:
        os.close(fd)
        raise


def foreign_words(fd: int) -> memoryview:
    """Return the words of `shared_words` of another process.

    Raises:
        OSError: The file is too small, or cannot be mapped.
    """
    if os.fstat(fd).st_size < mmap.PAGESIZE:
        raise OSError(errno.EINVAL, "expected a page of shared memory")
    return _words(fd)


def _words(fd: int) -> memoryview:
    return memoryview(_map(fd, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)).cast("Q")


def _map(fd: int, size: int, prot: int) -> mmap.mmap:
    from mpqueue.system.descriptors import descriptors

    with descriptors.apart_from_standard():
        memory = _map_unlocked(fd, size, prot) if _is_new_memory_locked() else mmap.mmap(fd, size, prot=prot)
    with contextlib.suppress(OSError):  # otherwise core dumps contain the whole ring
        memory.madvise(mmap.MADV_DONTDUMP)
    return memory


def _map_unlocked(fd: int, size: int, prot: int) -> mmap.mmap:
    from mpqueue.memory import unlocked_maps as locking  # few programs need it

    return locking.map_unlocked(fd, size, prot)


def _is_new_memory_locked() -> bool:
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        try:
            page.madvise(mmap.MADV_DONTNEED)
        except OSError as error:
            if error.errno != errno.EINVAL:  # which it returns for locked memory
                raise
            return True
    return False


_REMEDIES = {
    errno.EMFILE: "; this process has too many open files: check `ulimit -n`",
    errno.ENFILE: "; this machine has too many open files: check `sysctl fs.file-max`",
    errno.EFBIG: "; check `ulimit -f`",
    errno.ENOMEM: "; check `ulimit -v`",
    errno.EAGAIN: "; this process has called `mlockall`: check `ulimit -l`",
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
    """Return a descriptor of an anonymous memory file, or of a temporary file without a name if there are none.

    Args:
        shown_as: The name of the memory file in ``/proc``.

    Raises:
        OSError: No descriptor is left.
    """
    return _memory_file(shown_as) if platform_support.HAS_MEMORY_FILES else _anonymous_descriptor()[0]


def _anonymous_descriptor() -> tuple[int, str]:
    if _shm_is_roomy():
        with contextlib.suppress(OSError):  # an old kernel; if descriptors are short, the next call raises
            return _shared_memory(), "shm"
    if platform_support.HAS_MEMORY_FILES:
        return _memory_file(), "memfd"
    import tempfile

    with tempfile.TemporaryFile(prefix="mpqueue") as file:
        return _apart(os.dup(file.fileno())), "file"


def _apart(fd: int) -> int:
    """Return a duplicate of ``fd`` with a number above the standard streams', and close ``fd``."""
    from mpqueue.system.descriptors import descriptors  # imports `socket`, which a loader needs only when it starts

    return descriptors.above_standard(fd)


def _shared_memory() -> int:
    """Return the descriptor of POSIX shared memory without a name, as `shm_open` and `shm_unlink` would create it."""
    # Not by `multiprocessing.shared_memory`: its import takes 3.5 ms, it leaves the name if it runs out of descriptors
    # or memory halfway, and before Python 3.13 it starts a process that removes names (6 MB, 20 ms).
    return _apart(os.open(_SHM_FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _memory_file(shown_as: str = "mpqueue", flags: int = 0) -> int:
    fd = _apart(os.memfd_create(shown_as, os.MFD_CLOEXEC | flags))
    os.fchmod(fd, 0o600)  # memory files are created accessible to all users
    return fd


def _shm_is_roomy() -> bool:
    try:
        status = os.statvfs(_SHM_FOLDER)
    except OSError:
        return False
    return status.f_blocks * status.f_frsize >= _SMALLEST_SHM_BYTES
