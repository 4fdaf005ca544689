"""Arrays made of a shape: constants, ranges, one-hot vectors."""

import math
from typing import Any, Final

from mpqueue.compat.functions.array import reshape, shape
from mpqueue.compat.functions.math import cast
from mpqueue.compat.graph.build import apply
from mpqueue.compat.graph.convert import constant, convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dims import is_known
from mpqueue.compat.ops.dtypes import DType, as_dtype

_SMALL: Final = 1000  # zeros and ones of fewer elements are constants


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
