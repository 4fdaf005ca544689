"""Reductions along axes: sums, extrema, positions of extrema; matrix products, cumulative sums and products."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims, axis_in, broadcast, merged, text, with_rank, without
from mpqueue.tf1.compat.ops.dtypes import DType, int64
from mpqueue.tf1.compat.ops.infer import Array, Known, int_of, ints_of, invalid
from mpqueue.tf1.compat.ops.registry import NUMBERS, REALS, op
from mpqueue.tf1.runs.axes import along


def reduced(input: Known, reduction_indices: Known, *, keep_dims: bool = False, **_attrs: Any) -> Dims:
    """Return the shape without the reduced axes, or with size 1 for them."""
    dims, axes = input.known_dims, ints_of(reduction_indices)
    if reduction_indices.known_dims is not None and len(reduction_indices.known_dims) > 1:
        raise ValueError(f"The axes must be at most rank 1 but are rank {len(reduction_indices.known_dims)}")
    if dims is None:
        return None
    if axes is None:
        return (None,) * len(dims) if keep_dims else None
    removed = {axis_in(axis, len(dims), "reduction dimension") for axis in axes}
    return without(dims, removed, keep_dims=keep_dims)


def checked_axes(rank: int, indices: Array) -> tuple[int, ...]:
    """Return the axes to reduce as non-negative numbers."""
    axes = [axis_in(int(axis), rank, "reduction dimension") for axis in indices.reshape(-1)]
    if len(set(axes)) != len(axes):
        invalid(f"Invalid reduction arguments: Axes contains duplicate dimension: {axes}")
    return tuple(axes)


def _mean(x: Array, axes: tuple[int, ...], keep: bool) -> Any:
    """Compute the mean; for integers, an integer rounded towards zero, and 0 for no elements."""
    if x.dtype.kind not in "iu":
        total = x.sum(axes, dtype=np.float32 if x.dtype == np.float16 else x.dtype, keepdims=keep)
        return total / total.dtype.type(_count(x, axes))
    total = np.asarray(x.sum(axes, dtype=np.uint64 if x.dtype == np.uint64 else np.int64, keepdims=keep))
    number = total.dtype.type(max(_count(x, axes), 1))
    return (total - np.fmod(total, number)) // number


def _count(x: Array, axes: tuple[int, ...]) -> int:
    return int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))


def _extreme(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if dtype.kind == "f":
        return -np.inf, np.inf
    return np.iinfo(dtype).min, np.iinfo(dtype).max


_Reduction = Callable[[Array, tuple[int, ...], bool], Any]
_REDUCTIONS: Final[dict[str, tuple[tuple[DType, ...], _Reduction]]] = {
    "Sum": (NUMBERS, lambda x, axes, keep: x.sum(axes, dtype=x.dtype, keepdims=keep)),
    "Mean": (NUMBERS, _mean),
    "Prod": (NUMBERS, lambda x, axes, keep: x.prod(axes, dtype=x.dtype, keepdims=keep)),
    "Max": (REALS, lambda x, axes, keep: x.max(axes, keepdims=keep, initial=_extreme(x.dtype)[0])),
    "Min": (REALS, lambda x, axes, keep: x.min(axes, keepdims=keep, initial=_extreme(x.dtype)[1])),
    "Any": ((dtypes.bool_,), lambda x, axes, keep: x.any(axes, keepdims=keep)),
    "All": ((dtypes.bool_,), lambda x, axes, keep: x.all(axes, keepdims=keep)),
}


def _reducing(function: _Reduction) -> Callable[..., Any]:
    def reduce(input: Array, reduction_indices: Array, *, keep_dims: bool = False) -> Array:
        axes = checked_axes(input.ndim, reduction_indices)
        return np.asarray(function(input, axes, keep_dims)).astype(input.dtype, copy=False)

    return reduce


for _name, (_types, _function) in _REDUCTIONS.items():
    # "bool" as a fixed type rejects Python values that are not bools already.
    _kind = "bool" if _types == (dtypes.bool_,) else "T"
    op(_name, f"input: {_kind}, reduction_indices: I -> {_kind}", T=_types, infer=reduced, rows=along(1))(
        _reducing(_function)
    )


def _place(input: Known, dimension: Known, **_types: DType) -> Dims:
    dims, axis = input.known_dims, int_of(dimension)
    if dims is None:
        return None
    if len(dims) <= 1:
        return ()
    if axis is None:
        return (None,) * (len(dims) - 1)
    place = axis_in(axis, len(dims), "Dimension")
    return dims[:place] + dims[place + 1 :]


def _extreme_place(function: Callable[..., Any], last: float) -> Callable[..., Any]:
    """Create the function for the position of an extremum; ``last`` replaces NaN, which TensorFlow skips."""

    def place(input: Array, dimension: Array, *, output_type: DType = int64) -> Any:
        values = np.where(np.isnan(input), last, input) if input.dtype.kind == "f" else input
        return function(values, axis_in(int(dimension), input.ndim, "dimension")).astype(output_type.as_numpy_dtype)

    return place


for _name, _first, _last in (("ArgMax", np.argmax, -np.inf), ("ArgMin", np.argmin, np.inf)):
    op(_name, "input: T, dimension: I[] -> output_type", T=(*REALS, dtypes.bool_), infer=_place, rows=along(1))(
        _extreme_place(_first, _last)
    )


def _multiplied(a: Known, b: Known, *, transpose_a: bool = False, transpose_b: bool = False) -> Dims:
    left, right = with_rank(a.known_dims, 2, "a of matmul"), with_rank(b.known_dims, 2, "b of matmul")
    return _product(left[::-1] if transpose_a else left, right[::-1] if transpose_b else right)


def _product(left: tuple[int | None, ...], right: tuple[int | None, ...]) -> tuple[int | None, ...]:
    try:
        merged(left[-1:], right[-2:-1])
    except ValueError:
        raise ValueError(f"The inner dimensions of {text(left)} and {text(right)} must be equal") from None
    return left[-2], right[-1]


_MATRICES: Final = tuple(kind for kind in NUMBERS if kind not in (dtypes.int8, dtypes.int16))


@op("MatMul", "a: T[_ _], b: T[_ _] -> T", T=_MATRICES, infer=_multiplied)
def matmul(a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """Multiply two matrices."""
    product: Array = np.matmul(a.T if transpose_a else a, b.T if transpose_b else b)
    return product


def _multiplied_batch(x: Known, y: Known, *, adj_x: bool, adj_y: bool) -> Dims:
    left, right = x.known_dims, y.known_dims
    if left is None or right is None:
        return None
    batch = broadcast(left[:-2], right[:-2])
    inner = _product(left[-2:][::-1] if adj_x else left[-2:], right[-2:][::-1] if adj_y else right[-2:])
    return None if batch is None else batch + inner


@op("BatchMatMulV2", "x: T[... _ _], y: T[... _ _] -> T", T=(*_MATRICES, dtypes.int16), infer=_multiplied_batch)
def batch_matmul(x: Array, y: Array, *, adj_x: bool = False, adj_y: bool = False) -> Array:
    """Multiply two stacks of matrices."""
    left = np.conj(x.swapaxes(-1, -2)) if adj_x else x
    right = np.conj(y.swapaxes(-1, -2)) if adj_y else y
    product: Array = np.matmul(left, right)
    return product


def _running(function: np.ufunc) -> Callable[..., Any]:
    def run(x: Array, axis: Array, *, exclusive: bool = False, reverse: bool = False) -> Array:
        place = axis_in(int(axis), x.ndim)
        x = np.flip(x, place) if reverse else x
        if exclusive:
            rows = x.swapaxes(0, place)
            x = np.concatenate([np.full_like(rows[:1], function.identity), rows[:-1]]).swapaxes(0, place)
        out = function.accumulate(x, place, x.dtype)
        return np.flip(out, place) if reverse else out

    return run


for _name, _ufunc, _what in (("Cumsum", np.add, "sum"), ("Cumprod", np.multiply, "product")):
    op(
        _name,
        "x: T[...], axis: I -> T[...]",
        T=NUMBERS,
        rows=along(1),
        public=f"{_name.lower()}(x, axis=0, exclusive, reverse, name)",
        doc=f"Compute the cumulative {_what} along an axis; with ``reverse``, from the end.",
    )(_running(_ufunc))
