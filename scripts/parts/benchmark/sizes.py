"""Sizes of the batches of a source."""

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np

FEW, SAMPLE = 8, 64  # batches
ROOM = 1.25  # in addition to the largest of the sample, for batches that are not in it


def parts(batch: Any) -> Iterator[Any]:
    """Yield the arrays and strings in the dicts, tuples and lists of a batch."""
    if isinstance(batch, np.ndarray | bytes):
        yield batch
    elif isinstance(batch, dict | tuple | list):
        for value in batch.values() if isinstance(batch, dict) else batch:
            yield from parts(value)


def _sizes(batch: Any) -> Iterator[int]:
    return (len(part) if isinstance(part, bytes) else part.nbytes for part in parts(batch))


def array_bytes(batch: Any) -> int:
    """Return the bytes of the arrays and strings of a batch."""
    return sum(_sizes(batch))


def largest_part(batch: Any) -> int:
    """Return the bytes of the largest array or string."""
    return max(_sizes(batch), default=0)


def mean_bytes(source: Any) -> float:
    """Return the average bytes of the first batches."""
    return sum(array_bytes(source[index]) for index in range(FEW)) / FEW


def largest_bytes(source: Any) -> int:
    """Return the bytes that a queue needs for any pickled batch."""
    sample = SAMPLE if _pickled_bytes(source[0]) < 1 << 20 else FEW
    return int(ROOM * max(_pickled_bytes(source[index % len(source)]) for index in range(sample))) + 4096


def _pickled_bytes(batch: Any) -> int:
    return len(pickle.dumps(batch, pickle.HIGHEST_PROTOCOL))
