"""Operations on the three parts of sparse tensors: indices, values, dense shape.

The packed form of a sparse tensor is a single string that can pass through a queue. Many packed tensors are unpacked to
one tensor with an additional axis::

    [ rank, number of values, letters of the dtype ][ dtype ][ dense shape ][ indices ][ values ]

String values are stored as their lengths followed by their bytes. Pickle is not used: a queue can belong to another
process, and the string can come from a file. Unpacking must never execute its contents.
"""

import math
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from mpqueue.tf1.compat.ops.dims import Dims, without
from mpqueue.tf1.compat.ops.infer import Array, Known, ints_of, invalid
from mpqueue.tf1.compat.ops.math_reduce import checked_axes
from mpqueue.tf1.compat.ops.registry import NUMBERS, op
from mpqueue.values.conversion import text_array

_PACKED = struct.Struct("<IQH")


@op(
    "SparseToDense",
    "sparse_indices: I, output_shape: I, sparse_values: T, default_value: T -> T[*output_shape]",
    "sparse_to_dense(sparse_indices, output_shape, sparse_values, default_value=0, validate_indices, name)",
)
def sparse_to_dense(
    sparse_indices: Array,
    output_shape: Array,
    sparse_values: Array,
    default_value: Array,
    *,
    validate_indices: bool = True,
) -> Array:
    """Create an array with values at given indices and ``default_value`` elsewhere.

    Args:
        sparse_indices: Indices, an array of shape (number, rank); for a vector, also a vector or scalar.
        output_shape: The shape of the result.
        sparse_values: The values, or one value for all indices.
        default_value: The value elsewhere.
        validate_indices: Reject indices that are out of order or repeated.
    """
    rank = output_shape.size
    table = sparse_indices.reshape(-1, 1) if sparse_indices.ndim < 2 else sparse_indices
    if table.shape[1] != rank:
        invalid(f"output_shape has {rank} sizes, but each row of sparse_indices has {table.shape[1]}")
    if sparse_values.ndim and sparse_values.shape != (len(table),):
        invalid(f"sparse_values has shape {list(sparse_values.shape)}, expected [] or [{len(table)}]")
    _check_places(table, output_shape, ordered=validate_indices)
    out = np.empty([int(size) for size in output_shape], sparse_values.dtype)
    out[...] = default_value
    out[tuple(table.T)] = sparse_values
    return out


def _check_places(table: Array, shape: Array, *, ordered: bool) -> None:
    outside = ((table < 0) | (table >= shape)).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        invalid(f"indices[{row}] = {table[row].tolist()} is out of bounds: need 0 <= index < {shape.tolist()}")
    if ordered and len(table) > 1:
        flat = np.ravel_multi_index(tuple(table.T), tuple(shape))
        wrong = flat[1:] <= flat[:-1]
        if wrong.any():
            row = int(wrong.argmax()) + 1
            what = "repeated" if flat[row] == flat[row - 1] else "out of order"
            invalid(f"indices[{row}] = {table[row].tolist()} is {what}")


@op(
    "SparseReshape",
    "input_indices: int64[n _], input_shape: int64, new_shape: int64[rank] "
    "-> output_indices: int64[n rank], output_shape: int64[rank]",
)
def sparse_reshape(input_indices: Array, input_shape: Array, new_shape: Array) -> tuple[Array, Array]:
    """Return the same values in another shape; one size can be -1 to be inferred."""
    requested = [int(size) for size in new_shape]
    total = math.prod(int(size) for size in input_shape)
    shape = np.array(resolved(total, requested), np.int64)
    if not total:
        return np.zeros((len(input_indices), len(shape)), np.int64), shape
    flat = np.ravel_multi_index(tuple(input_indices.T), tuple(input_shape))
    return np.stack(np.unravel_index(flat, tuple(shape)), axis=-1).astype(np.int64).reshape(-1, len(shape)), shape


