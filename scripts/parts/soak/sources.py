"""Sources that yield the content and cause the faults."""

import asyncio
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import mpqueue
from parts.soak import content, faults


class Batches:
    """A sequence of batches.

    Args:
        seed: Seed of the content.
        length: Batches per epoch.
        folder: Folder with a record of the faults that have happened.
        one_in: One in ``one_in`` batches has a fault.
        in_slot: Whether arrays are created in the ring.
    """

    def __init__(self, seed: int, length: int, folder: str, *, one_in: int, in_slot: bool) -> None:
        self.seed, self.length, self.folder, self.one_in = seed, length, folder, one_in
        self.in_slot, self.version = in_slot, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        made = _made(self.seed, self.folder, self.one_in, index, self.version)
        return tuple(map(_in_slot, made)) if self.in_slot and isinstance(made, tuple) else made


class Awaited(Batches):
    """A sequence of batches that coroutines compute."""

    async def __getitem__(self, index: int) -> Any:
        await asyncio.sleep(0.0005 * (index % 3))
        return super().__getitem__(index)


def _in_slot(array: Any) -> Any:
    if not isinstance(array, np.ndarray):  # the object of a fault
        return array
    made = mpqueue.empty(array.shape, array.dtype)
    made[...] = array
    return made


class Changing(Batches):
    """A sequence that changes at the end of each epoch."""

    def on_epoch_end(self) -> None:
        """Count the epochs. Workers must receive the number before they compute the next epoch."""
        self.version += 1


def stream_of(seed: int, length: int, folder: str, one_in: int) -> Callable[[], Iterator[Any]]:
    """Return a generator function; worker ``id`` of ``n`` yields the batches id, id + n, id + 2 n, ..."""

    def stream() -> Iterator[Any]:
        info = mpqueue.worker_info()
        assert info is not None
        for index in range(info.id, length, info.num_workers):
            yield _made(seed, folder, one_in, index)

    return stream


def dataset_of(seed: int, length: int, folder: str, one_in: int) -> mpqueue.Dataset:
    """Return a dataset of the batches of `indices_of`, with their content."""
    return indices_of(length).map(functools.partial(_made, seed, folder, one_in))


def _made(seed: int, folder: str, one_in: int, index: int, version: int = 0) -> Any:
    """Return a batch, with an object that kills the process that pickles it if this is the fault of its index."""
    made = content.batch(seed, version, index)
    lethal = faults.strike(folder, seed, version, index, one_in)
    return made if lethal is None else (made, lethal)


def indices_of(length: int) -> mpqueue.Dataset:
    """Return a shuffled stream in lanes: two of three numbers."""
    return mpqueue.Dataset.range(length).filter(is_kept).shuffle(buffer=5)


def is_kept(index: int) -> bool:
    """Return whether a filter keeps a number."""
    return index % 3 > 0
