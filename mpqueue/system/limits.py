"""The kernel's limits for this process's CPUs and memory.

A control group (cgroup) may allow less than the machine has. Version 2 has one tree, where the limits of all ancestors
apply to a group; version 1 has one tree per kind of limit. In a container, the root of the tree is the container's
group.
"""

import contextlib
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mpqueue.system.cpus import num_cpus

CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cpu_quota() -> float | None:
    """Return the number of CPUs that the control groups allow this process to use; None for no limit."""
    quotas = []
    for group in control_groups("cpu"):
        if words := _words(group / "cpu.max"):
            quotas += [int(words[0]) / int(words[1])] if words[0] != "max" else []
        elif words := _words(group / "cpu.cfs_quota_us"):
            period = _words(group / "cpu.cfs_period_us")
            quotas += [int(words[0]) / int(period[0])] if period and int(words[0]) > 0 else []
    return min(quotas, default=None)


class GroupMemory(NamedTuple):
    """The memory of a control group.

    Attributes:
        limit: Bytes that the group may use.
        room: Bytes that it may still use. The file cache does not count as used, because the kernel drops it first.
    """

    limit: int
    room: int


def group_memory() -> GroupMemory | None:
    """Return the memory of this process's control group with the least room; None if no group has a limit."""
    groups = []
    for group in control_groups("memory"):
        names = ("memory.max", "memory.current", ("inactive_file", "active_file"))
        limit = _words(group / names[0])
        if not limit:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
            limit = _words(group / names[0])
        if not limit or limit[0] == "max" or int(limit[0]) >= 1 << 60:  # version 1: a huge number means no limit
            continue
        used, words = _words(group / names[1]), _words(group / "memory.stat")
        if used:
            cached = sum(int(words[words.index(name) + 1]) for name in names[2] if name in words)
            groups.append(GroupMemory(int(limit[0]), max(0, int(limit[0]) - int(used[0]) + cached)))
    return min(groups, key=operator.attrgetter("room"), default=None)


def free_memory() -> int:
    """Return the bytes that this process and its children may still use, on the machine and in its control groups."""
    import psutil

    left, group = psutil.virtual_memory().available, group_memory()
    return int(left if group is None else min(left, group.room))


def useful_workers() -> int:
    """Return the number of workers that can run at once under the affinity and the quota, at least 1."""
    quota = cpu_quota()
    return num_cpus() if quota is None else max(1, min(num_cpus(), int(quota + 0.5)))


def control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of their ancestors."""
    with contextlib.suppress(OSError):
        # Not `read_text`: it looks the codec up in Python code, under the import lock. A signal handler that raises in
        # the main thread can leave that lock held, and this thread would wait for it forever.
        for line in _OWN.read_bytes().decode("ascii", "replace").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            root = CGROUPS / controller if controllers else CGROUPS
            group = root / path.lstrip("/")
            while True:
                yield group
                if group == root or root not in group.parents:
                    break
                group = group.parent


def _words(file: Path) -> list[str]:
    try:
        return file.read_bytes().decode("ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
