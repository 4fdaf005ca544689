"""CPU time and memory of this process and of its descendants."""

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

import psutil

MB = 1e6


class Memory(NamedTuple):
    """Proportional memory, in MB: a page that n processes share counts for 1/n in each.

    Attributes:
        total: All of it,
        shared: and the part that lies in shared memory, as the slots of a ring do.
    """

    total: float
    shared: float


def memory() -> Memory | None:
    """Of all these processes together; None where the system does not tell (it is not Linux)."""
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    total = shared = 0.0
    for process in _family():
        with contextlib.suppress(OSError):  # it has just ended
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
            found = {line.split()[0]: int(line.split()[1]) for line in lines}
            total += found["Pss:"] * 1024 / MB
            shared += found["Pss_Shmem:"] * 1024 / MB
    return Memory(total, shared)


def cpu_seconds() -> tuple[float, float]:
    """Of this process, all its threads together, and of its descendants."""
    descendants = 0.0
    for process in _family()[1:]:
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            descendants += used.user + used.system
    return time.process_time(), descendants


def _family() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]