def resolved(total: int, requested: Sequence[int]) -> list[int]:
    """Return the sizes with -1 replaced.

    Raises:
        ValueError: More than one size is -1, a size is below -1, or the sizes do not match the total.
    """
    if list(requested).count(-1) > 1:
        raise ValueError(f"At most one dimension can be inferred (-1). Found: {list(requested)}")
    if any(size < -1 for size in requested):
        raise ValueError(f"sizes must be at least -1, got {list(requested)}")
    rest = math.prod(size for size in requested if size != -1)
    if (total != rest) if -1 not in requested else (rest == 0 or total % rest):
        raise ValueError(f"Cannot reshape a tensor with {total} elements to shape {list(requested)}")
    return [total // rest if size == -1 else size for size in requested]


def _summed(indices: Known, values: Known, shape: Known, axes: Known, *, keep_dims: bool) -> Dims:
    del indices, values
    dims, removed = shape.known_as_shape(), ints_of(axes)
    if shape.known_value() is None or dims is None or removed is None:
        return None
    places = {axis % len(dims) for axis in removed} if dims else set()
    return without(dims, places, keep_dims=keep_dims)


@op(
    "SparseReduceSum",
    "input_indices: int64, input_values: T, input_shape: int64, reduction_axes: int32 -> T",
    T=NUMBERS,
    infer=_summed,
)
def sparse_reduce_sum(
    input_indices: Array, input_values: Array, input_shape: Array, reduction_axes: Array, *, keep_dims: bool = False
) -> Array:
    """Sum along some axes, as a dense array."""
    axes = {checked_axes(input_shape.size, axis)[0] for axis in reduction_axes.reshape(-1, 1)}
    _check_places(input_indices, input_shape, ordered=False)
    kept = [axis for axis in range(input_shape.size) if axis not in axes]
    out = np.zeros([int(input_shape[axis]) for axis in kept], input_values.dtype)
    if kept:
        np.add.at(out, tuple(input_indices[:, axis] for axis in kept), input_values)
    else:
        out += input_values.sum(dtype=input_values.dtype)
    if not keep_dims:
        return out
    return out.reshape([1 if axis in axes else int(size) for axis, size in enumerate(input_shape)])


@op(
    "SparseReorder",
    "input_indices: int64[n rank], input_values: T[n], input_shape: int64 "
    "-> output_indices: int64[n rank], output_values: T[n]",
)
def sparse_reorder(input_indices: Array, input_values: Array, input_shape: Array) -> tuple[Array, Array]:
    """Sort the values by index, row by row."""
    del input_shape
    order = np.lexsort(tuple(input_indices.T[::-1])) if input_indices.shape[1] else np.arange(len(input_indices))
    return input_indices[order], input_values[order]


def _combining(function: Callable[..., Array]) -> Callable[..., Array]:
    def combine(sp_indices: Array, sp_values: Array, sp_shape: Array, dense: Array) -> Array:
        _check_places(sp_indices, sp_shape, ordered=False)
        whole = np.broadcast_to(dense, tuple(sp_shape))
        return function(sp_values, whole[tuple(sp_indices.T)])

    return combine


for _name, _ufunc in (("SparseDenseCwiseMul", np.multiply), ("SparseDenseCwiseDiv", np.divide)):
    op(_name, "sp_indices: int64[n _], sp_values: T[n], sp_shape: int64, dense: T -> T[n]", T=NUMBERS)(
        _combining(_ufunc)
    )


@op("PackSparse", "indices: int64[n rank], values: T[n], dense_shape: int64[rank] -> string[]")
def pack_sparse(indices: Array, values: Array, dense_shape: Array) -> Any:
    """Pack one sparse tensor into a string."""
    dtype, rank, count = values.dtype.str.encode(), len(dense_shape), len(values)
    parts = [_PACKED.pack(rank, count, len(dtype)), dtype, dense_shape.tobytes(), indices.tobytes()]
    if values.dtype == object:
        strings = values.tolist()
        parts += [np.array([len(each) for each in strings], np.int64).tobytes(), *strings]
    else:
        parts.append(values.tobytes())
    return b"".join(parts)


def _unpacked(packed: bytes, dtype: "np.dtype[Any]") -> tuple[Array, Array, Array]:
    """Return the parts of a packed sparse tensor, after checking that `pack_sparse` can have written it."""
    try:
        rank, count, letters = _PACKED.unpack_from(packed)
        start = _PACKED.size + letters
        name = packed[_PACKED.size : start]
        if name != dtype.str.encode():
            raise ValueError(f"its values are {name[:20]!r}, expected {dtype.str!r}")
        dense_shape = np.frombuffer(packed, np.int64, rank, start)
        start += dense_shape.nbytes
        indices = np.frombuffer(packed, np.int64, count * rank, start).reshape(count, rank)
        start += indices.nbytes
        if not dtype.hasobject:
            values = np.frombuffer(packed, dtype, count, start)
            end = start + values.nbytes
        else:
            lengths = np.frombuffer(packed, np.int64, count, start)
            ends = np.cumsum([start + lengths.nbytes, *lengths.tolist()]).tolist()
            values = text_array([packed[first:last] for first, last in pairwise(ends)])
            end = ends[-1] if (lengths >= 0).all() else -1
        if end != len(packed):
            raise ValueError(f"expected {end} bytes, got {len(packed)}")
    except (struct.error, ValueError, OverflowError) as error:  # missing bytes, numbers that are too large
        invalid(f"A string of {len(packed)} bytes is not a packed sparse tensor: {error}")
    return indices, values, dense_shape


def _rows(indices: Known, values: Known, dense_shape: Known) -> Dims:
    del indices, values
    sizes = dense_shape.known_as_shape()
    return (sizes[0],) if sizes else (None,)


@op("PackManySparse", "indices: int64[n rank], values: T[n], dense_shape: int64[rank] -> string", infer=_rows)
def pack_many_sparse(indices: Array, values: Array, dense_shape: Array) -> Any:
    """Pack each row of one sparse tensor into a string."""
    if len(dense_shape) < 2:
        invalid(f"Expected a sparse tensor of rank 2 or more, got dense_shape {dense_shape.tolist()}")
    count = int(dense_shape[0])
    order = np.argsort(indices[:, 0], kind="stable")
    cuts = np.searchsorted(indices[order, 0], np.arange(count + 1))
    out = np.empty(count, object)
    for row in range(count):
        mine = order[cuts[row] : cuts[row + 1]]
        out[row] = pack_sparse(indices[mine, 1:], values[mine], dense_shape[1:])
    return out


@op("UnpackManySparse", "packed: string[_] -> indices: int64[_ rank], values: dtype[_], dense_shape: int64[rank]")
def unpack_many_sparse(packed: Array, *, dtype: Any, rank: int | None) -> tuple[Array, Array, Array]:
    """Unpack sparse tensors as the rows of one sparse tensor; its other sizes are the maximum of their sizes."""
    parts = [_unpacked(each, np.dtype(dtype.as_numpy_dtype)) for each in packed.tolist()]
    ranks = {len(dense_shape) for _, _, dense_shape in parts}
    if len(ranks) > 1:
        invalid(f"The sparse tensors of a batch must have the same rank, got {sorted(ranks)}")
    inner = ranks.pop() if ranks else (rank or 1) - 1
    counts = [len(values) for _, values, _ in parts]
    rows = np.repeat(np.arange(len(parts), dtype=np.int64), counts)
    indices = np.concatenate([np.empty((0, inner), np.int64), *(each for each, _, _ in parts)])
    values = np.concatenate([np.empty(0, dtype.as_numpy_dtype), *(each for _, each, _ in parts)])
    sizes = np.max([np.zeros(inner, np.int64), *(each for _, _, each in parts)], axis=0)
    return np.column_stack([rows, indices]), values, np.concatenate([[len(parts)], sizes]).astype(np.int64)
