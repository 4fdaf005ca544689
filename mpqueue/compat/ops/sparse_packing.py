"""Sparse tensors as single texts, so that they can travel through a queue, and many of them as one of a rank more."""

import pickle
from typing import Any

import numpy as np

from mpqueue.compat.ops.dims import Dims
from mpqueue.compat.ops.infer import invalid
from mpqueue.compat.ops.known import Known
from mpqueue.compat.ops.registry import op


@op("PackSparse", "indices: int64, values: T, dense_shape: int64 -> string[]")
def pack_sparse(indices: np.ndarray, values: np.ndarray, dense_shape: np.ndarray) -> Any:
    """One sparse tensor as a text."""
    return pickle.dumps((indices, values, dense_shape), pickle.HIGHEST_PROTOCOL)


def _rows(indices: Known, values: Known, dense_shape: Known) -> Dims:
    del indices, values
    sizes = dense_shape.known_as_shape()
    return (sizes[0],) if sizes else (None,)


@op("PackManySparse", "indices: int64, values: T, dense_shape: int64[_] -> string", infer=_rows)
def pack_many_sparse(indices: np.ndarray, values: np.ndarray, dense_shape: np.ndarray) -> Any:
    """The rows of one sparse tensor, each as a text."""
    if len(dense_shape) < 2:
        invalid(f"a sparse tensor of rank 2 or more has rows, this one has the dense_shape {dense_shape.tolist()}")
    count = int(dense_shape[0])
    order = np.argsort(indices[:, 0], kind="stable")
    cuts = np.searchsorted(indices[order, 0], np.arange(count + 1))
    out = np.empty(count, object)
    for row in range(count):
        mine = order[cuts[row] : cuts[row + 1]]
        out[row] = pack_sparse(indices[mine, 1:], values[mine], dense_shape[1:])
    return out


@op("UnpackManySparse", "packed: string[_] -> indices: int64[_ rank], values: dtype[_], dense_shape: int64[rank]")
def unpack_many_sparse(
    packed: np.ndarray, *, dtype: Any, rank: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packed sparse tensors as one, in which they are the rows; its other sizes are the largest of theirs."""
    parts = [pickle.loads(each) for each in packed.tolist()]
    ranks = {len(dense_shape) for _, _, dense_shape in parts}
    if len(ranks) > 1:
        invalid(f"sparse tensors of one batch must have one rank, got {sorted(ranks)}")
    inner = ranks.pop() if ranks else (rank or 1) - 1
    counts = [len(values) for _, values, _ in parts]
    rows = np.repeat(np.arange(len(parts), dtype=np.int64), counts)
    indices = np.concatenate([np.empty((0, inner), np.int64), *(each for each, _, _ in parts)])
    values = np.concatenate([np.empty(0, dtype.as_numpy_dtype), *(each for _, each, _ in parts)])
    sizes = np.max([np.zeros(inner, np.int64), *(each for _, _, each in parts)], axis=0)
    return np.column_stack([rows, indices]), values, np.concatenate([[len(parts)], sizes]).astype(np.int64)
