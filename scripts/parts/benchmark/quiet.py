"""Whether other programs use the machine: CPU time of their processes and steal, since the previous look.

The benchmark's own processes do not count. They inherit an environment variable that identifies them,
even if a peer leaves them without a parent.
"""

import contextlib
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import psutil

MARK = "MPQUEUE_BENCHMARK"  # the process id of the benchmark, in the environment of all measurements
MOST_OF_A_CPU, MOST_STEAL = 0.05, 0.01
FIRST_LOOK_S = 2.0


class LoadedError(RuntimeError):
    """Other programs use the machine."""


class Used(NamedTuple):
    """The CPU seconds of a process, and whether it belongs to the benchmark."""

    name: str
    cpu_s: float
    is_own: bool


class Reading(NamedTuple):
    """The counters of the machine.

    Attributes:
        at_s: Time of the reading.
        all_s: Seconds of all CPUs, idle or not,
        steal_s: and the seconds that the host assigned to other machines.
        processes: The running processes, by process id and time of creation.
    """

    at_s: float
    all_s: float
    steal_s: float
    processes: dict[tuple[int, float], Used]


def read() -> Reading:
    """Read the counters of this machine."""
    machine, found = psutil.cpu_times(), {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # the process has just ended
            if process.status() == psutil.STATUS_ZOMBIE:  # without an environment, so it may be our own
                continue
            times = process.cpu_times()
            key = process.pid, process.create_time()
            found[key] = Used(process.name(), times.user + times.system, _is_own(process))
    guests = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)  # also counted as user time
    return Reading(time.monotonic(), sum(machine) - guests, getattr(machine, "steal", 0.0), found)


def _is_own(process: psutil.Process) -> bool:
    if process.pid == os.getpid() or not process.cmdline():  # threads of the kernel may work for the benchmark
        return True
    with contextlib.suppress(psutil.Error, OSError):  # the environment of another user's process cannot be read
        return process.environ().get(MARK) == str(os.getpid())
    return False


def loads(before: Reading, after: Reading) -> list[str]:
    """Return a description of each load between two readings that disturbs measurements."""
    passed, found = after.at_s - before.at_s, []
    for key, process in after.processes.items():
        used = process.cpu_s - (before.processes[key].cpu_s if key in before.processes else 0.0)
        if not process.is_own and used > MOST_OF_A_CPU * passed:
            found.append(f"{process.name} (process {key[0]}) {used / passed:.0%} of a CPU")
    steal = (after.steal_s - before.steal_s) / max(after.all_s - before.all_s, 1e-9)
    return [*found, f"steal {steal:.1%}"] if steal > MOST_STEAL else found


class Watch:
    """Checks for other programs, before the first round and after each.

    Args:
        warn: Called with a description of the loads; if None, they raise an error.
        read: Reads the counters.
        wait: Waits for a number of seconds before the first check.
    """

    def __init__(
        self,
        warn: Callable[[str], object] | None,
        read: Callable[[], Reading] = read,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._warn, self._read, self._last = warn, read, read()
        wait(FIRST_LOOK_S)
        self.check()

    def check(self) -> None:
        """Look at the time since the previous check.

        Raises:
            LoadedError: Other programs used the machine, and warnings are not enabled.
        """
        before, self._last = self._last, self._read()
        found = loads(before, self._last)
        if found:
            text = f"other programs use the machine: {'; '.join(found)}"
            if self._warn is None:
                raise LoadedError(text)
            self._warn(text)
