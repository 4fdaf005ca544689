"""Operations that select elements of an array."""

from collections.abc import Sequence

import numpy as np

from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims, axis_in, merged, text, with_rank
from mpqueue.tf1.compat.ops.dtypes import DType, int32
from mpqueue.tf1.compat.ops.infer import Array, Known, int_of, ints_of, invalid
from mpqueue.tf1.compat.ops.registry import INDEX, NUMBERS, SUBSCRIPT, Types, op
from mpqueue.tf1.runs import axes
from mpqueue.tf1.runs.rules import elementwise


def _sliced(input: Known, begin: Known, size: Known) -> Dims:
    (count,) = merged(begin.known_dims, size.known_dims) or (None,)
    dims = input.known_dims if count is None else with_rank(input.known_dims, count, "the input of slice")
    lengths, starts = ints_of(size), begin.known_as_shape()
    if dims is None or lengths is None:
        known = size.known_as_shape()
        return known if known is not None or dims is None else (None,) * len(dims)
    return tuple(map(_slice_size, dims, starts or (None,) * len(dims), lengths))


def _slice_size(have: int | None, start: int | None, length: int) -> int | None:
    if length < -1:
        raise ValueError(f"size of slice must be >= -1, got {length}")
    if length != -1:
        return length
    if have is None or start is None:
        return None
    if start > have:
        raise ValueError(f"begin of slice must be at most the size of the dimension, {have}, got {start}")
    return have - start


@op(
    "Slice",
    "input: T, begin: I[n], size: I[n] -> T",
    "slice(input as input_, begin, size, name)",
    infer=_sliced,
    rows=axes.slice,
)
def slice(input: Array, begin: Array, size: Array) -> Array:
    """Extract ``size[axis]`` elements starting at ``begin[axis]``; a size of -1 means all remaining elements."""
    if begin.shape != (input.ndim,) or size.shape != (input.ndim,):
        invalid(f"Expected begin and size to be 1-D tensors of size {input.ndim}, got {begin.shape} and {size.shape}")
    where = []
    for axis, (have, start, length) in enumerate(zip(input.shape, begin.tolist(), size.tolist(), strict=True)):
        if not 0 <= start <= have:
            invalid(f"Expected begin[{axis}] in [0, {have}], but got {start}")
        taken = have - start if length == -1 else length
        if not 0 <= taken <= have - start:
            invalid(f"Expected size[{axis}] in [0, {have - start}], but got {taken}")
        where.append(np.s_[start : start + taken])
    return input[tuple(where)]


def _gathered(params: Known, indices: Known, axis: Known, *, batch_dims: int) -> Dims:
    source, picks, place = params.known_dims, indices.known_dims, int_of(axis)
    if source is None or picks is None:
        return None
    batch = batch_dims + len(picks) if batch_dims < 0 else batch_dims
    if place is None:
        return (None,) * (len(source) - 1 + len(picks) - batch)
    place = axis_in(place, len(source))
    if not 0 <= batch <= min(len(picks), place):
        raise ValueError(
            f"batch_dims {batch_dims} must be at most axis ({place}) and the rank of indices ({len(picks)})"
        )
    merged(source[:batch], picks[:batch])
    return source[:place] + picks[batch:] + source[place + 1 :]


@op("GatherV2", "params: T, indices: I, axis: A -> T", I=SUBSCRIPT, A=INDEX, infer=_gathered, rows=axes.gather)
def gather(params: Array, indices: Array, axis: Array, *, batch_dims: int = 0) -> Array:
    """Gather slices along ``axis`` at the given indices."""
    place = axis_in(int(axis), params.ndim)
    _check_subscripts(indices, params.shape[place])
    batch = batch_dims + indices.ndim if batch_dims < 0 else batch_dims
    if not batch:
        return np.take(params, indices, place)
    if params.shape[:batch] != indices.shape[:batch]:
        invalid(f"The first {batch} sizes of params {params.shape} and indices {indices.shape} must be equal")
    rows = [gather(p, i, np.array(place - 1), batch_dims=batch - 1) for p, i in zip(params, indices, strict=True)]
    shape = params.shape[:place] + indices.shape[batch:] + params.shape[place + 1 :]
    return np.stack(rows) if rows else np.empty(shape, params.dtype)


