"""Array functions: shapes, reshaping, joining and splitting."""

from typing import Any

import numpy as np

from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.math import cast
from mpqueue.tf1.compat.graph import SparseTensor, Tensor, apply, apply_many, constant, convert_to_tensor
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims, broadcast, count, is_known
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.literals import leaves
from mpqueue.tf1.compat.ops.tensorshape import Dimension, TensorShape
from mpqueue.values.sparse import SparseTensorValue


@public("identity")
def identity(input: Any, name: str | None = None) -> Any:
    """Return a tensor with the same values, in a new node."""
    if isinstance(input, SparseTensor):
        return SparseTensor(*(identity(each, name) for each in (input.indices, input.values, input.dense_shape)))
    return apply("Identity", input, name=name)


@public("shape(input, name, out_type=None)", scope="Shape")
def shape(input: Any, out_type: DType | None, name: str) -> Any:
    """Return the sizes of the axes as a vector, int32 unless ``out_type`` is int64."""
    kind = out_type or dtypes.int32
    if isinstance(input, SparseTensor | SparseTensorValue):
        return cast(SparseTensor.from_value(input).dense_shape, kind)
    input = convert_to_tensor(input)
    if is_known(input.known_dims):
        return constant(np.array(input.known_dims, kind.as_numpy_dtype), kind, name=name)
    return apply("Shape", input, name=name, out_type=kind)


@public("size(input, name, out_type=None)", scope="Size")
def size(input: Any, out_type: DType | None, name: str) -> Tensor:
    """Return the number of elements, int32 unless ``out_type`` is int64."""
    kind = out_type or dtypes.int32
    if isinstance(input, SparseTensor | SparseTensorValue):
        return apply("Prod", shape(input, out_type=kind), 0, name=name)
    input = convert_to_tensor(input)
    known = 0 if input.known_dims is not None and 0 in input.known_dims else count(input.known_dims)
    if known is not None:
        return constant(known, kind, name=name)
    return apply("Size", input, name=name, out_type=kind)


@public("rank", scope="Rank")
def rank(input: Any, name: str) -> Tensor:
    """Return the number of axes, int32."""
    if isinstance(input, SparseTensor | SparseTensorValue):
        return size(SparseTensor.from_value(input).dense_shape, name)
    input = convert_to_tensor(input)
    return apply("Rank", input, name=name) if input.ndim is None else constant(input.ndim, dtypes.int32, name=name)


def axes_from_the_last(a: Tensor) -> Any:
    """Return the indices of all axes, the last one first."""
    if a.ndim is None:
        return apply("Range", apply("Sub", apply("Rank", a), 1), -1, -1)
    return np.arange(a.ndim, dtype=np.int32)[::-1]


@public("transpose(a, perm=None, name='transpose', conjugate=False)", scope="transpose")
def transpose(a: Tensor, perm: Any, conjugate: bool, name: str) -> Tensor:
    """Reorder the axes as listed in ``perm``; by default, reverse them."""
    out = apply("Transpose", a, axes_from_the_last(a) if perm is None else perm, name=name)
    return apply("Conj", out) if conjugate and a.dtype.is_complex else out


@public("matrix_transpose(a, name='matrix_transpose', conjugate=False)")
def matrix_transpose(a: Tensor, name: str, conjugate: bool) -> Tensor:
    """Swap the last two axes.

    Raises:
        ValueError: The rank is unknown or less than 2.
    """
    if a.ndim is None or a.ndim < 2:
        raise ValueError(f"matrix_transpose needs a known rank of at least 2, got shape {a.shape}")
    order = list(np.arange(a.ndim))
    return transpose(a, [*order[:-2], order[-1], order[-2]], name, conjugate)


@public("pad(tensor, paddings, mode='CONSTANT', name, constant_values=0)")
def pad(tensor: Any, paddings: Any, mode: str, name: str | None, constant_values: Any) -> Tensor:
    """Pad each axis with ``paddings[axis]`` = (before, after) elements: a constant, or the array mirrored.

    Args:
        tensor: The array.
        paddings: An integer array of shape (rank, 2).
        mode: "CONSTANT", "REFLECT" (mirrored without the edge) or "SYMMETRIC" (with the edge), in any case.
        constant_values: The value for mode "CONSTANT".

    Raises:
        ValueError: Another mode, or paddings that do not match the shape.
    """
    upper = mode.upper()
    if upper in ("REFLECT", "SYMMETRIC"):
        return apply("MirrorPad", tensor, paddings, name=name, mode=upper)
    if upper != "CONSTANT":
        raise ValueError(f"mode must be CONSTANT, REFLECT or SYMMETRIC, got {mode!r}")
    if not isinstance(constant_values, Tensor) and np.ndim(constant_values) == 0 and constant_values == 0:
        out = apply("Pad", tensor, paddings, name=name)
    else:
        out = apply("PadV2", tensor, paddings, constant_values, name=name)
    return _with_known_sums(out, paddings)


