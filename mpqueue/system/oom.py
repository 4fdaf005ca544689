"""Kills by the kernel's out-of-memory killer, according to its counters.

The kernel counts a kill in the victim's memory cgroup before it sends the signal: in ``memory.events`` (version 2) or
``memory.oom_control`` (version 1), and for the whole machine in ``/proc/vmstat``. Workers are in the trainer's cgroup.
So a worker that SIGKILL ended was a victim if the count has increased since the last check.
"""

import functools
import os


class OomCounter:
    """A counter of the kills that are not attributed yet.

    Args:
        path: The counter's file, as returned by `find_counter`; or None.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._seen = self._read()

    def take_kill(self) -> bool:
        """Return True if there was a new kill, and count it as attributed."""
        if self._read() <= self._seen:
            return False
        self._seen += 1
        return True

    def _read(self) -> int:
        return 0 if self._path is None else parse_kills(_text_of(self._path))


def parse_kills(text: str) -> int:
    """Return the count in the text of ``memory.events``, ``memory.oom_control`` or ``/proc/vmstat``."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.strip().isdecimal():
            return int(number)
    return 0


@functools.cache  # a process does not change its cgroup, and the search takes 0.2 ms at each start
def find_counter(proc: str = "/proc") -> str | None:
    """Return the file that counts the kills among this process and its workers; None if the kernel has no counter."""
    for path in (
        *_cgroup_counters(_text_of(f"{proc}/self/cgroup"), _text_of(f"{proc}/self/mountinfo")),
        f"{proc}/vmstat",
    ):
        if "oom_kill " in _text_of(path):
            return path
    return None


def _cgroup_counters(cgroups: str, mounts: str) -> list[str]:
    """Return the possible counter files of this process's memory cgroup; version 1 is first if it is in use."""
    version_1, version_2 = [], []
    for line in cgroups.splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            version_1 += [f"{folder}/memory.oom_control" for folder in _folders(mounts, "cgroup", path)]
        elif number == "0":
            version_2 += [f"{folder}/memory.events" for folder in _folders(mounts, "cgroup2", path)]
    return version_1 + version_2


def _folders(mounts: str, kind: str, path: str) -> list[str]:
    """Return the folders of a cgroup in all mounts of such a hierarchy; see proc(5) on mountinfo."""
    folders = []
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, mounted_at = before.split()[3:5]
        words = after.split()
        if words[0] != kind or (kind == "cgroup" and "memory" not in words[2].split(",")):
            continue
        inside = path
        if root != "/":  # in a container, which sees only its part of the tree
            inside = path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else ""
        folders.append(os.path.normpath(f"{mounted_at}/{inside}"))
    return folders


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