def _check_subscripts(indices: Array, size: int) -> None:
    bad = (indices < 0) | (indices >= size)
    if bad.any():
        where = np.unravel_index(int(bad.argmax()), bad.shape) if bad.ndim else ()
        invalid(f"indices{[int(n) for n in where]} = {indices[bad].flat[0]} is not in [0, {size})")


def _gathered_nd(params: Known, indices: Known) -> Dims:
    source, picks = params.known_dims, indices.known_dims
    if picks is not None and not picks:
        raise ValueError("indices must have at least one axis")
    if source is None or picks is None or picks[-1] is None:
        return None
    if picks[-1] > len(source):
        raise ValueError(
            f"indices.shape[-1] must be <= params.rank, but saw indices {text(picks)} and params {text(source)}"
        )
    return picks[:-1] + source[picks[-1] :]


@op("GatherNd", "params: T, indices: I -> T", I=SUBSCRIPT, infer=_gathered_nd)
def gather_nd(params: Array, indices: Array) -> Array:
    """Gather slices at the positions along the last axis of ``indices``."""
    depth = indices.shape[-1]
    for axis in range(depth):
        _check_subscripts(indices[..., axis], params.shape[axis])
    slices: Array = params[tuple(indices[..., axis] for axis in range(depth))]
    return slices


def _positions(input: Known) -> Dims:
    return (None, None if input.known_dims is None else len(input.known_dims))


@op("Where", "input: T -> int64", T=Types((*NUMBERS, dtypes.bool_), dtypes.bool_), infer=_positions)
def where(input: Array) -> Array:
    """Return the positions of nonzero elements, one per row."""
    if not input.ndim:
        invalid("where requires an array with at least one axis, got a scalar")
    return np.argwhere(input).astype(np.int64, copy=False)


def _selected(condition: Known, t: Known, e: Known) -> Dims:
    dims, mask = merged(t.known_dims, e.known_dims), condition.known_dims
    if dims is None or mask is None or not mask:
        return dims
    if len(mask) == 1 and len(dims) != 1:
        if not dims:
            raise ValueError("A condition with one axis cannot select between scalars")
        merged(mask, dims[:1])
        return dims
    return merged(mask, dims)


@op("Select", "condition: bool, t: T, e: T -> T", infer=_selected, rows=axes.select)
def select(condition: Array, t: Array, e: Array) -> Array:
    """Select elements, rows, or all of ``t`` where the condition is True, and of ``e`` elsewhere."""
    if t.shape != e.shape:
        invalid(f"'then' and 'else' must have the same size, but received: {list(t.shape)} vs. {list(e.shape)}")
    if condition.ndim == 1 and t.ndim > 1 and condition.size == t.shape[0]:
        condition = condition.reshape([-1] + [1] * (t.ndim - 1))
    elif condition.ndim and condition.shape != t.shape:
        invalid(f"The condition must have the shape of the values, {list(t.shape)}, got {list(condition.shape)}")
    return np.where(condition, t, e)


@op("SelectV2", "condition: bool[...], t: T[...], e: T[...] -> T[...]", rows=elementwise)
def select_v2(condition: Array, t: Array, e: Array) -> Array:
    """Select elements of ``t`` or ``e`` like `select`, with broadcasting."""
    return np.where(condition, t, e)


def _partitioned(data: Known, partitions: Known, *, num_partitions: int) -> list[Dims]:
    if num_partitions < 1:
        raise ValueError(f"num_partitions must be at least 1, got {num_partitions}")
    dims, numbers = data.known_dims, partitions.known_dims
    if dims is None or numbers is None:
        return [None] * num_partitions
    merged(with_rank(dims[: len(numbers)], len(numbers), "data"), numbers)
    return [(None, *dims[len(numbers) :])] * num_partitions


