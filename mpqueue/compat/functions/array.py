"""Arrays as such: their shapes, and other shapes of them."""

from typing import Any

import numpy as np

from mpqueue.compat.functions.direct import direct, renamed_argument
from mpqueue.compat.functions.math import cast
from mpqueue.compat.graph.build import apply
from mpqueue.compat.graph.convert import constant, convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.graph.sparse import SparseTensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dims import broadcast, count, is_known
from mpqueue.compat.ops.dtypes import as_dtype
from mpqueue.compat.ops.literals import leaves
from mpqueue.compat.ops.tensorshape import TensorShape, as_shape
from mpqueue.values.sparse import SparseTensorValue

reshape = direct("Reshape", "reshape")


tile = direct("Tile", "tile")


reverse = reverse_v2 = direct("ReverseV2", "reverse")


broadcast_to = direct("BroadcastTo", "broadcast_to")


broadcast_dynamic_shape = direct("BroadcastArgs", "broadcast_dynamic_shape", s0="shape_x", s1="shape_y")


invert_permutation = direct("InvertPermutation", "invert_permutation")


stop_gradient = direct("StopGradient", "stop_gradient")


def identity(input: Any, name: str | None = None) -> Any:
    """The same values, in a node of their own.

    Follows: ``tf.identity``.
    """
    if isinstance(input, SparseTensor):
        return SparseTensor(*(identity(each, name) for each in (input.indices, input.values, input.dense_shape)))
    return apply("Identity", input, name=name)


def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Tensor:
    """The same values, known to have ``shape``; another one is an `InvalidArgumentError` of the run.

    Follows: ``tf.ensure_shape``.
    """
    return apply("EnsureShape", x, name=name, shape=as_shape(shape).known)


def shape(input: Any, name: str | None = None, out_type: Any = None) -> Tensor:
    """The sizes of the axes, as an int32 vector unless ``out_type`` says int64.

    Follows: ``tf.shape``.
    """
    kind = dtypes.int32 if out_type is None else as_dtype(out_type)
    with get_default_graph().name_scope(name or "Shape") as scope:
        if isinstance(input, SparseTensor | SparseTensorValue):
            return cast(SparseTensor.from_value(input).dense_shape, kind)  # type: ignore[no-any-return]
        input = convert_to_tensor(input)
        if is_known(input.known_dims):
            return constant(np.array(input.known_dims, kind.as_numpy_dtype), kind, name=scope)
        return apply("Shape", input, name=scope, out_type=kind)


def size(input: Any, name: str | None = None, out_type: Any = None) -> Tensor:
    """The number of elements, int32 unless ``out_type`` says int64.

    Follows: ``tf.size``.
    """
    kind = dtypes.int32 if out_type is None else as_dtype(out_type)
    with get_default_graph().name_scope(name or "Size") as scope:
        if isinstance(input, SparseTensor | SparseTensorValue):
            return apply("Prod", shape(input, out_type=kind), 0, name=scope)
        input = convert_to_tensor(input)
        known = 0 if input.known_dims is not None and 0 in input.known_dims else count(input.known_dims)
        if known is not None:
            return constant(known, kind, name=scope)
        return apply("Size", input, name=scope, out_type=kind)


def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of axes, int32.

    Follows: ``tf.rank``.
    """
    with get_default_graph().name_scope(name or "Rank") as scope:
        if isinstance(input, SparseTensor | SparseTensorValue):
            return size(SparseTensor.from_value(input).dense_shape, scope)
        input = convert_to_tensor(input)
        return (
            apply("Rank", input, name=scope) if input.ndim is None else constant(input.ndim, dtypes.int32, name=scope)
        )


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """With one more axis of size 1 at ``axis``, which may count from the right.

    Follows: ``tf.expand_dims``.
    """
    axis = renamed_argument(axis, dim, "axis", "dim")
    if axis is None:
        raise ValueError("Must specify an axis argument to tf.expand_dims()")
    return apply("ExpandDims", input, axis, name=name)


def squeeze(input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None) -> Tensor:
    """Without the axes of size 1, or those of them that ``axis`` names.

    Follows: ``tf.squeeze``.
    """
    axis = renamed_argument(axis, squeeze_dims, "axis", "squeeze_dims")
    axes = () if axis is None else (axis,) if np.isscalar(axis) else tuple(axis)
    return apply("Squeeze", input, name=name, squeeze_dims=tuple(int(each) for each in axes))


def transpose(a: Any, perm: Any = None, name: str = "transpose", conjugate: bool = False) -> Tensor:
    """The axes in the order of ``perm``, default the other way round.

    Follows: ``tf.transpose``.
    """
    with get_default_graph().name_scope(name) as scope:
        a = convert_to_tensor(a, name="a")
        if perm is None and a.ndim is None:
            perm = apply("Range", apply("Sub", apply("Rank", a), 1), -1, -1)
        elif perm is None:
            perm = np.arange(a.ndim, dtype=np.int32)[::-1]
        out = apply("Transpose", a, perm, name=scope)
        return apply("Conj", out) if conjugate and a.dtype.is_complex else out


def matrix_transpose(a: Any, name: str = "matrix_transpose", conjugate: bool = False) -> Tensor:
    """The last two axes swapped.

    Follows: ``tf.matrix_transpose``.
    """
    a = convert_to_tensor(a, name="a")
    if a.ndim is None or a.ndim < 2:
        raise ValueError(f"matrix_transpose needs a known rank of at least 2, got shape {a.shape}")
    order = list(np.arange(a.ndim))
    return transpose(a, [*order[:-2], order[-1], order[-2]], name, conjugate)


def pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", name: str | None = None, constant_values: Any = 0
) -> Tensor:
    """``paddings[axis]`` = (before, after) more elements along each axis: a constant, or the array mirrored.

    Args:
        tensor: The array.
        paddings: An int table of shape (rank, 2).
        mode: "CONSTANT", "REFLECT" (mirrored without the edge) or "SYMMETRIC" (with the edge), in any case.
        name: Name of the node.
        constant_values: The constant.

    Raises:
        ValueError: Another mode, or paddings that do not fit.

    Follows: ``tf.pad``.
    """
    upper = mode.upper()
    if upper == "CONSTANT":
        if not isinstance(constant_values, Tensor) and np.ndim(constant_values) == 0 and constant_values == 0:
            out = apply("Pad", tensor, paddings, name=name)
        else:
            out = apply("PadV2", tensor, paddings, constant_values, name=name)
        return _with_known_sums(out, paddings)
    if upper not in ("REFLECT", "SYMMETRIC"):
        raise ValueError(f"mode must be CONSTANT, REFLECT or SYMMETRIC, got {mode!r}")
    return apply("MirrorPad", tensor, paddings, name=name, mode=upper)


def _with_known_sums(padded: Tensor, paddings: Any) -> Tensor:
    """The sizes that are known although other rows of a list of paddings hold nodes."""
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


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape:
    """The shape to which two shapes broadcast.

    Raises:
        ValueError: They do not.

    Follows: ``tf.broadcast_static_shape``.
    """
    return TensorShape(broadcast(as_shape(shape_x).known, as_shape(shape_y).known))
