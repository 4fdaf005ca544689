"""The CPUs of this process, and its time on them."""

import contextlib
import os
import time


def allowed_cpus() -> frozenset[int] | None:
    """Return the CPUs that this thread may use (its affinity); None where a system has nothing like that."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:
        return None


def keep_to(cpus: frozenset[int] | None) -> None:
    """Have this thread, and all that it starts from now on, use these CPUs only; those of `allowed_cpus`."""
    if cpus is not None and cpus != allowed_cpus():
        with contextlib.suppress(OSError):  # none of them is there any more: the group's CPUs have changed
            os.sched_setaffinity(0, cpus)


def num_cpus() -> int:
    """CPUs that this process may use."""
    return len(allowed_cpus() or ()) or os.cpu_count() or 1


def queued_ns() -> int | None:
    """Return for how long this thread could have run while others had the CPUs; None where nobody counts that."""
    try:
        # A file object takes five times as long.
        fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(fd, 100).split()[1])
        finally:
            os.close(fd)
    except (OSError, IndexError, ValueError):
        return None


def busy_ns() -> int | None:
    """Return for how long this process was on a CPU, in all its threads, or this thread waited for one; None: unknown.

    What is left of the time that passes, it waits for something else: a disk, the network, a lock. On a machine with
    more programs than CPUs the time on a CPU alone would not tell.
    """
    queued = queued_ns()  # 6 µs
    return None if queued is None else time.process_time_ns() + queued
