"""This process with its descendants, their CPU time and memory, children that must not outlive it, and waits."""

import contextlib
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import psutil

MB = 1e6


def family() -> list[psutil.Process]:
    """Return this process and its descendants."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def memory_of(process: psutil.Process) -> dict[str, int]:
    """Return the bytes of each kind of proportional memory of a process, or nothing if it has just ended.

    A page that n processes share counts as 1/n in each.
    """
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
        return {line.split()[0]: int(line.split()[1]) * 1024 for line in lines}
    return {}


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
    kinds = [memory_of(process) for process in family()]
    return Memory(*(sum(each.get(kind, 0) for each in kinds) / MB for kind in ("Pss:", "Pss_Shmem:")))


def cpu_seconds() -> tuple[float, float]:
    """Return the CPU seconds of this process, with all its threads, and of its descendants."""
    descendants = 0.0
    for process in family()[1:]:
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            descendants += used.user + used.system
    return time.process_time(), descendants


def comes_true(condition: Callable[[], object], seconds: float, pause_s: float = 0.005) -> bool:
    """Wait for a condition that no event reports; return False if it is not true after some seconds."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(pause_s)
    return True


@contextlib.contextmanager
def forks(function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> Iterator[list[BaseProcess]]:
    """Call a function in a fork of this process for each tuple of arguments, and kill the forks at the end."""
    context = multiprocessing.get_context("fork")
    running: list[BaseProcess] = [context.Process(target=function, args=args, daemon=True) for args in arguments]
    for process in running:
        process.start()
    try:
        yield running
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.join()


def killed_with_parent(command: list[str]) -> list[str]:
    """Return a command line for a process that is killed when its parent ends, even by SIGKILL.

    The parent is the thread that starts the process, so this thread must live as long. Without `setpriv`, as on macOS,
    the command is returned unchanged.
    """
    return ["setpriv", "--pdeathsig", "KILL", *command] if shutil.which("setpriv") else command
