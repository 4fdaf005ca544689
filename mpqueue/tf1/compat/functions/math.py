"""Arithmetic, comparisons and elementwise functions."""

import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.graph import SparseTensor, Tensor, apply, convert_to_tensor
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import merged
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.values.sparse import SparseTensorValue

DIVIDED_AS: Final = {
    dtypes.uint8: dtypes.float32,
    dtypes.int8: dtypes.float32,
    dtypes.uint16: dtypes.float32,
    dtypes.int16: dtypes.float32,
    dtypes.uint32: dtypes.float64,
    dtypes.int32: dtypes.float64,
    dtypes.uint64: dtypes.float64,
    dtypes.int64: dtypes.float64,
}
"""The float types for the division of integers; floats and complex numbers keep their type."""

_CAMEL: Final = re.compile(r"(?:^|_)(\w)")


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Convert both arguments to tensors; ``y`` takes the type of ``x`` if possible."""
    first = convert_to_tensor(x, name="x")
    return first, convert_to_tensor(y, name="y", dtype_hint=first.dtype.base_dtype)


@public("add", scope="Add")
def add(x: Any, y: Any, name: str) -> Tensor:
    """Return ``x + y``, both of one type; strings are concatenated."""
    x, y = _pair(x, y)
    return apply("Add" if x.dtype == dtypes.string else "AddV2", x, y, name=name)


def _float_pair(x: Any, y: Any, what: str) -> tuple[Tensor, Tensor]:
    x, y = _pair(x, y)
    if x.dtype.base_dtype is not y.dtype.base_dtype:
        raise TypeError(f"x and y of {what} must have one type, got {x.dtype.name} and {y.dtype.name}")
    own = x.dtype.base_dtype
    if not (own.is_floating or own.is_complex or own in DIVIDED_AS):
        raise TypeError(f"{what} requires numbers, got {own.name}")
    kind = DIVIDED_AS.get(own, own)
    return cast(x, kind), cast(y, kind)


@public("truediv", scope="truediv")
def truediv(x: Any, y: Any, name: str) -> Tensor:
    """Return ``x / y``; 8 and 16 bit integers are divided as float32, larger ones as float64."""
    return apply("RealDiv", *_float_pair(x, y, "truediv"), name=name)


@public("divide")
def divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Return ``x / y`` with the semantics of the operator ``/``."""
    if not isinstance(x, Tensor):
        x = convert_to_tensor(x, y.dtype.base_dtype if isinstance(y, Tensor) else None)
    return truediv(x, y, name)


@public("div", scope="div")
def div(x: Tensor, y: Any, name: str) -> Tensor:
    """Return ``x / y`` for floats and ``x // y`` for integers, as in Python 2."""
    y = convert_to_tensor(y, x.dtype.base_dtype, "y")
    return apply("RealDiv" if x.dtype.is_floating or x.dtype.is_complex else "FloorDiv", x, y, name=name)


@public("div_no_nan", scope="div_no_nan")
def div_no_nan(x: Any, y: Any, name: str) -> Tensor:
    """Return ``x / y``, or 0 where ``y`` is 0."""
    if isinstance(y, Tensor) and not isinstance(x, Tensor):
        x = convert_to_tensor(x, y.dtype.base_dtype, "x")
    return apply("DivNoNan", *_float_pair(x, y, "div_no_nan"), name=name)


@public("abs")
def abs(x: Tensor, name: str | None = None) -> Tensor:
    """Return the absolute value; for complex numbers, a float."""
    if x.dtype.is_complex:
        return apply("ComplexAbs", x, name=name or "Abs", Tout=x.dtype.real_dtype)
    return apply("Abs", x, name=name)


@public("round")
def round(x: Tensor, name: str | None = None) -> Tensor:
    """Round to the nearest integer, halves to even; integers are returned unchanged."""
    return x if x.dtype.is_integer else apply("Round", x, name=name)


