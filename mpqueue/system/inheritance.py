"""The things that a process gets from its parent when it starts, and that nobody can give it later.

A process that was started for later use has them of the time of its start: the user and groups, limits, the files that
it prints to. If its parent has changed any of them meanwhile, another process has to be started in its place: one that
was started before a trainer has given up its privileges would have them still.

Not among them is what a process can be told: its directory, environment and CPUs. But what the loader, the C library,
Python and NumPy read of the environment they read when they start: the time zone, for instance, and with it the hour of
each time stamp that a sample has.
"""

import os
import resource
from collections.abc import Mapping

_LIMITS = [getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")]
_READ_AT_START = (
    "BLIS_", "DYLD_", "GLIBC_", "GOMP_", "KMP_", "LANG", "LC_", "LD_", "MALLOC_", "MKL_", "MPQUEUE_LOG", "NPY_", "OMP_",
    "OPENBLAS_", "PYTHON", "TZ",
)  # fmt: skip
# Linux: what is in /proc/self, for which there is no call that is as cheap. Lines of its status:
_STATUS = ("Cap", "Groups:", "NoNewPrivs:", "Seccomp:", "SigIgn:", "Umask:")


def inherited(environ: Mapping[str, str], without: frozenset[str]) -> tuple[object, ...]:
    """Return what a process that is started now would get of this one; equal as long as nothing of it changes.

    Args:
        environ: The environment that it is given.
        without: Names in it that do not count.
    """
    root = os.stat("/")
    return (
        os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getsid(0), os.getpgrp(),
        os.getpriority(os.PRIO_PROCESS, 0),
        *map(resource.getrlimit, _LIMITS),
        _file_of(1), _file_of(2), root.st_dev, root.st_ino,
        *(item for item in sorted(environ.items()) if item[0].startswith(_READ_AT_START) and item[0] not in without),
        *_lines("/proc/self/status", _STATUS), *_lines("/proc/self/cgroup", ""),
        *_lines("/proc/self/oom_score_adj", ""), *_scheduling(),
    )  # fmt: skip


def _scheduling() -> tuple[int, ...]:
    """Return the policy and the priority of this process; none where a system has nothing like that."""
    try:
        return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    except (AttributeError, OSError):
        return ()


def _file_of(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _lines(path: str, beginnings: str | tuple[str, ...]) -> list[str]:
    try:
        with open(path) as file:
            return [line for line in file if line.startswith(beginnings)]
    except OSError:  # elsewhere than on Linux, or hidden from us
        return []