@op("DynamicPartition", "data: T, partitions: int32 -> num_partitions * T", "dynamic_partition", infer=_partitioned)
def dynamic_partition(data: Array, partitions: Array, *, num_partitions: int) -> list[Array]:
    """Distribute the rows of ``data`` to groups; ``partitions`` has the group number of each row."""
    if data.shape[: partitions.ndim] != partitions.shape:
        invalid(f"data.shape must start with partitions.shape, got {list(data.shape)} and {list(partitions.shape)}")
    bad = (partitions < 0) | (partitions >= num_partitions)
    if bad.any():
        invalid(f"partitions = {partitions[bad].flat[0]} is not in [0, {num_partitions})")
    return [data[partitions == n] for n in range(num_partitions)]


def _stitched(indices: Sequence[Known], data: Sequence[Known]) -> Dims:
    rest: Dims = None
    largest: int | None = -1
    for place, values in zip(indices, data, strict=True):
        numbers, dims = place.known_dims, values.known_dims
        if numbers is not None and dims is not None:
            merged(numbers, dims[: len(numbers)])
            rest = merged(rest, dims[len(numbers) :])
        known = ints_of(place)
        largest = None if known is None or largest is None else max([largest, *known])
    return None if rest is None else (None if largest is None else largest + 1, *rest)


@op("DynamicStitch", "indices: N * int32, data: N * T -> T", "dynamic_stitch", infer=_stitched)
def dynamic_stitch(indices: Sequence[Array], data: Sequence[Array]) -> Array:
    """Place the rows of ``data`` at the positions in ``indices``; for a repeated position, the last row is used."""
    rows = 1 + max((int(each.max()) for each in indices if each.size), default=-1)
    rest = data[0].shape[indices[0].ndim :]
    out = np.zeros((rows, *rest), data[0].dtype)
    for places, values in zip(indices, data, strict=True):
        if values.shape != places.shape + rest:
            invalid(
                f"data must have the shape of indices plus {list(rest)}, got {list(values.shape)} for {places.shape}"
            )
        _check_subscripts(places, rows)  # NumPy would count negative ones from the end
        out[places.reshape(-1)] = values.reshape((-1, *rest))
    return out


@op("Unique", "x: T[n] -> y: T, idx: out_idx", "unique", infer=lambda x, **_types: [(None,), x.known_dims])
def unique(x: Array, *, out_idx: DType = int32) -> tuple[Array, Array]:
    """Return the distinct elements of a vector by first appearance, and the index into them of each element."""
    values, places, _ = unique_with_counts(x, out_idx=out_idx)
    return values, places


@op(
    "UniqueWithCounts",
    "x: T[n] -> y: T, idx: out_idx, count: out_idx",
    "unique_with_counts",
    infer=lambda x, **_types: [(None,), x.known_dims, (None,)],
)
def unique_with_counts(x: Array, *, out_idx: DType = int32) -> tuple[Array, Array, Array]:
    """Return the distinct elements of a vector, the index into them of each element, and their counts."""
    _, first, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    kind = out_idx.as_numpy_dtype
    return x[first[order]], place[inverse.reshape(-1)].astype(kind), counts[order].astype(kind)


@op("ListDiff", "x: T, y: T -> out: T[_], idx: out_idx[_]", "setdiff1d(x, y, out_idx as index_dtype, name)")
def list_diff(x: Array, y: Array, *, out_idx: DType = int32) -> tuple[Array, Array]:
    """Return the elements of ``x`` that are not in ``y``, and their positions."""
    removed = set(y.tolist())
    keep = np.array([item not in removed for item in x.tolist()], bool)
    return x[keep], np.flatnonzero(keep).astype(out_idx.as_numpy_dtype)


@op("ScatterNd", "indices: I[... _], updates: T, shape: I -> T[*shape]", "scatter_nd", I=SUBSCRIPT)
def scatter_nd(indices: Array, updates: Array, shape: Array) -> Array:
    """Add updates at their positions to zeros of the given shape."""
    sizes, depth = [int(size) for size in shape], indices.shape[-1]
    if depth > len(sizes) or updates.shape != indices.shape[:-1] + tuple(sizes[depth:]):
        invalid(f"updates {updates.shape} must match indices {indices.shape} and shape {sizes}")
    for axis in range(depth):
        _check_subscripts(indices[..., axis], sizes[axis])
    out = np.zeros(sizes, updates.dtype)
    np.add.at(out, tuple(indices[..., axis] for axis in range(depth)), updates)
    return out
