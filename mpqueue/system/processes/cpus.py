"""The CPUs of this process, and its CPU time."""

import contextlib
import os
import time


def allowed_cpus() -> frozenset[int]:
    """Return the CPUs that this thread may use (its affinity)."""
    return frozenset(os.sched_getaffinity(0))


def keep_to(cpus: frozenset[int]) -> None:
    """Restrict this thread, and its later threads and processes, to these CPUs, as returned by `allowed_cpus`."""
    if cpus != allowed_cpus():
        with contextlib.suppress(OSError):  # the CPUs of the control group have changed, and include none of these
            os.sched_setaffinity(0, cpus)


def num_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(allowed_cpus())


def queued_ns() -> int | None:
    """Return the time that this thread was runnable while others had the CPUs, in ns; None if it is unknown."""
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
    """Return the time in ns that this process was on a CPU or this thread was queued for one; None if it is unknown.

    The rest of the elapsed time is spent waiting for a disk, the network or a lock. The CPU time alone would not show
    that on a machine with more programs than CPUs.
    """
    queued = queued_ns()  # takes 6 µs
    return None if queued is None else time.process_time_ns() + queued


def thread_busy_ns() -> int | None:
    """Return the time in ns that this thread was on a CPU or queued for one; None if it is unknown."""
    queued = queued_ns()
    return None if queued is None else time.thread_time_ns() + queued
