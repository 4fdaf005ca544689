"""Allocated shared memory into which a single process writes batch after batch: a ring without a consumer.

It has two slots in turn, like a worker with a consumer: one is written while the other one is read.
"""

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.sizes import array_bytes, parts

NUM_SLOTS, ALIGNMENT = 2, 64


class Slots:
    """Two slots of shared memory.

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


def into_slots(source: Any) -> Callable[[int], Any]:
    """Return a function that computes a batch and copies its arrays into a slot."""
    room = Slots(2 * array_bytes(source[0]))

    def produce(index: int) -> None:
        room.begin()
        for array in parts(source[index]):
            np.copyto(room.empty(array.shape, array.dtype), array)

    return produce


def written_in_slots(source: Any) -> Callable[[int], Any]:
    """Return a function that computes a batch in its slot. It changes `mpqueue.empty` for the whole process."""
    room = Slots(2 * array_bytes(source[0]))
    mpqueue.empty = room.empty  # type: ignore[assignment]

    def produce(index: int) -> None:
        room.begin()
        source[index]

    return produce
