"""The cost of an idle server: its consumers are attached, hold a batch, and request no other."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from parts.benchmark.served import Served, served
from parts.benchmark.trainers import running_trainers
from parts.benchmark.workloads import WORKLOADS

NUM_CONSUMERS, AHEAD = 4, 10
SETTLE_S = 1.0  # until all batches ahead are computed


class Used(NamedTuple):
    """Usage of processes since their start.

    Attributes:
        cpu_s: Seconds of CPU time,
        wake_ups: and number of voluntary context switches of all threads.
    """

    cpu_s: float
    wake_ups: int


def idle(num_workers: int, seconds: float) -> dict[str, float]:
    """Return the usage of the server with its workers, and of its consumers, within ``seconds``."""
    options: dict[str, Any] = {
        "mode": "broadcast",
        "world": NUM_CONSUMERS,
        "workers": num_workers,
        "max_queue_size": AHEAD,
    }
    with (
        served(WORKLOADS["tiny"].make, **options) as server,
        running_trainers(NUM_CONSUMERS, lambda _: _one_batch(server)) as trainers,
    ):
        if not trainers.await_batches(1):
            raise RuntimeError(f"expected one batch for each consumer, got {list(trainers.counts)}")
        time.sleep(SETTLE_S)
        serving = [server.pid, *(child.pid for child in psutil.Process(server.pid).children(recursive=True))]
        watched = {"server": serving, "consumers": [process.pid for process in trainers.processes]}
        before = {who: used(pids) for who, pids in watched.items()}
        time.sleep(seconds)
        after = {who: used(pids) for who, pids in watched.items()}
        cpu_s = {f"CPU seconds of {who}": after[who].cpu_s - before[who].cpu_s for who in watched}
        return cpu_s | {f"wake-ups of {who}": after[who].wake_ups - before[who].wake_ups for who in watched}


def _one_batch(server: Served) -> Iterator[Any]:
    batches = server.batches()
    yield next(batches)
    signal.pause()  # until killed


def used(pids: list[int]) -> Used:
    """Return the usage of these processes with all their threads."""
    cpu_ns = wake_ups = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError):  # the thread has just ended
                folder = Path(f"/proc/{pid}/task/{thread}")
                cpu_ns += int((folder / "schedstat").read_text().split()[0])
                (line,) = [line for line in (folder / "status").read_text().splitlines() if line.startswith("vol")]
                wake_ups += int(line.split()[1])
    return Used(cpu_ns / 1e9, wake_ups)
