"""The consumer's view of a feed: its rate, its costs, and the fraction of time that a training loop waits."""

import time
from collections.abc import Iterator
from typing import Any

from parts.benchmark.floors import WARM_UP_S
from parts.benchmark.workload import RATE, Feed, Figures
from parts.processes import cpu_seconds, memory

LONGEST_WARM_UP_S = 2.0
STEP_SHARE = 0.5  # of the counting time, for the view of the training loop


def consume(feed: Feed, source: Any, num_workers: int, ahead: int, seconds: float) -> dict[str, float]:
    """Run a feed from its start to its stop.

    Returns:
        By name: ``rate`` (batches per second); ``first_ms``, the time to the first batch of a cold start;
        ``trainer_ms`` and ``workers_ms`` of CPU time per batch; ``memory_mb``, the growth of the proportional memory of
        all processes, and ``shared_mb``, its part in shared memory (both if the system reports them); ``waiting``, the
        fraction of time that a training loop waits if its step takes as long as a batch; ``stop_ms``.
    """
    before = memory()
    began = time.perf_counter()
    with feed(source, num_workers, ahead) as batches:
        next(batches)
        found = {"first_ms": 1e3 * (time.perf_counter() - began)}
        warm_up(batches, 4 * ahead)
        found |= count(batches, seconds)
        running = memory()
        if before is not None and running is not None:
            found["memory_mb"] = running.total - before.total
            found["shared_mb"] = running.shared - before.shared
        found["waiting"] = _waiting(batches, 1 / found["rate"], STEP_SHARE * seconds)
        ended = time.perf_counter()
    found["stop_ms"] = 1e3 * (time.perf_counter() - ended)
    return found


def rate(batches: Iterator[Any], ahead: int, seconds: float) -> Figures:
    """Return only the batches per second of a running feed, after a warm-up of the batches ahead."""
    warm_up(batches, 4 * ahead)
    return {RATE: [count(batches, seconds)[RATE]]}


def warm_up(batches: Iterator[Any], num_batches: int) -> None:
    """Take at least ``num_batches`` batches, or slow batches for two seconds, but for at least 0.2 seconds."""
    began = time.perf_counter()
    for index, _ in enumerate(batches, 1):
        passed = time.perf_counter() - began
        if passed >= (WARM_UP_S if index >= num_batches else LONGEST_WARM_UP_S):
            break


def count(batches: Iterator[Any], seconds: float) -> dict[str, float]:
    """Return batches per second, and milliseconds of CPU time per batch: ``rate``, ``trainer_ms``, ``workers_ms``."""
    trainer, workers = cpu_seconds()
    began = time.perf_counter()
    counted, elapsed = 0, 0.0
    while elapsed < seconds:
        next(batches)
        counted += 1
        elapsed = time.perf_counter() - began
    trainer_now, workers_now = cpu_seconds()
    used = {"trainer_ms": 1e3 * (trainer_now - trainer), "workers_ms": 1e3 * (workers_now - workers)}
    return {"rate": counted / elapsed} | {name: spent / counted for name, spent in used.items()}


def _waiting(batches: Iterator[Any], step_s: float, seconds: float) -> float:
    """Return the fraction of time that a loop waits if it computes for ``step_s`` between two batches."""
    began = computed = time.perf_counter()
    waited = 0.0
    while computed - began < seconds:
        next(batches)
        there = time.perf_counter()
        waited += there - computed
        while (computed := time.perf_counter()) < there + step_s:
            pass
    return waited / (computed - began)
