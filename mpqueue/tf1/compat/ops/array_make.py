"""Operations that create arrays, and operations that return the shape of an array."""

import math

import numpy as np

from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims, broadcast, count, is_known, with_rank
from mpqueue.tf1.compat.ops.dtypes import DType, int32
from mpqueue.tf1.compat.ops.infer import Array, Known, int_of, invalid, shape_of
from mpqueue.tf1.compat.ops.literals import blank
from mpqueue.tf1.compat.ops.registry import FLOATS, NUMBERS, SIGNED, Types, op
from mpqueue.tf1.runs import axes
from mpqueue.tf1.runs.axes import of_shape
from mpqueue.tf1.runs.rules import elementwise


def _filled(dims: Known, _value: Known) -> Dims:
    entries = dims.known_value()
    if entries is not None and (entries < 0).any():
        raise ValueError(f"Fill dimensions must be >= 0, got {entries.tolist()}")
    return shape_of(dims, "dims")


@op("Fill", "dims: I, value: T[] -> T", "fill(dims, value, name, layout=None)", infer=_filled)
def fill(dims: Array, value: Array) -> Array:
    """Create an array of shape ``dims`` filled with one value, of the value's type."""
    return np.full([int(size) for size in dims], value, value.dtype)


def count_steps(start: float, limit: float, delta: float) -> int:
    """Return the number of elements of a range.

    Raises:
        ValueError: ``delta`` is 0 or has the wrong sign.
    """
    if delta == 0:
        raise ValueError("Requires delta != 0")
    if (limit - start) * delta < 0:
        sign = ("<=", ">") if delta > 0 else (">=", "<")
        raise ValueError(f"Requires start {sign[0]} limit when delta {sign[1]} 0: {start}/{limit}")
    if isinstance(start, int) and isinstance(limit, int) and isinstance(delta, int):
        return -((start - limit) // delta) if delta > 0 else (start - limit - delta - 1) // -delta
    return math.ceil(abs((limit - start) / delta))


def _ranged(*bounds: Known) -> Dims:
    values = [each.known_value() for each in bounds]
    if any(value is None for value in values):
        return (None,)
    return (count_steps(*(value.item() for value in values if value is not None)),)


@op(
    "Range",
    "start: I[], limit: I[], delta: I[] -> I",
    I=Types((*FLOATS, *SIGNED, dtypes.uint16, dtypes.uint32, dtypes.uint64), int32),
    infer=_ranged,
)
def range(start: Array, limit: Array, delta: Array) -> Array:
    """Return numbers from ``start`` up to, excluding, ``limit``, in steps of ``delta``."""
    steps = count_steps(start.item(), limit.item(), delta.item())
    return np.array(start + np.arange(steps).astype(start.dtype) * delta, start.dtype)


@op("LinSpace", "start: T[], stop: T[], num: I[] -> T[num]", "lin_space(start, stop, num, name, axis!=0)", T=FLOATS)
def lin_space(start: Array, stop: Array, num: Array) -> Array:
    """Return ``num`` evenly spaced numbers, including both ends; the arguments must be scalars."""
    if num <= 0:
        invalid(f"Requires num > 0: {num}")
    return np.linspace(start, stop, int(num), dtype=start.dtype)


@op("ZerosLike", "x: T[...] -> T[...]", rows=elementwise)
def zeros_like(x: Array) -> Array:
    """Return zeros (False, empty strings) in the shape and type of ``x``."""
    return blank(x.shape, x)


@op("OnesLike", "x: T[...] -> T[...]", rows=elementwise, T=(*NUMBERS, dtypes.bool_))
def ones_like(x: Array) -> Array:
    """Return ones in the shape and type of ``x``."""
    return np.ones_like(x)


def _entries_of_shape(input: Known, **_attrs: object) -> Array | None:
    return None if input.known_dims is None else np.array(input.known_dims, object)


def _vector_per_axis(input: Known, **_attrs: object) -> Dims:
    return (None if input.known_dims is None else len(input.known_dims),)


@op("Shape", "input: T -> out_type", infer=_vector_per_axis, entries=_entries_of_shape, rows=of_shape)
def shape(input: Array, *, out_type: DType = int32) -> Array:
    """Return the sizes of the axes."""
    return np.array(input.shape, out_type.as_numpy_dtype)


def _entries_of_size(input: Known, **_attrs: object) -> Array | None:
    return np.array(count(input.known_dims), object) if is_known(input.known_dims) else None


@op("Size", "input: T -> out_type[]", entries=_entries_of_size, rows=of_shape)
def size(input: Array, *, out_type: DType = int32) -> Array:
    """Return the number of elements."""
    return np.array(input.size, out_type.as_numpy_dtype)


def _entries_of_rank(input: Known) -> Array | None:
    return None if input.known_dims is None else np.array(len(input.known_dims), object)


@op("Rank", "input: T -> int32[]", entries=_entries_of_rank, rows=of_shape)
def rank(input: Array) -> Array:
    """Return the number of axes."""
    return np.array(input.ndim, np.int32)


def _broadcast_lengths(s0: Known, s1: Known) -> Dims:
    first, second = (with_rank(each.known_dims, 1, "shape")[0] for each in (s0, s1))
    return (None if first is None or second is None else max(first, second),)


def _broadcast_entries(s0: Known, s1: Known) -> Array | None:
    both = broadcast(s0.known_as_shape(), s1.known_as_shape())
    return None if both is None else np.array(both, object)


@op(
    "BroadcastArgs",
    "s0: I[_], s1: I[_] -> I",
    "broadcast_dynamic_shape(s0 as shape_x, s1 as shape_y, name)",
    infer=_broadcast_lengths,
    entries=_broadcast_entries,
)
def broadcast_args(s0: Array, s1: Array) -> Array:
    """Return the shape to which two shapes broadcast."""
    return np.array(np.broadcast_shapes(tuple(s0), tuple(s1)), s0.dtype)


def _one_hot(indices: Known, depth: Known, *_values: Known, axis: int) -> Dims:
    if axis < -1:
        raise ValueError(f"axis must be >= -1, got {axis}")
    dims, length = indices.known_dims, int_of(depth)
    if length is not None and length < 0:
        raise ValueError(f"depth must be non-negative, got {length}")
    if dims is None:
        return None
    place = len(dims) if axis == -1 else min(axis, len(dims))  # an axis out of range is an error of the run
    return (*dims[:place], length, *dims[place:])


@op(
    "OneHot",
    "indices: TI, depth: int32[], on_value: T[], off_value: T[] -> T",
    TI=Types((dtypes.uint8, dtypes.int8, dtypes.int32, dtypes.int64), dtypes.int64),
    infer=_one_hot,
    rows=axes.one_hot,
)
def one_hot(indices: Array, depth: Array, on_value: Array, off_value: Array, *, axis: int = -1) -> Array:
    """Set ``on_value`` at the index along a new axis, ``off_value`` elsewhere; an index out of range is ignored."""
    if depth < 0:
        invalid(f"depth must be non-negative, got: {depth}")
    if axis < -1 or axis > indices.ndim:
        invalid(f"Expected axis to be -1 or between [0, {indices.ndim}]. But received: {axis}")
    marked = np.expand_dims(indices, indices.ndim if axis == -1 else axis)
    line = [1] * marked.ndim
    line[axis] = int(depth)
    return np.where(marked == np.arange(int(depth)).reshape(line), on_value, off_value)


@op("InvertPermutation", "x: I[n] -> I[n]", "invert_permutation")
def invert_permutation(x: Array) -> Array:
    """Invert a permutation: ``out[x[n]] = n``."""
    if sorted(x.tolist()) != list(np.arange(x.size)):
        invalid(f"{x.tolist()} is not a permutation of 0 to {x.size - 1}")
    out = np.empty_like(x)
    out[x] = np.arange(x.size, dtype=x.dtype)
    return out
