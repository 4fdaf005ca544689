"""The kernel's limits for this process's CPUs and memory.

A control group (cgroup) may allow less than the machine has. Version 2 has one tree, where the limits of all ancestors
apply to a group; version 1 has one tree per kind of limit. A tree may be mounted in any folder. In a container, the
root of the mounted tree is the container's group.
"""

import functools
import operator
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mpqueue.system.processes.cpus import num_cpus

_OWN = Path("/proc/self/cgroup")
_MOUNTS = Path("/proc/self/mountinfo")


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


def control_groups(controller: str) -> tuple[Path, ...]:
    """Return the folders of this process's control groups and of their ancestors, the nearest first."""
    return _folders(controller, _text(_OWN), _MOUNTS)


@functools.lru_cache(maxsize=8)  # a machine may have thousands of mounts; control group mounts do not change
def _folders(controller: str, own: str, mounts: Path) -> tuple[Path, ...]:
    folders: dict[Path, None] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        group = PurePosixPath(path)
        for top, root in _mounted(mounts, controller if controllers else None):
            # A group outside the mounted part of the tree: the limits of the part's top are the nearest ones to read.
            inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
            below = PurePosixPath() if ".." in inside.parts else inside
            folders.update(dict.fromkeys((top / below, *(top / parent for parent in below.parents))))
    return tuple(folders)


def _mounted(mounts: Path, controller: str | None) -> Iterator[tuple[Path, str]]:
    """Yield where the tree of a controller is mounted, and its group there; None: the tree of version 2."""
    for line in _text(mounts).splitlines():
        before, _, after = line.partition(" - ")  # see proc_pid_mountinfo(5)
        kind, _, rest = after.partition(" ")
        options = rest.rpartition(" ")[2].split(",")
        if kind == "cgroup2" if controller is None else kind == "cgroup" and controller in options:
            root, position = (_unescaped(word) for word in before.split(" ")[3:5])
            yield Path(position), root


def _unescaped(word: str) -> str:
    """Return a path of mountinfo with its spaces, tabs, newlines and backslashes, which are octal numbers there."""
    for character in " \t\n\\":
        word = word.replace(f"\\{ord(character):03o}", character)
    return word


def _words(file: Path) -> list[str]:
    return _text(file).split()


def _text(file: Path) -> str:
    try:
        # Not `read_text`: it looks the codec up in Python code, under the import lock. A signal handler that raises in
        # the main thread can leave that lock held, and this thread would wait for it forever.
        return file.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""
