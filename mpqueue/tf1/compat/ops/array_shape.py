"""Operations that reorder axes and elements of an array, or pad it."""

import math
from collections.abc import Sequence

import numpy as np

from mpqueue.tf1.compat.ops.dims import Dims, axis_in, count, merged, merged_size, text, with_rank, without
from mpqueue.tf1.compat.ops.infer import Array, Known, int_of, ints_of, invalid, shape_of
from mpqueue.tf1.compat.ops.literals import blank
from mpqueue.tf1.compat.ops.registry import op
from mpqueue.tf1.compat.ops.signature import Axes
from mpqueue.tf1.runs import axes
from mpqueue.tf1.runs.rules import elementwise


def _reshaped(tensor: Known, shape: Known) -> Dims:
    dims, target = tensor.known_dims, shape_of(shape)
    if dims is None or target is None:
        return target
    gaps_in, gaps_out = dims.count(None), target.count(None)
    if gaps_in > 1 or gaps_out > 1:
        return target
    have = math.prod(size for size in dims if size is not None)
    want = math.prod(size for size in target if size is not None)
    if not gaps_in and not gaps_out and have != want:
        raise ValueError(f"Cannot reshape a tensor with {have} elements to shape {text(target)} ({want} elements)")
    if not gaps_in and gaps_out and want > 0:
        rest = _divided(have, want)
        return tuple(rest if size is None else size for size in target)
    if gaps_in and not gaps_out and have != 0:
        _divided(want, have)
    return target


def _divided(total: int, part: int) -> int:
    if total % part:
        raise ValueError(f"Dimension size must be evenly divisible by {part} but is {total}")
    return total // part


@op("Reshape", "tensor: T, shape: I -> T", "reshape", infer=_reshaped, rows=axes.reshape)
def reshape(tensor: Array, shape: Array) -> Array:
    """Return the elements in another shape; one size can be -1 to be inferred."""
    return tensor.reshape(_filled_in(tensor.shape, [int(size) for size in shape]))


