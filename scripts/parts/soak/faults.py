"""Faults inside a worker, once, at an index that the seed determines; and faults from outside, at any moment."""

import contextlib
import os
import random
import signal
import stat
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import psutil


class Lethal:
    """An object that kills the process that pickles it, while its batch is being written."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def _garbage() -> None:
    """Write random bytes to every writable pipe, like code that confuses its descriptors."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd <= 2 or fd == resource_tracker._resource_tracker._fd:  # Python's own, which forked workers inherit
            continue
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.set_blocking(fd, False)
                os.write(fd, random.randbytes(random.randrange(1, 300)))
    time.sleep(60)  # this worker is ended long before that


def _signal_of(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


IN_WORKER: dict[str, Callable[[], Any]] = {
    "worker exits with 0": lambda: os._exit(0),
    "worker exits with 1": lambda: os._exit(1),
    "worker is killed while it computes": _signal_of(signal.SIGKILL),
    "worker gets SIGTERM while it computes": _signal_of(signal.SIGTERM),
    "worker is killed while it publishes": Lethal,
    "worker writes to a wrong descriptor": _garbage,
}


def strike(folder: str, seed: int, epoch: int, index: int, one_in: int) -> Any:
    """Cause the fault of this index, once: return an object for the batch, or do not return at all."""
    chance = random.Random(f"{seed} {epoch} {index}")
    if chance.randrange(one_in):
        return None
    kind = chance.choice(list(IN_WORKER))
    try:
        os.close(os.open(f"{folder}/{kind}, {epoch}-{index}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return None
    return IN_WORKER[kind]()


def struck(folder: str) -> list[str]:
    """Return the kinds of the faults that have happened, once per fault."""
    return [path.name.rpartition(",")[0] for path in Path(folder).iterdir() if "," in path.name]


def kill_from_outside(chance: random.Random) -> str | None:
    """Kill a worker, or sometimes the fork server, of this process; return the kind of the fault."""
    fork_servers, workers = [], []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if any("backends.start.fork_server" in word for word in process.cmdline()):
                fork_servers.append(process)
                workers += process.children()
    victims = fork_servers if chance.randrange(6) == 0 else workers
    if not victims:
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        chance.choice(victims).kill()
    return "fork server killed" if victims is fork_servers else "worker killed from outside"
