"""Making arrays, and changing the shape and order of what is in them."""

import math
from typing import Any, Final

import numpy as np

from mpqueue.compat.functions.direct import direct, renamed_argument
from mpqueue.compat.functions.math import cast
from mpqueue.compat.graph.build import apply, apply_many
from mpqueue.compat.graph.convert import constant, convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.graph.sparse import SparseTensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dimension import Dimension
from mpqueue.compat.ops.dims import broadcast, count, is_known
from mpqueue.compat.ops.dtypes import DType, as_dtype
from mpqueue.compat.ops.literals import leaves
from mpqueue.compat.ops.tensorshape import TensorShape, as_shape
from mpqueue.parsing.sparse import SparseTensorValue

_SMALL: Final = 1000  # zeros and ones of fewer elements are constants

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


def fill(dims: Any, value: Any, name: str | None = None, layout: Any = None) -> Tensor:
    """An array of shape ``dims`` full of one value, in the value's type.

    Follows: ``tf.fill``.
    """
    del layout
    return apply("Fill", dims, value, name=name)


def _full(shape: Any, value: Any, dtype: Any, name: str | None, default_name: str) -> Tensor:
    kind = as_dtype(dtype).base_dtype
    with get_default_graph().name_scope(name or default_name) as scope:
        if not isinstance(shape, Tensor):
            try:
                if math.prod(_sizes(shape)) < _SMALL:
                    return constant(value, kind, _sizes(shape), scope)
            except TypeError:
                pass  # nodes or unknown sizes among the sizes
            shape = convert_to_tensor(shape, dtypes.int32)
        if shape.ndim != 1:
            shape = reshape(shape, [-1])
        return fill(shape, constant(value, kind), name=scope)


def _sizes(shape: Any) -> list[int]:
    return [int(size) for size in shape]


def zeros(shape: Any, dtype: Any = dtypes.float32, name: str | None = None, layout: Any = None) -> Tensor:
    """Zeros; False for bool, empty for text.

    Follows: ``tf.zeros``.
    """
    del layout
    return _full(shape, _nothing(as_dtype(dtype)), dtype, name, "zeros")


def _nothing(kind: DType) -> Any:
    return {dtypes.string: "", dtypes.bool_: False}.get(kind.base_dtype, 0)


def ones(shape: Any, dtype: Any = dtypes.float32, name: str | None = None, layout: Any = None) -> Tensor:
    """Ones; True for bool.

    Follows: ``tf.ones``.
    """
    del layout
    return _full(shape, True if as_dtype(dtype) == dtypes.bool_ else 1, dtype, name, "ones")


def zeros_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Tensor:
    """Zeros in the shape, and if ``dtype`` is None the type, of a tensor.

    Follows: ``tf.zeros_like``.
    """
    del optimize
    with get_default_graph().name_scope(name or "zeros_like") as scope:
        tensor = convert_to_tensor(tensor, name="tensor")
        kind = tensor.dtype.base_dtype if dtype is None else as_dtype(dtype).base_dtype
        if is_known(tensor.known_dims):
            return zeros(tensor.known_dims, kind, scope)
        if kind is tensor.dtype.base_dtype:
            return apply("ZerosLike", tensor, name=scope)
        return fill(shape(tensor), constant(_nothing(kind), kind), name=scope)


def ones_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Tensor:
    """Ones in the shape, and if ``dtype`` is None the type, of a tensor.

    Follows: ``tf.ones_like``.
    """
    del optimize
    with get_default_graph().name_scope(name or "ones_like") as scope:
        tensor = convert_to_tensor(tensor, name="tensor")
        made = ones(shape(tensor), tensor.dtype if dtype is None else dtype, scope)
        made.set_shape(tensor.get_shape())
        return made


def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range") -> Tensor:
    """Numbers from ``start`` (or 0) to below ``limit``, ``delta`` apart; of the widest type of the three.

    Raises:
        ValueError: ``delta`` is 0 or leads away from ``limit``, where that is known.

    Follows: ``tf.range``.
    """
    if limit is None:
        start, limit = 0, start
    with get_default_graph().name_scope(name) as scope:
        order = (dtypes.int32, dtypes.int64, dtypes.float32, dtypes.float64)
        wanted = None if dtype is None else as_dtype(dtype)
        three = [
            each if isinstance(each, Tensor) else convert_to_tensor(each, wanted, what)
            for each, what in ((start, "start"), (limit, "limit"), (delta, "delta"))
        ]
        if wanted is None:
            kinds = [each.dtype.base_dtype for each in three]
            if not set(kinds) <= set(order):
                raise TypeError(f"range is for int32, int64, float32 and float64, got {[each.name for each in kinds]}")
            wanted = max(kinds, key=order.index)
        return apply("Range", *(cast(each, wanted) for each in three), name=scope)


def lin_space(start: Any, stop: Any, num: Any, name: str | None = None, axis: int = 0) -> Tensor:
    """``num`` numbers, evenly spaced, both ends included; scalars only.

    Follows: ``tf.lin_space``.
    """
    del axis
    start = convert_to_tensor(start, name="start")
    return apply("LinSpace", start, convert_to_tensor(stop, start.dtype), num, name=name)