def _filled_in(have: Sequence[int], target: list[int]) -> list[int]:
    """Return the sizes with -1 replaced. If the target has a size of 0, sizes of 0 are ignored on both sides."""
    if -1 not in target:
        return target
    empty = 0 in target
    total = math.prod(size for size in have if size or not empty)
    part = math.prod(size for size in target if size > 0)
    return [total // part if size == -1 else size for size in target]


def _squeezed(input: Known, *, squeeze_dims: Axes) -> Dims:
    dims = input.known_dims
    if dims is None or (not squeeze_dims and None in dims):
        return None
    axes = {axis_in(axis, len(dims)) for axis in squeeze_dims}
    for axis in axes:
        if dims[axis] not in (None, 1):
            raise ValueError(f"Can not squeeze dim[{axis}], expected a dimension of 1, got {dims[axis]}")
    return without(dims, axes, keep_dims=False) if squeeze_dims else tuple(size for size in dims if size != 1)


@op(
    "Squeeze",
    "input: T -> T",
    "squeeze(input, squeeze_dims as axis=None, name, squeeze_dims=axis)",
    infer=_squeezed,
    rows=axes.squeeze,
)
def squeeze(input: Array, *, squeeze_dims: Axes = ()) -> Array:
    """Remove axes of size 1: the axes in ``axis``, or all by default."""
    return np.squeeze(input, squeeze_dims or None)


def _expanded(input: Known, dim: Known) -> Dims:
    dims, axis = input.known_dims, int_of(dim)
    if count(dim.known_dims) not in (None, 1):
        raise ValueError("'dim' input must be a tensor with a single value")
    if dims is None or axis is None:
        return None
    place = axis_in(axis, len(dims) + 1, "dimension")
    return (*dims[:place], 1, *dims[place:])


@op(
    "ExpandDims",
    "input: T, dim: I -> T",
    "expand_dims(input, dim as axis=None, name, dim=axis)",
    infer=_expanded,
    rows=axes.along(1, adds=1),
)
def expand_dims(input: Array, dim: Array) -> Array:
    """Insert an axis of size 1 at ``axis``, which can count from the end."""
    return np.expand_dims(input, dim.item())


def _transposed(x: Known, perm: Known) -> Dims:
    dims, axes = x.known_dims, ints_of(perm)
    if axes is None:
        length = None if perm.known_dims is None else perm.known_dims[0]
        rank = length if dims is None else len(dims)
        return None if rank is None else (None,) * rank
    known = with_rank(dims, len(axes), "the input of transpose")
    return tuple(known[axis_in(axis, len(axes), "perm dim")] for axis in axes)


@op("Transpose", "x: T, perm: I[_] -> T", infer=_transposed, rows=axes.transpose)
def transpose(x: Array, perm: Array) -> Array:
    """Reorder the axes as listed in ``perm``."""
    return np.transpose(x, perm)


def _tiled(input: Known, multiples: Known) -> Dims:
    dims, times = input.known_dims, shape_of(multiples, "multiples")
    if times is None:
        return None if dims is None else (None,) * len(dims)
    dims = with_rank(dims, len(times), "the input of tile")
    return tuple(map(_times, dims, times))


def _times(size: int | None, factor: int | None) -> int | None:
    if 0 in (size, factor):
        return 0
    return None if size is None or factor is None else size * factor


@op("Tile", "input: T, multiples: I[_] -> T", "tile", infer=_tiled, rows=axes.tile)
def tile(input: Array, multiples: Array) -> Array:
    """Repeat the array ``multiples[axis]`` times along each axis."""
    if multiples.size != input.ndim:
        invalid(f"Expected multiples argument to be a vector of length {input.ndim} but got {list(multiples.shape)}")
    if (multiples < 0).any():
        invalid(f"Expected multiples >= 0, but got {multiples.tolist()}")
    return np.tile(input, [int(times) for times in multiples])


def _padded(input: Known, paddings: Known, *_value: Known, **_mode: str) -> Dims:
    rows = None if paddings.known_dims is None else paddings.known_dims[0]
    rank = rows if input.known_dims is None else merged_size(rows, len(input.known_dims))
    if rank is None:
        return None
    dims = with_rank(input.known_dims, rank, "the input of pad")
    widths = paddings.known_value()
    if widths is None:
        return (None,) * rank
    if (widths < 0).any():
        raise ValueError(f"paddings must be non-negative, got {widths.tolist()}")
    return tuple(None if size is None else size + int(row.sum()) for size, row in zip(dims, widths, strict=True))


@op("PadV2", "input: T, paddings: I[_ 2], constant_values: T -> T", infer=_padded, rows=axes.pad)
def pad_v2(input: Array, paddings: Array, constant_values: Array) -> Array:
    """Pad each axis with ``paddings[axis]`` elements of one value before and after the array."""
    merged_size(len(paddings), input.ndim)
    return np.pad(input, paddings, constant_values=constant_values.item()) if input.ndim else input


@op("Pad", "input: T, paddings: I[_ 2] -> T", infer=_padded, rows=axes.pad)
def pad(input: Array, paddings: Array) -> Array:
    """Pad each axis with ``paddings[axis]`` zeros before and after the array."""
    return pad_v2(input, paddings, blank((), input))


@op("MirrorPad", "input: T, paddings: I[_ 2] -> T", infer=_padded, rows=axes.pad)
def mirror_pad(input: Array, paddings: Array, *, mode: str) -> Array:
    """Pad the array with its own elements, mirrored without ("REFLECT") or with ("SYMMETRIC") the edge."""
    merged_size(len(paddings), input.ndim)
    most = np.maximum(np.array(input.shape) - (mode == "REFLECT"), 0).reshape(-1, 1)
    if (paddings > most).any():
        invalid(f"paddings {paddings.tolist()} must not be greater than {most.tolist()} in mode {mode}")
    return np.pad(input, paddings, mode="reflect" if mode == "REFLECT" else "symmetric") if input.ndim else input


def _reversed(tensor: Known, axis: Known) -> Dims:
    axes, dims = ints_of(axis), tensor.known_dims
    if axes is not None and dims is not None:
        placed = [axis_in(each, len(dims), "axis") for each in axes]
        if len(set(placed)) != len(placed):
            raise ValueError(f"The axes must be distinct, got {axes}")
    return dims


@op("ReverseV2", "tensor: T, axis: I[_] -> T", "reverse", infer=_reversed, rows=axes.along(1))
def reverse(tensor: Array, axis: Array) -> Array:
    """Reverse the array along the given axes."""
    return np.flip(tensor, tuple(int(each) for each in axis)) if axis.size else tensor


@op("Identity", "input: T[...] -> T[...]", entries=Known.known_entries, rows=elementwise)
def identity(input: Array) -> Array:
    """Return the same values."""
    return input


op("StopGradient", "input: T[...] -> T[...]", "stop_gradient", rows=elementwise)(identity)


def _ensured(input: Known, *, shape: Dims) -> Dims:
    return merged(input.known_dims, shape)


@op("EnsureShape", "input: T -> T", "ensure_shape(input as x, shape, name)", infer=_ensured, rows=axes.ensure_shape)
def ensure_shape(input: Array, *, shape: Dims) -> Array:
    """Return the same values with the static shape ``shape``; another shape is an `InvalidArgumentError` of the run."""
    merged(input.shape, shape)
    return input


def _broadcast_to(input: Known, shape: Known) -> Dims:
    target, dims = shape_of(shape), input.known_dims
    if target is None or dims is None:
        return target
    if len(dims) > len(target):
        raise ValueError(f"Cannot broadcast shape {text(dims)} to the lower rank of {text(target)}")
    for size, wide in zip(dims[::-1], target[::-1], strict=False):
        if size not in (None, 1, wide) and wide is not None:
            raise ValueError(f"Incompatible shapes: {text(dims)} vs. {text(target)}")
    return target


@op("BroadcastTo", "input: T, shape: I -> T", "broadcast_to", infer=_broadcast_to)
def broadcast_to(input: Array, shape: Array) -> Array:
    """Repeat the array along axes of size 1, and along new axes on the left."""
    return np.broadcast_to(input, shape)
