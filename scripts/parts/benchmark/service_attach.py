"""The time from `mpqueue.attach` to the first batch of a server that has batches ready."""

import multiprocessing
import time
from multiprocessing.connection import Connection

from parts.benchmark.served import Served, served
from parts.benchmark.workloads import WORKLOADS

NUM_PROCESSES, REPEATS = 5, 5
AHEAD = 10


def attaching(num_workers: int) -> dict[str, list[float]]:
    """Return milliseconds, of the first call in a process (which imports the modules) and of later calls."""
    found: dict[str, list[float]] = {"attach, first in its process": [], "attach": []}
    with served(WORKLOADS["tiny"].make, workers=num_workers, max_queue_size=AHEAD) as server:
        _in_a_process(server)  # the first consumer starts the epoch, and waits for the start of the workers
        for _ in range(NUM_PROCESSES):
            first, *later = _in_a_process(server)
            found["attach, first in its process"].append(first)
            found["attach"] += later
    return found


def _in_a_process(server: Served) -> list[float]:
    context = multiprocessing.get_context("fork")
    end, other = context.Pipe()
    process = context.Process(target=_attach, args=(server, other))
    process.start()
    other.close()
    try:
        return list(end.recv())
    finally:
        process.join()
        end.close()


def _attach(server: Served, end: Connection) -> None:
    times = []
    for _ in range(1 + REPEATS):
        began = time.perf_counter()
        batches = server.batches()
        next(batches)
        times.append(1e3 * (time.perf_counter() - began))
        batches.close()  # leaves the server
    end.send(times)