linspace = lin_space


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


def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """A new axis of size ``depth``, ``on_value`` (1) at the index and ``off_value`` (0) elsewhere.

    Args:
        indices: Ints; one outside of [0, depth) marks nothing.
        depth: Size of the new axis.
        on_value: What marks.
        off_value: What is elsewhere.
        axis: Where the new axis goes, default last.
        dtype: Type of the result, default that of the values, else float32.
        name: Name of the node.

    Raises:
        TypeError: The indices are no ints, or the values have another type than ``dtype`` or than each other.
        ValueError: ``axis`` is out of range.

    Follows: ``tf.one_hot``.
    """
    with get_default_graph().name_scope(name or "one_hot") as scope:
        wanted = None if dtype is None else as_dtype(dtype).base_dtype
        given = [
            None if each is None else convert_to_tensor(each, _hint(each, wanted)) for each in (on_value, off_value)
        ]
        kinds = {each.dtype.base_dtype for each in given if each is not None}
        if wanted is not None and kinds - {wanted}:
            raise TypeError(f"dtype {wanted.name} of one_hot does not match that of on_value or off_value: {kinds}")
        if len(kinds) > 1:
            raise TypeError(f"on_value and off_value of one_hot must have one type, got {kinds}")
        kind = wanted or (kinds.pop() if kinds else dtypes.float32)
        on, off = (
            constant(default, kind) if each is None else each for each, default in zip(given, (1, 0), strict=True)
        )
        return apply("OneHot", indices, depth, on, off, name=scope, axis=-1 if axis is None else axis)


def _hint(value: Any, wanted: DType | None) -> DType | None:
    return None if isinstance(value, Tensor) else wanted


def concat(values: Any, axis: Any, name: str = "concat") -> Tensor:
    """The tensors one behind the other along ``axis``.

    Raises:
        TypeError: Their types differ.
        ValueError: Their shapes differ in another axis, or they are scalars.

    Follows: ``tf.concat``.
    """
    values = list(values) if isinstance(values, list | tuple) else [values]
    if len(values) == 1:
        place = convert_to_tensor(axis, dtypes.int32, "concat_dim")
        if place.ndim:
            raise ValueError(f"axis of concat must be a scalar, got shape {place.shape}")
        return identity(values[0], name)  # type: ignore[no-any-return]
    return apply("ConcatV2", values, axis, name=name)


def stack(values: Any, axis: int = 0, name: str = "stack") -> Tensor:
    """The tensors, of one shape, side by side along a new axis.

    Raises:
        TypeError: Their types differ.
        ValueError: Their shapes differ, or ``axis`` is out of range.

    Follows: ``tf.stack``.
    """
    if axis == 0:
        try:
            return convert_to_tensor(values, name=name)
        except (TypeError, ValueError):
            pass  # lists of arrays, and mixed types, which the operation can report better
    first = convert_to_tensor(values[0])
    if first.ndim is not None and not -first.ndim - 1 <= axis <= first.ndim:
        raise ValueError(f"axis = {axis} not in [{-first.ndim - 1}, {first.ndim + 1})")
    return apply("Pack", list(values), name=name, axis=axis)


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str = "unstack") -> list[Tensor]:
    """The slices along ``axis``, as a list of ``num`` tensors with one axis less.

    Raises:
        ValueError: ``num`` is not given and not known, or ``axis`` is out of range.

    Follows: ``tf.unstack``.
    """
    value = convert_to_tensor(value)
    if num is None:
        dims = value.known_dims
        if dims is not None and not -len(dims) <= axis < len(dims):
            raise ValueError(f"axis = {axis} not in [{-len(dims)}, {len(dims)})")
        num = None if dims is None else dims[axis]
        if num is None:
            raise ValueError(f"Cannot infer num from shape {value.shape}: give it")
    return apply_many("Unpack", value, name=name, num=num, axis=axis)


def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split"
) -> list[Tensor]:
    """Parts along ``axis``: so many equal ones, or of these sizes (one may be -1, the rest).

    Raises:
        ValueError: The parts do not fit, or their number is not known.

    Follows: ``tf.split``.
    """
    if isinstance(num_or_size_splits, int | np.integer | Dimension):
        return apply_many("Split", axis, value, name=name, num_split=int(num_or_size_splits))
    sizes = convert_to_tensor(num_or_size_splits)
    if sizes.ndim == 0:
        raise ValueError("Rank-0 tensors are not supported as the num_or_size_splits argument to split.")
    if num is None and sizes.known_dims:
        num = sizes.known_dims[0]
    if num is None:
        raise ValueError(f"Cannot infer num from shape {sizes.shape}: give it")
    return apply_many("SplitV", value, sizes, axis, name=name, num_split=num)


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape:
    """The shape to which two shapes broadcast.

    Raises:
        ValueError: They do not.

    Follows: ``tf.broadcast_static_shape``.
    """
    return TensorShape(broadcast(as_shape(shape_x).known, as_shape(shape_y).known))
