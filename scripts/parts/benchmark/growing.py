"""Measures one point of a curve: mpqueue at one size, length or number, in a process of its own."""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.consuming import count, warm_up
from parts.benchmark.feeds import feed_mpqueue
from parts.benchmark.sources import Copies, Source

MOST_RING_BYTES, DEEPEST = 1 << 30, 256
SLEEP_S, MANY_WORKERS = 0.005, 16
MOST_OFFERED = 128_000
SMALL_AHEAD = 64
LARGE_BYTES, LARGE_AHEAD, SETTLED = 77_000_000, 10, 100
START, TRAINER = "s to an epoch's start", "µs of the trainer's CPU per batch"


class Sleeping(Source):
    """Batches that are waited for and need no CPU.

    Args:
        seconds: How long each.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.batch = seconds, np.zeros(16, np.float32)

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(self.seconds)
        return self.batch.copy()


class Finite(Copies):
    """Tiny batches, a number of them in an epoch.

    Args:
        length: How many.
    """

    def __init__(self, length: int) -> None:
        super().__init__(np.zeros(16, np.float32))
        self.length = length

    def __len__(self) -> int:
        return self.length


def batch_size(nbytes: float, num_workers: int, seconds: float) -> dict[str, float]:
    """Batches of one array; as many are computed ahead as a ring of 1 GiB has room for."""
    ahead = int(min(max(MOST_RING_BYTES // nbytes, 2), DEEPEST))
    found = _rate(Copies(np.ones(int(nbytes), np.uint8)), num_workers, ahead, seconds)
    return found | {"GB/s": found["batches/s"] * nbytes / 1e9}


def sleeping_workers(workers: float, _num_workers: int, seconds: float) -> dict[str, float]:
    """Beside what that many workers would give without any cost of handing over."""
    found = _rate(Sleeping(SLEEP_S), int(workers), 4 * int(workers), seconds)
    return found | {"batches/s at best": workers / SLEEP_S}


def saturating_workers(workers: float, _num_workers: int, seconds: float) -> dict[str, float]:
    """More than can be served, of so many workers."""
    return _rate(Sleeping(workers / MOST_OFFERED), int(workers), 8 * int(workers), seconds)


def first_batches(number: float, num_workers: int, _seconds: float) -> dict[str, float]:
    """The rate of the first batches of a pool, beside that of later ones, and the slots that have memory at the end."""
    with mpqueue.OrderedEnqueuer(Copies(np.ones(LARGE_BYTES, np.uint8)), use_multiprocessing=True) as enqueuer:
        enqueuer.start(num_workers, LARGE_AHEAD)
        batches = enqueuer.get()
        next(batches)  # comes when the workers have started
        first = _gigabytes_per_second(batches, int(number) - 1)
        _gigabytes_per_second(batches, SETTLED - int(number))
        later = _gigabytes_per_second(batches, SETTLED // 2)
        slots = enqueuer.statistics().ring_bytes / LARGE_BYTES
    return {"GB/s": first, "GB/s at best": later, "slots": slots}


def _gigabytes_per_second(batches: Iterator[Any], number: int) -> float:
    began = time.perf_counter()
    for _ in range(number):
        next(batches)
    return number * LARGE_BYTES / 1e9 / (time.perf_counter() - began)


def ring_depth(depth: float, num_workers: int, seconds: float) -> dict[str, float]:
    """Tiny batches, so many ahead."""
    return _rate(Copies(np.zeros((32, 16), np.float32)), num_workers, int(depth), seconds)


def arrays_per_batch(arrays: float, num_workers: int, seconds: float) -> dict[str, float]:
    """Arrays of 64 bytes, so many in a batch."""
    return _rate(Copies(*(np.zeros(16, np.float32) for _ in range(int(arrays)))), num_workers, SMALL_AHEAD, seconds)


def dataset_length(length: float, num_workers: int, seconds: float) -> dict[str, float]:
    """Batches per second, and the seconds from `start` with parked workers to the first batch of a shuffled epoch."""
    enqueuer = mpqueue.OrderedEnqueuer(Finite(int(length)), use_multiprocessing=True, shuffle=True)
    for _ in range(2):  # the second time, the workers are there
        enqueuer.stop()
        began = time.perf_counter()
        enqueuer.start(num_workers, SMALL_AHEAD)
        next(enqueuer.get())
        started_s = time.perf_counter() - began
    with enqueuer:
        batches = enqueuer.get()
        warm_up(batches, SMALL_AHEAD)
        return _told(count(batches, seconds)) | {START: started_s}


def epochs(number: float, num_workers: int, _seconds: float) -> dict[str, float]:
    """Batches per second over all of the epochs."""
    length = 256
    with feed_mpqueue(Finite(length), num_workers, SMALL_AHEAD) as batches:
        warm_up(itertools.islice(batches, length), length)
        began = time.perf_counter()
        for _ in range(int(number) * length):
            next(batches)
        return {"batches/s": number * length / (time.perf_counter() - began)}


def enqueuers(number: float, _num_workers: int, seconds: float) -> dict[str, float]:
    """Enqueuers of tiny batches, one worker each."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(feed_mpqueue(Copies(np.zeros((32, 16), np.float32)), 1, SMALL_AHEAD))
            for _ in range(int(number))
        ]
        in_turn: Iterator[Any] = (next(batches) for batches in itertools.cycle(running))
        warm_up(in_turn, SMALL_AHEAD * len(running))
        return _told(count(in_turn, seconds))


def dispatcher(offered: float, _num_workers: int, seconds: float) -> dict[str, float]:
    """Sixteen workers that together would give so many batches per second."""
    return _rate(Sleeping(MANY_WORKERS / offered), MANY_WORKERS, 8 * MANY_WORKERS, seconds)


def _rate(source: Any, num_workers: int, ahead: int, seconds: float) -> dict[str, float]:
    with feed_mpqueue(source, num_workers, ahead) as batches:
        warm_up(batches, 2 * ahead)
        return _told(count(batches, seconds))


def _told(counted: dict[str, float]) -> dict[str, float]:
    return {"batches/s": counted["rate"], TRAINER: 1e3 * counted["trainer_ms"]}
