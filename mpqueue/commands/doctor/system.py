"""Checks of the kernel, of CPUs, and of the limits of processes."""

import contextlib
import os
import resource

from mpqueue.commands.doctor.findings import Finding, size
from mpqueue.system.processes import limits
from mpqueue.system.processes.cpus import num_cpus

_FEW_FILES, _FILES = 64, 1024
# In the trainer: the pipes of grants (both ends), reports and stacks, and a pidfd. A start needs three more.
_PER_WORKER = 5


def pidfd() -> Finding:
    """Open a pidfd of this process, which is used to detect the end of a process immediately."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Finding(
            "problem",
            f"the kernel refuses pidfd_open ({error.strerror}): crashes of consumers cannot be detected",
            "use Linux 5.3 or later; in a container, a seccomp profile that allows pidfd_open (Docker 20.10 or later)",
        )
    return Finding("ok", "the end of a process is detected immediately")


def proc() -> Finding:
    """Check that /proc can be read."""
    try:
        os.listdir("/proc/self/fd")
    except OSError as error:
        return Finding(
            "problem",
            f"/proc/self/fd cannot be read ({error.strerror}): servers cannot share their memory",
            "mount /proc (mount -t proc proc /proc)",
        )
    return Finding("ok", "/proc is mounted")


def cpus() -> Finding:
    """Compare the CPUs of the machine with the CPUs that this process may use, and with its quota."""
    total, allowed, quota = os.cpu_count() or 1, num_cpus(), limits.cpu_quota()
    found = f"{total} CPUs" if allowed == total else f"{allowed} of {total} CPUs (affinity)"
    if quota is not None and quota < allowed:
        workers = limits.useful_workers()
        return Finding(
            "note",
            f"{found}, but a quota of {quota:g} (control group): more workers than that wait for each other",
            f"pass workers={workers}: a Loader's default would be {allowed}; or raise the quota (docker run --cpus)",
        )
    if allowed < total:
        return Finding("note", f"{found}: workers share these", "to use all CPUs, start without taskset or --cpuset")
    return Finding("ok", found)


def load() -> Finding:
    """Compare the number of runnable processes with the CPUs."""
    now, allowed = os.getloadavg()[0], num_cpus()
    found = f"{now:.1f} runnable processes on {allowed} CPUs"
    if now > 1.2 * allowed:
        return Finding("note", found, "find other busy processes with `top`: workers get the remaining CPU time")
    return Finding("ok", found)


def files() -> Finding:
    """Compare the limit of open files with the number that workers need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 32 + _PER_WORKER * num_cpus()
    found = f"{_limit(soft)} open files per process; a loader with a worker per CPU needs about {needed}"
    if hard == resource.RLIM_INFINITY or hard > soft:
        remedy = f"ulimit -n {65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)}"
    else:
        remedy = "a higher limit in /etc/security/limits.conf; in a container, docker run --ulimit nofile=65536"
    if soft != resource.RLIM_INFINITY and soft < max(_FEW_FILES, needed):
        return Finding("problem", found, remedy)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        return Finding("note", found, remedy)
    return Finding("ok", found)


def processes() -> Finding:
    """Compare the limit of processes and threads with the number that the user has."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY:
        return Finding("ok", "unlimited")
    used, needed = _num_threads_of_user(), 2 + num_cpus()
    found = f"{used:,} of {soft:,} processes and threads of this user in use"
    if os.geteuid() and soft - used < needed:
        return Finding("problem", f"{found}: a worker per CPU needs {needed}", "raise `ulimit -u`, or end processes")
    return Finding("ok", found)


def address_space() -> Finding:
    """Check the limits of address space and of the size of files, which bound the ring."""
    space, file = resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    bounds = []
    if space != resource.RLIM_INFINITY:
        bounds.append(f"{size(space)} of address space (ulimit -v): the ring of a loader gets a quarter")
    if file != resource.RLIM_INFINITY:
        bounds.append(f"files of at most {size(file)} (ulimit -f), which limits the ring")
    if bounds:
        return Finding("note", "; ".join(bounds), "ulimit -v unlimited; ulimit -f unlimited")
    return Finding("ok", "unlimited")


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else f"{value:,}"


def _num_threads_of_user() -> int:
    """Count the threads of all processes of this user."""
    import psutil

    found = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            if process.uids().real == os.getuid():
                found += process.num_threads()
    return found