def _with_known_sums(padded: Tensor, paddings: Any) -> Tensor:
    """Set the sizes that are known although other rows of the list of paddings contain nodes."""
    source = padded.op.inputs[0].known_dims
    if source is not None and isinstance(paddings, list | tuple):
        known = [not any(isinstance(each, Tensor) for each in leaves(row)) for row in paddings]
        padded.set_shape(
            [
                size + int(np.sum(row)) if fixed and size is not None else None
                for size, row, fixed in zip(source, paddings, known, strict=True)
            ]
        )
    return padded


@public("broadcast_static_shape(...)")
def broadcast_static_shape(shape_x: Dims, shape_y: Dims) -> TensorShape:
    """Return the shape to which two shapes broadcast.

    Raises:
        ValueError: The shapes cannot be broadcast.
    """
    return TensorShape(broadcast(shape_x, shape_y))


@public("concat(values, axis, name='concat')")
def concat(values: Any, axis: Any, name: str) -> Tensor:
    """Concatenate tensors along ``axis``.

    Raises:
        TypeError: Their types differ.
        ValueError: Their shapes differ in another axis, or they are scalars.
    """
    values = list(values) if isinstance(values, list | tuple) else [values]
    if len(values) == 1:
        place = convert_to_tensor(axis, dtypes.int32, "concat_dim")
        if place.ndim:
            raise ValueError(f"axis of concat must be a scalar, got shape {place.shape}")
        single: Tensor = identity(values[0], name)
        return single
    return apply("ConcatV2", values, axis, name=name)


@public("stack(values, axis=0, name='stack')")
def stack(values: Any, axis: int, name: str) -> Tensor:
    """Stack tensors of the same shape along a new axis.

    Raises:
        TypeError: Their types differ.
        ValueError: Their shapes differ, or ``axis`` is out of range.
    """
    if axis == 0:
        try:
            return convert_to_tensor(values, name=name)
        except (TypeError, ValueError):
            pass  # lists of arrays, and mixed types, where the operation reports a better error
    first = convert_to_tensor(values[0])
    if first.ndim is not None and not -first.ndim - 1 <= axis <= first.ndim:
        raise ValueError(f"axis = {axis} not in [{-first.ndim - 1}, {first.ndim + 1})")
    return apply("Pack", list(values), name=name, axis=axis)


def _number(argument: int | None, sizes: Tensor, axis: int) -> int:
    """Return the number of parts: the argument if it is set, otherwise the size of the axis."""
    if argument is not None:
        return argument
    dims = sizes.known_dims
    if dims is not None and not -len(dims) <= axis < len(dims):
        raise ValueError(f"axis = {axis} not in [{-len(dims)}, {len(dims)})")
    known = None if dims is None else dims[axis]
    if known is None:
        raise ValueError(f"Cannot infer num from shape {sizes.shape}: pass the argument num")
    return known


@public("unstack(value, num=None, axis=0, name='unstack')")
def unstack(value: Tensor, num: int | None, axis: int, name: str) -> list[Tensor]:
    """Return the slices along ``axis``, as a list of ``num`` tensors with one axis less.

    Raises:
        ValueError: ``num`` is omitted and cannot be inferred, or ``axis`` is out of range.
    """
    return apply_many("Unpack", value, name=name, num=_number(num, value, axis), axis=axis)


@public("split(value, num_or_size_splits, axis=0, num=None, name='split')")
def split(value: Any, num_or_size_splits: Any, axis: Any, num: int | None, name: str) -> list[Tensor]:
    """Split a tensor along ``axis`` into a number of equal parts, or into parts of given sizes.

    One of the sizes can be -1 for the remaining elements.

    Raises:
        ValueError: The parts do not match the size of the axis, or their number is not known.
    """
    if isinstance(num_or_size_splits, int | np.integer | Dimension):
        return apply_many("Split", axis, value, name=name, num_split=int(num_or_size_splits))
    sizes = convert_to_tensor(num_or_size_splits)
    if sizes.ndim == 0:
        raise ValueError("Rank-0 tensors are not supported as the num_or_size_splits argument to split.")
    return apply_many("SplitV", value, sizes, axis, name=name, num_split=_number(num, sizes, 0))
