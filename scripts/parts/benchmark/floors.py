"""Limits of the machine, measured in the same rounds: no delivery of batches can be much faster."""

import itertools
import mmap
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.sizes import array_bytes, parts
from parts.processes import forks

WARM_UP_S = 0.2
NUM_SLOTS, ALIGNMENT = 2, 64


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
    return _together(_into_slots, source, num_workers, seconds)


def shared_writes(source: Any, num_workers: int, seconds: float) -> float:
    """The same, but arrays of `mpqueue.empty` are allocated in the shared memory."""
    return _together(_written_in_slots, source, num_workers, seconds)


def _thrown_away(source: Any) -> Callable[[int], Any]:
    return source.__getitem__


class Slots:
    """Two slots of shared memory in turn: a ring without a consumer. One is written while the other one is read.

    Args:
        nbytes: Size of each.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes, self.offset, self.turn = nbytes + (1 << 16), 0, 0
        self.memory = np.frombuffer(mmap.mmap(-1, NUM_SLOTS * self.nbytes), np.uint8)
        self.memory[:] = 0  # allocates every page

    def begin(self) -> None:
        """Switch to the other slot."""
        self.turn = (self.turn + 1) % NUM_SLOTS
        self.offset = self.turn * self.nbytes

    def empty(self, shape: int | tuple[int, ...], dtype: Any = float) -> np.ndarray:
        """Return an array in the slot."""
        kind = np.dtype(dtype)
        count = int(np.prod(shape))
        begin = self.offset
        self.offset += -(-count * kind.itemsize // ALIGNMENT) * ALIGNMENT
        return np.frombuffer(self.memory, kind, count, begin).reshape(shape)


def _into_slots(source: Any) -> Callable[[int], Any]:
    """Return a function that computes a batch and copies its arrays into a slot."""
    room = Slots(2 * array_bytes(source[0]))

    def produce(index: int) -> None:
        room.begin()
        for array in parts(source[index]):
            np.copyto(room.empty(array.shape, array.dtype), array)

    return produce


def _written_in_slots(source: Any) -> Callable[[int], Any]:
    """Return a function that computes a batch in its slot. It changes `mpqueue.empty` for the whole process."""
    room = Slots(2 * array_bytes(source[0]))
    mpqueue.empty = room.empty  # type: ignore[assignment]

    def produce(index: int) -> None:
        room.begin()
        source[index]

    return produce


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
