"""Limits of the machine, measured in the same rounds: no delivery of batches can be much faster."""

import itertools
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from parts.benchmark.shared_slots import into_slots, written_in_slots
from parts.benchmark.sizes import array_bytes
from parts.children import forks

WARM_UP_S = 0.2


def memcpy(source: Any, _num_workers: int, seconds: float) -> float:
    """Return the batches per second that one thread copies between arrays with allocated pages."""
    batch = np.ones(array_bytes(source[0]), np.uint8)
    there = np.empty_like(batch)
    return _rate(lambda _: np.copyto(there, batch), seconds)


def processes(source: Any, num_workers: int, seconds: float) -> float:
    """Return the total batches per second that independent processes compute and discard."""
    return _together(_thrown_away, source, num_workers, seconds)


def slots(source: Any, num_workers: int, seconds: float) -> float:
    """The same, but each process copies its batches into shared memory with allocated pages."""
    return _together(into_slots, source, num_workers, seconds)


def shared_writes(source: Any, num_workers: int, seconds: float) -> float:
    """The same, but arrays of `mpqueue.empty` are allocated in the shared memory."""
    return _together(written_in_slots, source, num_workers, seconds)


def _thrown_away(source: Any) -> Callable[[int], Any]:
    return source.__getitem__


def _together(make: Callable[[Any], Callable[[int], Any]], source: Any, num_workers: int, seconds: float) -> float:
    context = multiprocessing.get_context("fork")
    start, rates = context.Barrier(num_workers), context.SimpleQueue()
    with forks(_produce, [(make, source, seconds, start, rates)] * num_workers):
        return sum(rates.get() for _ in range(num_workers))


def _produce(make: Callable[[Any], Any], source: Any, seconds: float, start: Any, rates: Any) -> None:
    act = make(source)
    start.wait()
    rates.put(_rate(act, seconds))


def _rate(act: Callable[[int], Any], seconds: float) -> float:
    began = time.perf_counter()
    counted, count_from = 0, began + WARM_UP_S
    for index in itertools.count():
        act(index)
        now = time.perf_counter()
        if now < count_from:
            began = now
        else:
            counted += 1
            if now - began >= seconds:
                return counted / (now - began)
    raise AssertionError("count() has no end")


FLOORS = {"memcpy": memcpy, "processes": processes, "slots": slots, "shared writes": shared_writes}
