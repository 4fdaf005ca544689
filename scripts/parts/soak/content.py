"""The content of each batch: a function of the load's seed, the epoch and the index, equal in all processes."""

from typing import Any

import numpy as np

_DTYPES = ("u1", "<i4", "<f4", "<f8", ">i2", "<c8", "?", "S3")
_SMALL, _LARGE = 600, 300_000  # items; one batch in sixteen is large


def batch(seed: int, epoch: int, index: int) -> Any:
    """Return a tree of a few arrays of random shapes and types, sometimes with another object."""
    rng = np.random.default_rng((seed, epoch, index))
    arrays = [_array(rng) for _ in range(rng.integers(1, 4))]
    shape = rng.integers(6)
    if shape == 0:
        return arrays[0]
    if shape == 1:
        return {"x": arrays, "epoch": epoch, "name": f"{seed}/{epoch}/{index}"}
    if shape == 2:
        return [arrays, None, {"index": np.int64(index)}]
    return (*arrays, np.array([epoch, index]))


def _array(rng: np.random.Generator) -> Any:
    size = int(rng.integers(_LARGE if rng.integers(16) == 0 else _SMALL))
    dtype = np.dtype(_DTYPES[rng.integers(len(_DTYPES))])
    data = np.frombuffer(rng.bytes(size * dtype.itemsize), dtype)
    if dtype.kind == "b":
        data = data.view("u1") > 127
    columns = int(rng.integers(1, 5))
    return data[: size // columns * columns].reshape(-1, columns)
