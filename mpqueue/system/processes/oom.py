"""Kills by the kernel's out-of-memory killer, according to its counters.

The kernel counts a kill in the victim's memory cgroup before it sends the signal: in ``memory.events`` (version 2) or
``memory.oom_control`` (version 1), and for the whole machine in ``/proc/vmstat``. Workers are in the trainer's cgroup.
So a worker that SIGKILL ended was a victim if the count has increased since the last check.
"""

import functools

from mpqueue.system.processes import limits

_MACHINE = "/proc/vmstat"


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
        # By one, not to the present count: several workers may have been killed, and each is checked once.
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


@functools.cache  # a process does not change its cgroup
def find_counter() -> str | None:
    """Return the file that counts the kills among this process and its workers; None if the kernel has no counter."""
    own = (
        f"{group}/{name}"
        for group in limits.control_groups("memory")
        for name in ("memory.events", "memory.oom_control")
    )
    # The nearest group first: it counts the fewest kills of other programs.
    return next((path for path in (*own, _MACHINE) if "oom_kill " in _text_of(path)), None)


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