@public("cast")
def cast(x: Any, dtype: DType, name: str | None = None) -> Any:
    """Convert to another type: floats are truncated to integers, integers wrap around, nonzero values are True.

    Strings are not parsed: casting one raises `UnimplementedError` when run (see `string_to_number`). For a sparse
    tensor, the values are cast.
    """
    if isinstance(x, SparseTensor | SparseTensorValue):
        x = SparseTensor.from_value(x)
        return SparseTensor(x.indices, cast(x.values, dtype, name), x.dense_shape)
    x = convert_to_tensor(x, name="x")
    return x if x.dtype.base_dtype is dtype else apply("Cast", x, name=name, DstT=dtype)


@public("saturate_cast")
def saturate_cast(value: Tensor, dtype: DType, name: str | None = None) -> Any:
    """Cast like `cast`, but clip values to the range of the new type."""
    own = value.dtype.base_dtype
    if own.min < dtype.min:
        value = direct.maximum(value, convert_to_tensor(_inner_limit(dtype.min, own), own))
    if own.max > dtype.max:
        value = direct.minimum(value, convert_to_tensor(_inner_limit(dtype.max, own), own))
    return cast(value, dtype, name)


def _inner_limit(limit: Any, own: DType) -> Any:
    """Return the limit of a type's range in type ``own``, or the next value inside if it is not representable."""
    near = own.as_numpy_dtype(limit)
    return np.nextafter(near, own.as_numpy_dtype(0)) if not (limit == 0 or 0 <= int(near) / int(limit) <= 1) else near


def _casting(kind: DType, name: str) -> Callable[..., Any]:
    @public(f"{name}(x, name='{_CAMEL.sub(lambda match: match[1].upper(), name)}')", doc=f"`cast` to {kind.name}.")
    def function(x: Any, name: str) -> Any:
        return cast(x, kind, name)

    return function


to_float = _casting(dtypes.float32, "to_float")
to_double = _casting(dtypes.float64, "to_double")
to_int32 = _casting(dtypes.int32, "to_int32")
to_int64 = _casting(dtypes.int64, "to_int64")
to_complex64 = _casting(dtypes.complex64, "to_complex64")
to_complex128 = _casting(dtypes.complex128, "to_complex128")


@public("clip_by_value", scope="clip_by_value")
def clip_by_value(t: Tensor, clip_value_min: Any, clip_value_max: Any, name: str) -> Tensor:
    """Clip elements to the range from ``clip_value_min`` to ``clip_value_max``."""
    upper = direct.minimum(t, clip_value_max)
    merged(t.known_dims, upper.known_dims)
    both = direct.maximum(upper, clip_value_min, name=name)
    merged(t.known_dims, both.known_dims)
    return both


@public("add_n")
def add_n(inputs: Any, name: str | None = None) -> Tensor:
    """Return the sum of tensors of the same type and shape.

    Raises:
        ValueError: ``inputs`` is not a list or is empty, or the shapes differ.
    """
    if not isinstance(inputs, list | tuple) or not inputs:
        raise ValueError("inputs must be a list of at least one Tensor with the same dtype and shape")
    tensors = [convert_to_tensor(each) for each in inputs]
    if len(tensors) == 1:
        return tensors[0] if name is None else apply("Identity", tensors[0], name=name)
    return apply("AddN", tensors, name=name)


_PARTS: Final = {"Real": "real part", "Imag": "imaginary part", "Angle": "angle"}


def _complex_part(kind: str) -> Callable[..., Tensor]:
    @public(kind.lower(), doc=f"Return the {_PARTS[kind]} of complex numbers, as a float.")
    def function(input: Tensor, name: str | None = None) -> Tensor:
        if not input.dtype.is_complex and kind == "Real":
            return input
        return apply(kind, input, name=name, Tout=input.dtype.real_dtype)

    return function


real, imag, angle = map(_complex_part, _PARTS)


@public("conj")
def conj(x: Tensor, name: str | None = None) -> Tensor:
    """Return the complex conjugate; real numbers are returned unchanged."""
    return apply("Conj", x, name=name) if x.dtype.is_complex else x
