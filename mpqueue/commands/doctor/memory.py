"""Checks of memory: shared and anonymous memory, and the free memory of the machine and of the control group."""

import os

from mpqueue.commands.doctor.findings import Finding, size
from mpqueue.system.processes import limits
from mpqueue.system.units import count_text

_SHM = "/dev/shm"  # noqa: S108 - the mount point of POSIX shared memory on Linux
_SMALL_SHM_BYTES = 1 << 30  # if smaller, the ring is a memory file instead; see mpqueue.memory.segment
_LITTLE_BYTES = 1 << 30
_TRIAL_BYTES = 1 << 20
_FULL = 0.9


def shm() -> Finding:
    """Check the size and the free space of /dev/shm."""
    try:
        status = os.statvfs(_SHM)
    except OSError:
        return Finding(
            "note",
            "missing: the ring of a loader is a memory file (memfd) instead",
            "mount a tmpfs there, if other libraries need it",
        )
    total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    found = f"{size(free)} of {size(total)} free"
    if total < _SMALL_SHM_BYTES:
        return Finding(
            "note",
            f"{found}: too small for batches, so mpqueue's ring is a memory file (memfd) instead; torch's own "
            "DataLoader would fail here",
            "docker run --shm-size=8g, if other libraries need it",
        )
    if free < _LITTLE_BYTES:
        return Finding(
            "problem",
            f"{found}: loaders will wait for memory, or raise SharedMemoryFull",
            f"find out with `ls -l {_SHM}` what uses it, and remove files that no process uses (`fuser {_SHM}/*`)",
        )
    return Finding("ok", found)


def caches(folder: str) -> Finding:
    """Count the stores, reads and removals of the caches in a folder, and how much of its bound is used."""
    from mpqueue.dataset.caching.caches import folder_usage

    usages, bound = folder_usage(folder)
    used = sum(usage.size for usage, is_used in usages if is_used)
    total, hits, stored, evictions = (
        sum(getattr(usage, name) for usage, _ in usages) for name in ("size", "hits", "stored", "evictions")
    )
    found = (
        f"{size(total)} in {count_text(len(usages), 'cache')}, of which {size(used)} in use; {hits:,} hits, "
        f"{stored:,} stored, {evictions:,} evictions; "
        + ("no running process has a bound" if bound is None else f"the bound is {size(bound)}")
    )
    if bound is not None and used > bound * _FULL:
        return Finding("note", found, "new elements may not be stored: use a larger max_bytes, or end other jobs")
    return Finding("ok", found)


def memfd() -> Finding:
    """Create a memory file, write to it, and open it read-only, as servers do."""
    from mpqueue.memory.segment import Segment

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
            "problem",
            f"a memory file cannot be created: {error}",
            "in a container, use a seccomp profile that allows memfd_create; check `ulimit -f`",
        )
    return Finding("ok", "memory files can be created, and shared read-only")


def memory() -> Finding:
    """Check whether the machine and the control group have enough free memory for a ring."""
    import psutil

    machine, group = psutil.virtual_memory(), limits.group_memory()
    left, total, owner = machine.available, machine.total, "of the machine"
    if group is not None and group.room < left:
        left, total, owner = group.room, group.limit, "of the control group"
    found = f"{size(left)} of {size(total)} free, {owner}; shared memory is included"
    if left < _LITTLE_BYTES:
        remedy = "fewer batches ahead (max_queue_size), smaller batches, fewer workers"
        if owner != "of the machine":
            remedy += "; or a higher limit (docker run --memory)"
        return Finding("note", found, remedy)
    return Finding("ok", found)
