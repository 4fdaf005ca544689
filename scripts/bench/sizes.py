"""How large the batches of a source are."""

import pickle
from typing import Any

import numpy as np

SAMPLE = 64  # batches
ROOM = 1.25  # beyond the largest of the sample, for what is not in it


def array_bytes(batch: Any) -> int:
    """Bytes of the arrays, and of the strings, that a batch holds in dicts, tuples and lists."""
    if isinstance(batch, dict):
        return sum(array_bytes(value) for value in batch.values())
    if isinstance(batch, tuple | list):
        return sum(array_bytes(value) for value in batch)
    if isinstance(batch, np.ndarray):
        return batch.nbytes
    return len(batch) if isinstance(batch, bytes) else 0


def largest_bytes(source: Any) -> int:
    """What a queue must have room for to take any batch, pickled."""
    sample = min(SAMPLE, len(source))
    first = len(pickle.dumps(source[0], pickle.HIGHEST_PROTOCOL))
    if first > 1 << 20:
        sample = min(sample, 8)
    return int(ROOM * max(len(pickle.dumps(source[index], pickle.HIGHEST_PROTOCOL)) for index in range(sample))) + 4096
