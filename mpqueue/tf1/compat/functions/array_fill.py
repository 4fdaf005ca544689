"""Arrays created from a shape: constants, ranges, one-hot vectors."""

import math
from typing import Any, Final

from mpqueue.tf1.compat.functions.array import shape
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.functions.math import cast
from mpqueue.tf1.compat.graph import Tensor, apply, constant, convert_to_tensor
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import is_known
from mpqueue.tf1.compat.ops.dtypes import DType

_SMALL: Final = 1000  # zeros and ones with fewer elements are created as constants
_COUNTED: Final = (dtypes.int32, dtypes.int64, dtypes.float32, dtypes.float64)  # the types of `range`, widest last


def _full(shape: Any, value: Any, kind: DType, name: str) -> Tensor:
    if not isinstance(shape, Tensor):
        try:
            sizes = [int(size) for size in shape]
            if math.prod(sizes) < _SMALL:
                return constant(value, kind, sizes, name)
        except TypeError:
            pass  # some sizes are nodes or unknown
        shape = convert_to_tensor(shape, dtypes.int32)
    if shape.ndim != 1:
        shape = direct.reshape(shape, [-1])
    return direct.fill(shape, constant(value, kind), name=name)


def _nothing(kind: DType) -> Any:
    return {dtypes.string: "", dtypes.bool_: False}.get(kind, 0)


@public("zeros(shape, dtype=float32, name, layout=None)", scope="zeros")
def zeros(shape: Any, dtype: DType, name: str) -> Tensor:
    """Return zeros; False for bool, empty strings for string."""
    return _full(shape, _nothing(dtype), dtype, name)


@public("ones(shape, dtype=float32, name, layout=None)", scope="ones")
def ones(shape: Any, dtype: DType, name: str) -> Tensor:
    """Return ones; True for bool."""
    return _full(shape, True if dtype == dtypes.bool_ else 1, dtype, name)


@public("zeros_like(tensor, dtype=None, name, optimize=True)", scope="zeros_like")
def zeros_like(tensor: Tensor, dtype: DType | None, name: str) -> Tensor:
    """Return zeros in the shape of a tensor, and of its type if ``dtype`` is None."""
    kind = dtype or tensor.dtype.base_dtype
    if is_known(tensor.known_dims):
        return zeros(tensor.known_dims, kind, name)
    if kind is tensor.dtype.base_dtype:
        return apply("ZerosLike", tensor, name=name)
    return direct.fill(shape(tensor), constant(_nothing(kind), kind), name=name)


@public("ones_like(tensor, dtype=None, name, optimize=True)", scope="ones_like")
def ones_like(tensor: Tensor, dtype: DType | None, name: str) -> Tensor:
    """Return ones in the shape of a tensor, and of its type if ``dtype`` is None."""
    made = ones(shape(tensor), dtype or tensor.dtype, name)
    made.set_shape(tensor.get_shape())
    return made


@public("range(start, limit=None, delta=1, dtype=None, name='range')", scope="range")
def range(start: Any, limit: Any, delta: Any, dtype: DType | None, name: str) -> Tensor:
    """Return numbers from ``start`` (or 0) up to, excluding, ``limit``, in steps of ``delta``.

    The type of the result is the widest type of the three.

    Raises:
        ValueError: ``delta`` is 0 or has the wrong sign, if that is known.
    """
    if limit is None:
        start, limit = 0, start
    three = [
        each if isinstance(each, Tensor) else convert_to_tensor(each, dtype, what)
        for each, what in ((start, "start"), (limit, "limit"), (delta, "delta"))
    ]
    if dtype is None:
        kinds = [each.dtype.base_dtype for each in three]
        if not set(kinds) <= set(_COUNTED):
            raise TypeError(f"range supports int32, int64, float32 and float64, got {[each.name for each in kinds]}")
        dtype = max(kinds, key=_COUNTED.index)
    return apply("Range", *(cast(each, dtype) for each in three), name=name)


@public("one_hot(indices, depth, on_value=None, off_value=None, axis=None, dtype=None, name)", scope="one_hot")
def one_hot(
    indices: Any, depth: Any, on_value: Any, off_value: Any, axis: int | None, dtype: DType | None, name: str
) -> Tensor:
    """Return a new axis of size ``depth`` with ``on_value`` (1) at the index and ``off_value`` (0) elsewhere.

    Args:
        indices: Integers. An index outside of [0, depth) sets no element.
        depth: Size of the new axis.
        on_value: Value at the index.
        off_value: Value elsewhere.
        axis: Position of the new axis; last by default.
        dtype: Type of the result. If None, the type of the values, or float32 without values.

    Raises:
        TypeError: The indices are not integers, or the types of the values and ``dtype`` differ.
        ValueError: ``axis`` is out of range.
    """
    values = [
        None if each is None else convert_to_tensor(each, None if isinstance(each, Tensor) else dtype)
        for each in (on_value, off_value)
    ]
    kinds = {each.dtype.base_dtype for each in values if each is not None}
    if dtype is not None and kinds - {dtype}:
        raise TypeError(f"dtype {dtype.name} of one_hot does not match the type of on_value or off_value: {kinds}")
    if len(kinds) > 1:
        raise TypeError(f"on_value and off_value of one_hot must have one type, got {kinds}")
    kind = dtype or (kinds.pop() if kinds else dtypes.float32)
    on, off = (constant(default, kind) if each is None else each for each, default in zip(values, (1, 0), strict=True))
    return apply("OneHot", indices, depth, on, off, name=name, axis=-1 if axis is None else axis)
