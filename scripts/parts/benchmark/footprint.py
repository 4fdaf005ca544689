"""CPU time and memory of this process and of its descendants."""

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

import psutil

MB = 1e6


class Memory(NamedTuple):
    """Proportional memory in MB: a page that n processes share counts as 1/n in each.

    Attributes:
        total: All memory,
        shared: and its part in shared memory, such as the slots of a ring.
    """

    total: float
    shared: float


def memory() -> Memory | None:
    """Return the memory of these processes together, or None if the system does not report it (outside Linux)."""
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    total = shared = 0.0
    for process in _family():
        with contextlib.suppress(OSError):  # the process has just ended
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
            found = {line.split()[0]: int(line.split()[1]) for line in lines}
            total += found["Pss:"] * 1024 / MB
            shared += found["Pss_Shmem:"] * 1024 / MB
    return Memory(total, shared)


def cpu_seconds() -> tuple[float, float]:
    """Return the CPU seconds of this process, with all its threads, and of its descendants."""
    descendants = 0.0
    for process in _family()[1:]:
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            descendants += used.user + used.system
    return time.process_time(), descendants


def _family() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]
