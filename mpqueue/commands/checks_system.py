"""Checks of the kernel, of CPUs, and of the limits of processes."""

import contextlib
import os
import platform
import resource

from mpqueue.commands.findings import Check, Finding, size
from mpqueue.system import limits, platform_support
from mpqueue.system.cpus import num_cpus

_FEW_FILES, _FILES = 64, 1024
_PER_WORKER = 4  # descriptors of the trainer: two pipes, a pidfd, and one while it starts


def kernel() -> Finding:
    """Name the system."""
    name = f"{platform.system()} {platform.release()}, {platform.machine()}"
    if platform_support.IS_LINUX:
        return Finding("kernel", "ok", name)
    return Finding(
        "kernel",
        "note",
        f"{name}: loaders, enqueuers and queues work, servers (mpqueue.Server, mpqueue.attach) need Linux",
        "run servers on Linux",
    )


def pidfd() -> Finding | None:
    """Open a descriptor of this process, by which a death is seen at once."""
    if not platform_support.IS_LINUX:
        return None
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Finding(
            "pidfd",
            "problem",
            f"the kernel refuses pidfd_open ({error.strerror}): the deaths of consumers cannot be seen",
            "use Linux 5.3 or later; in a container, a seccomp profile that allows pidfd_open (Docker 20.10 or later)",
        )
    return Finding("pidfd", "ok", "the end of a process is seen at once")


def proc() -> Finding | None:
    """Look into /proc."""
    if not platform_support.IS_LINUX:
        return None
    try:
        os.listdir("/proc/self/fd")
    except OSError as error:
        return Finding(
            "proc",
            "problem",
            f"/proc/self/fd cannot be read ({error.strerror}): servers cannot pass on their memory",
            "mount /proc (mount -t proc proc /proc)",
        )
    return Finding("proc", "ok", "/proc is mounted")


def cpus() -> Finding:
    """Compare the CPUs that the machine has, that this process may run on, and whose time it gets."""
    there, allowed, quota = os.cpu_count() or 1, num_cpus(), limits.cpu_quota()
    found = f"{there} CPUs" if allowed == there else f"{allowed} of {there} CPUs (affinity)"
    if quota is not None and quota < allowed:
        workers = limits.useful_workers()
        return Finding(
            "cpus",
            "note",
            f"{found}, but the time of {quota:g} (control group): more workers than that wait for each other",
            f"pass workers={workers}: a Loader's default would be {allowed}; or raise the quota (docker run --cpus)",
        )
    if allowed < there:
        return Finding(
            "cpus", "note", f"{found}: workers share these", "if that is not wanted, start without taskset or --cpuset"
        )
    return Finding("cpus", "ok", found)


def load() -> Finding:
    """Compare the number of runnable processes with the CPUs."""
    now, allowed = os.getloadavg()[0], num_cpus()
    found = f"{now:.1f} processes want a CPU, of {allowed}"
    if now > 1.2 * allowed:
        return Finding("load", "note", found, "see with `top` who else computes: workers get what that leaves")
    return Finding("load", "ok", found)


def files() -> Finding:
    """Compare the limit of open files with what workers need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 32 + _PER_WORKER * num_cpus()
    found = f"{_limit(soft)} open files per process; a loader with a worker per CPU needs some {needed}"
    if hard == resource.RLIM_INFINITY or hard > soft:
        remedy = f"ulimit -n {65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)}"
    else:
        remedy = "a higher limit in /etc/security/limits.conf; in a container, docker run --ulimit nofile=65536"
    if soft != resource.RLIM_INFINITY and soft < max(_FEW_FILES, needed):
        return Finding("open files", "problem", found, remedy)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        return Finding("open files", "note", found, remedy)
    return Finding("open files", "ok", found)


def processes() -> Finding:
    """Compare the limit of processes and threads with those that the user has."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY:
        return Finding("processes", "ok", "any number")
    used, needed = _num_threads_of_user(), 2 + num_cpus()
    found = f"{soft:,} processes and threads for this user, {used:,} are there"
    if os.geteuid() and soft - used < needed:
        return Finding("processes", "problem", f"{found}: a worker per CPU needs {needed}", "ulimit -u, or end some")
    return Finding("processes", "ok", found)


def address_space() -> Finding:
    """Look at the limits of address space and of the size of files, which bound the ring."""
    space, file = resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    bounds = []
    if space != resource.RLIM_INFINITY:
        bounds.append(f"{size(space)} of address space (ulimit -v): the ring of a loader gets a quarter")
    if file != resource.RLIM_INFINITY:
        bounds.append(f"files of {size(file)} (ulimit -f): the ring is one")
    if bounds:
        return Finding("address space", "note", "; ".join(bounds), "ulimit -v unlimited; ulimit -f unlimited")
    return Finding("address space", "ok", "unlimited")


def _limit(value: int) -> str:
    return "any number of" if value == resource.RLIM_INFINITY else f"{value:,}"


def _num_threads_of_user() -> int:
    """Count the threads of all processes of this user."""
    import psutil

    found = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            if process.uids().real == os.getuid():
                found += process.num_threads()
    return found


CHECKS: tuple[Check, ...] = (kernel, pidfd, proc, cpus, load, files, processes, address_space)
