"""Sources of samples that show their index and the random numbers that they drew."""

import random
from typing import Any

import numpy as np

import mpqueue


class Drawing:
    """Samples with their index and a number of each generator."""

    def __init__(self, length: int = 103) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return drawing(index)


def drawing(index: int) -> dict[str, Any]:
    """Return a sample with its index and random numbers."""
    numbers = [random.random(), np.random.random(), mpqueue.rng().random()]
    return {"index": index, "numbers": np.array(numbers)}


def pair(index: int) -> tuple[int, int]:
    """Return a sample of its index and a random number."""
    return index, int(mpqueue.rng().integers(1 << 40))


def copied(batch: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the contents of a batch, which can be compared."""
    return {name: np.asarray(values).tolist() for name, values in batch.items()}


def indices(batch: dict[str, Any]) -> tuple[int, ...]:
    """Return the indices of the samples in a batch."""
    return tuple(np.asarray(batch["index"]).tolist())
