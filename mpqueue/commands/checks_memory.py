"""Checks of memory: shared, anonymous, and what the machine and the control groups have left."""

import os

from mpqueue.commands.findings import Check, Finding, size
from mpqueue.system import limits, platform_support

_SHM = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory
_SMALL_SHM_BYTES = 1 << 30  # below, the ring is a memory file instead; see mpqueue.memory.segment
_LITTLE_BYTES = 1 << 30
_TRIAL_BYTES = 1 << 20


def shm() -> Finding | None:
    """Look at the size of /dev/shm, and at what is left of it."""
    if not platform_support.IS_LINUX:
        return None
    try:
        status = os.statvfs(_SHM)
    except OSError:
        return Finding(_SHM, "note", "not there: the ring of a loader is a memory file (memfd) instead")
    total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    found = f"{size(free)} of {size(total)} free"
    if total < _SMALL_SHM_BYTES:
        return Finding(
            _SHM,
            "note",
            f"{found}: too small for batches, so mpqueue's ring is a memory file (memfd) instead; torch's own "
            "DataLoader would fail here",
            "docker run --shm-size=8g, if other libraries need it",
        )
    if free < _LITTLE_BYTES:
        return Finding(
            _SHM,
            "problem",
            f"{found}: loaders will wait for memory, or raise SharedMemoryFull",
            f"see with `ls -l {_SHM}` what fills it, and remove what belongs to no process (`fuser {_SHM}/*`)",
        )
    return Finding(_SHM, "ok", found)


def memfd() -> Finding | None:
    """Make a memory file, write to it, and open it for reading only, as servers do."""
    from mpqueue.memory.segment import Segment

    if not platform_support.IS_LINUX:
        return None
    try:
        segment = Segment.create(_TRIAL_BYTES, "memfd")
        try:
            segment.reserve(0, _TRIAL_BYTES)
            segment.memory[:4] = b"test"
            os.close(segment.open_read_only())
        finally:
            segment.close()
    except (OSError, AttributeError) as error:
        return Finding(
            "memfd",
            "problem",
            f"a memory file cannot be made: {error}",
            "in a container, use a seccomp profile that allows memfd_create; look at `ulimit -f`",
        )
    return Finding("memfd", "ok", "memory files can be made, and passed on for reading only")


def ring() -> Finding:
    """Make a ring's memory in the way in which a loader makes it."""
    from mpqueue.memory.segment import Segment

    try:
        segment = Segment.create_largest(lambda largest: min(1 << 36, largest))
        try:
            segment.reserve(0, _TRIAL_BYTES)
            found = f"{size(segment.size)} of address space, in {segment.kind}"
        finally:
            segment.close()
    except OSError as error:
        return Finding("ring", "problem", str(error), "look at the checks of address space, /dev/shm and memfd")
    return Finding("ring", "ok", found)


def memory() -> Finding:
    """Compare what the machine and the control groups have left with what a ring needs."""
    import psutil

    machine, group = psutil.virtual_memory(), limits.memory_limit()
    left, total, whose = machine.available, machine.total, "the machine's"
    if group is not None and group[0] - group[1] < left:
        left, total, whose = group[0] - group[1], group[0], "the control group's"
    found = f"{size(left)} of {size(total)} left, {whose}; shared memory counts in it"
    if left < _LITTLE_BYTES:
        remedy = "fewer batches ahead (max_queue_size), smaller batches, fewer workers"
        if whose != "the machine's":
            remedy += "; or a higher limit (docker run --memory)"
        return Finding("memory", "note", found, remedy)
    return Finding("memory", "ok", found)


def overcommit() -> Finding | None:
    """Look whether the kernel promises no more memory than it has."""
    try:
        with open("/proc/sys/vm/overcommit_memory", encoding="ascii") as file:
            mode = file.read().strip()
    except OSError:
        return None
    if mode == "2":
        return Finding(
            "overcommit",
            "note",
            "the kernel promises no more memory than there is (vm.overcommit_memory=2): large forks may be refused",
            "sysctl vm.overcommit_memory=0, or a clean start of workers (the default, start_method='forkserver')",
        )
    return Finding("overcommit", "ok", f"vm.overcommit_memory={mode}")


CHECKS: tuple[Check, ...] = (shm, memfd, ring, memory, overcommit)
