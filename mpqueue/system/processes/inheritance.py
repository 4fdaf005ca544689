"""Properties that a process inherits from its parent when it starts, and that cannot be changed later.

A process that was started in advance has the properties of that time: its user and groups, limits, and the files that
it prints to. If its parent has changed any of them since, a new process must be started. For example, a process started
before a trainer has dropped its privileges would still have them.

The working directory, the environment and the CPUs can be sent to a process later, and do not count. But the loader,
the C library, Python and NumPy read some environment variables only at their start, such as the time zone, which the
time stamps of samples depend on.
"""

import os
import resource
from collections.abc import Mapping

_LIMITS = [getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")]
_OF_NUMERICS = ("BLIS_", "GOMP_", "KMP_", "MKL_", "NPY_", "OMP_", "OPENBLAS_")
_OF_C = ("DYLD_", "GLIBC_", "LANG", "LC_", "LD_", "MALLOC_", "TZ")
_READ_AT_START = (*_OF_NUMERICS, *_OF_C, "MPQUEUE_LOG", "PYTHON")
# Linux: fields of /proc/self/status that no cheaper call returns.
_STATUS = ("Cap", "Groups:", "NoNewPrivs:", "Seccomp:", "SigIgn:", "Umask:")


def inherited(environ: Mapping[str, str], without: frozenset[str]) -> tuple[object, ...]:
    """Return the properties that a process started now would inherit; equal until a property changes.

    Args:
        environ: The environment of the new process.
        without: Names of environment variables to ignore.
    """
    root = os.stat("/")
    return (
        # Session and process group as well, because a terminal sends its signals to them.
        os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getsid(0), os.getpgrp(),
        os.getpriority(os.PRIO_PROCESS, 0),
        *map(resource.getrlimit, _LIMITS),
        _file_of(1), _file_of(2), root.st_dev, root.st_ino,
        *(item for item in sorted(environ.items()) if item[0].startswith(_READ_AT_START) and item[0] not in without),
        *_lines("/proc/self/status", _STATUS), *_lines("/proc/self/cgroup", ""),
        *_lines("/proc/self/oom_score_adj", ""), *_scheduling(),
    )  # fmt: skip


def _scheduling() -> tuple[int, ...]:
    """Return the scheduling policy and priority of this process; empty on systems without scheduling policies."""
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
    except OSError:  # not Linux, or access is denied
        return []
