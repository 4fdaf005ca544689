"""Shared memory whose pages are there, into which a lone process writes batch after batch: a ring without a consumer.

Two slots in turn, as a worker needs them while a consumer reads: one is written while the other one is read.
"""

import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.sizes import array_bytes

NUM_SLOTS, ALIGNMENT = 2, 64


class Slots:
    """Two slots of shared memory.

    Args:
        nbytes: Of each.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes, self.offset, self.turn = nbytes + (1 << 16), 0, 0
        self.memory = np.frombuffer(mmap.mmap(-1, NUM_SLOTS * self.nbytes), np.uint8)
        self.memory[:] = 0  # every page is there

    def begin(self) -> None:
        """The next batch goes into the other slot."""
        self.turn = (self.turn + 1) % NUM_SLOTS
        self.offset = self.turn * self.nbytes

    def empty(self, shape: int | tuple[int, ...], dtype: Any = float) -> np.ndarray:
        """Room for an array."""
        wanted = np.dtype(dtype)
        count = int(np.prod(shape))
        begin = self.offset
        self.offset += -(-count * wanted.itemsize // ALIGNMENT) * ALIGNMENT
        return np.frombuffer(self.memory, wanted, count, begin).reshape(shape)


def into_slots(source: Any) -> Callable[[int], Any]:
    """Compute a batch and copy what it holds."""
    room = Slots(2 * array_bytes(source[0]))

    def produce(index: int) -> None:
        room.begin()
        for array in _arrays(source[index]):
            np.copyto(room.empty(array.shape, array.dtype), array)

    return produce


def written_in_slots(source: Any) -> Callable[[int], Any]:
    """Compute a batch where it is to lie. Only in a process of its own: what `mpqueue.empty` means there is changed."""
    room = Slots(2 * array_bytes(source[0]))
    mpqueue.empty = room.empty  # type: ignore[assignment]

    def produce(index: int) -> None:
        room.begin()
        source[index]

    return produce


def _arrays(batch: Any) -> Iterator[np.ndarray]:
    if isinstance(batch, np.ndarray):
        yield batch
    else:
        for value in batch.values() if isinstance(batch, dict) else batch:
            yield from _arrays(value)
