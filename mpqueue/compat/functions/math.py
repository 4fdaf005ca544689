"""Arithmetic, comparisons and functions of single elements."""

from typing import Any, Final

import numpy as np

from mpqueue.compat.functions.direct import direct
from mpqueue.compat.graph.build import apply
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.graph.sparse import SparseTensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dims import merged
from mpqueue.compat.ops.dtypes import DType, as_dtype
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
"""The float types in which ints are divided; floats and complex numbers keep their own."""

subtract = direct("Sub", "subtract", "``x - y``, both of one type.")
multiply = direct("Mul", "multiply", "``x * y``, both of one type.")
floordiv = direct("FloorDiv", "floordiv", "``x / y`` rounded down, both of one type.")
mod = floormod = direct("FloorMod", "mod", "The rest of `floordiv`: it has the sign of ``y``.")
truncatediv = direct("TruncateDiv", "truncatediv", "``x / y`` rounded towards zero, both of one type.")
truncatemod = direct("TruncateMod", "truncatemod", "The rest of `truncatediv`: it has the sign of ``x``.")
realdiv = direct("RealDiv", "realdiv", "``x / y`` of floats of one type.")
pow = direct("Pow", "pow", "``x`` to the power of ``y``, both of one type; ints have no negative powers.")
maximum = direct("Maximum", "maximum", "The larger of two elements; NaN if one is.")
minimum = direct("Minimum", "minimum", "The smaller of two elements; NaN if one is.")
squared_difference = direct("SquaredDifference", "squared_difference", "``(x - y) ** 2``.")
atan2 = direct("Atan2", "atan2", "The angle of the point (second, first).", x="y", y="x")

equal = direct("Equal", "equal", "``x == y``, element by element.")
not_equal = direct("NotEqual", "not_equal", "``x != y``, element by element.")
less = direct("Less", "less", "``x < y``, element by element.")
less_equal = direct("LessEqual", "less_equal", "``x <= y``, element by element.")
greater = direct("Greater", "greater", "``x > y``, element by element.")
greater_equal = direct("GreaterEqual", "greater_equal", "``x >= y``, element by element.")
logical_and = direct("LogicalAnd", "logical_and", "Whether both bools hold.")
logical_or = direct("LogicalOr", "logical_or", "Whether one of two bools holds.")
bitwise_and = direct("BitwiseAnd", "bitwise.bitwise_and", "The bits that two ints share.")
bitwise_or = direct("BitwiseOr", "bitwise.bitwise_or", "The bits that one of two ints has.")
bitwise_xor = direct("BitwiseXor", "bitwise.bitwise_xor", "The bits that only one of two ints has.")
invert = direct("Invert", "bitwise.invert", "The bits that an int has not.")
logical_not = direct("LogicalNot", "logical_not", "The other bool.")

negative = direct("Neg", "negative", "``-x``.")
square = direct("Square", "square", "``x * x``.")
sqrt = direct("Sqrt", "sqrt", "The square root of floats.")
rsqrt = direct("Rsqrt", "rsqrt", "1 over the square root of floats.")
reciprocal = direct("Reciprocal", "reciprocal", "``1 / x`` of floats.")
exp = direct("Exp", "exp", "e to the power of ``x``.")
expm1 = direct("Expm1", "expm1", "``exp(x) - 1``, exact near 0.")
log = direct("Log", "log", "The natural logarithm.")
log1p = direct("Log1p", "log1p", "``log(1 + x)``, exact near 0.")
sigmoid = direct("Sigmoid", "sigmoid", "``1 / (1 + exp(-x))``.")
tanh = direct("Tanh", "tanh", "The hyperbolic tangent.")
sinh = direct("Sinh", "sinh", "The hyperbolic sine.")
cosh = direct("Cosh", "cosh", "The hyperbolic cosine.")
sin = direct("Sin", "sin", "The sine.")
cos = direct("Cos", "cos", "The cosine.")
tan = direct("Tan", "tan", "The tangent.")
asin = direct("Asin", "asin", "The inverse of the sine.")
acos = direct("Acos", "acos", "The inverse of the cosine.")
atan = direct("Atan", "atan", "The inverse of the tangent.")
asinh = direct("Asinh", "asinh", "The inverse of the hyperbolic sine.")
acosh = direct("Acosh", "acosh", "The inverse of the hyperbolic cosine.")
atanh = direct("Atanh", "atanh", "The inverse of the hyperbolic tangent.")
floor = direct("Floor", "floor", "The next lower whole number, of floats.")
ceil = direct("Ceil", "ceil", "The next higher whole number, of floats.")
rint = direct("Rint", "rint", "The nearest whole number, halves to the even one, of floats.")
erf = direct("Erf", "erf", "The error function.")
erfc = direct("Erfc", "erfc", "1 minus the error function.")
lgamma = direct("Lgamma", "lgamma", "The logarithm of the absolute value of the gamma function.")
is_nan = direct("IsNan", "is_nan", "Whether it is not a number.")
is_inf = direct("IsInf", "is_inf", "Whether it is infinite.")
is_finite = direct("IsFinite", "is_finite", "Whether it is neither infinite nor NaN.")


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Two tensors; ``y`` is made the type of ``x`` if it can be."""
    first = convert_to_tensor(x, name="x")
    return first, convert_to_tensor(y, name="y", dtype_hint=first.dtype.base_dtype)


def add(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x + y``, both of one type; text is joined.

    Follows: ``tf.add``.
    """
    with get_default_graph().name_scope(name or "Add") as scope:
        x, y = _pair(x, y)
        return apply("Add" if x.dtype == dtypes.string else "AddV2", x, y, name=scope)


def _float_pair(x: Any, y: Any, what: str) -> tuple[Tensor, Tensor]:
    x, y = _pair(x, y)
    if x.dtype.base_dtype is not y.dtype.base_dtype:
        raise TypeError(f"x and y of {what} must have one type, got {x.dtype.name} and {y.dtype.name}")
    own = x.dtype.base_dtype
    if not (own.is_floating or own.is_complex or own in DIVIDED_AS):
        raise TypeError(f"{what} takes numbers, got {own.name}")
    kind = DIVIDED_AS.get(own, own)
    return cast(x, kind), cast(y, kind)


def truediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y``: 8 and 16 bit ints are divided as float32, larger ones as float64.

    Follows: ``tf.truediv``.
    """
    with get_default_graph().name_scope(name or "truediv") as scope:
        return apply("RealDiv", *_float_pair(x, y, "truediv"), name=scope)


def divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y``, as the operator ``/`` does it.

    Follows: ``tf.divide``.
    """
    if not isinstance(x, Tensor):
        x = convert_to_tensor(x, y.dtype.base_dtype if isinstance(y, Tensor) else None)
    return truediv(x, y, name)


def div(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y`` of floats, ``x // y`` of ints: Python 2's division.

    Follows: ``tf.div``.
    """
    with get_default_graph().name_scope(name or "div") as scope:
        x = convert_to_tensor(x, name="x")
        y = convert_to_tensor(y, x.dtype.base_dtype, "y")
        kind = "RealDiv" if x.dtype.is_floating or x.dtype.is_complex else "FloorDiv"
        return apply(kind, x, y, name=scope)


def div_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y``, and 0 where ``y`` is 0.

    Follows: ``tf.div_no_nan``.
    """
    with get_default_graph().name_scope(name or "div_no_nan") as scope:
        if isinstance(y, Tensor) and not isinstance(x, Tensor):
            x = convert_to_tensor(x, y.dtype.base_dtype, "x")
        return apply("DivNoNan", *_float_pair(x, y, "div_no_nan"), name=scope)


def logical_xor(x: Any, y: Any, name: str = "LogicalXor") -> Tensor:
    """Whether one of two bools holds, but not both.

    Follows: ``tf.logical_xor``.
    """
    return logical_and(logical_or(x, y), logical_not(logical_and(x, y)), name=name)  # type: ignore[no-any-return]


def abs(x: Any, name: str | None = None) -> Tensor:
    """The absolute value; a float for complex numbers.

    Follows: ``tf.abs``.
    """
    x = convert_to_tensor(x, name="x")
    if x.dtype.is_complex:
        return apply("ComplexAbs", x, name=name or "Abs", Tout=x.dtype.real_dtype)
    return apply("Abs", x, name=name)


def sign(x: Any, name: str | None = None) -> Tensor:
    """-1, 0 or 1 as the element is below, at or above 0; NaN for NaN.

    Follows: ``tf.sign``.
    """
    return apply("Sign", x, name=name)


def round(x: Any, name: str | None = None) -> Tensor:
    """The nearest whole number, halves to the even one; ints stay as they are.

    Follows: ``tf.round``.
    """
    x = convert_to_tensor(x, name="x")
    return x if x.dtype.is_integer else apply("Round", x, name=name)


def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """The values in another type: floats are cut to ints, ints wrap around, anything but 0 is True.

    Text is not parsed: that is an `UnimplementedError` of the run (see `string_to_number`). A sparse tensor's values
    are cast.

    Follows: ``tf.cast``.
    """
    kind = as_dtype(dtype).base_dtype
    if isinstance(x, SparseTensor | SparseTensorValue):
        x = SparseTensor.from_value(x)
        return SparseTensor(x.indices, cast(x.values, kind, name), x.dense_shape)
    x = convert_to_tensor(x, name="x")
    return x if x.dtype.base_dtype is kind else apply("Cast", x, name=name, DstT=kind)


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Tensor:
    """As `cast`, with values beyond the new type's range set to its ends.

    Follows: ``tf.saturate_cast``.
    """
    value, kind = convert_to_tensor(value, name="value"), as_dtype(dtype).base_dtype
    own = value.dtype.base_dtype
    if own.min < kind.min:
        value = maximum(value, convert_to_tensor(_inner_limit(kind.min, own), own))
    if own.max > kind.max:
        value = minimum(value, convert_to_tensor(_inner_limit(kind.max, own), own))
    return cast(value, kind, name)  # type: ignore[no-any-return]


def _inner_limit(limit: Any, own: DType) -> Any:
    """The end of another type's range in a type that may not have that very value: then the next one inside."""
    near = own.as_numpy_dtype(limit)
    return np.nextafter(near, own.as_numpy_dtype(0)) if not (limit == 0 or 0 <= int(near) / int(limit) <= 1) else near


def _casting(kind: DType, public_name: str) -> Any:
    def function(x: Any, name: str = public_name) -> Any:
        return cast(x, kind, name)

    function.__doc__ = f"`cast` to {kind.name}."
    return function


to_float = _casting(dtypes.float32, "ToFloat")
to_double = _casting(dtypes.float64, "ToDouble")
to_int32 = _casting(dtypes.int32, "ToInt32")
to_int64 = _casting(dtypes.int64, "ToInt64")
to_complex64 = _casting(dtypes.complex64, "ToComplex64")
to_complex128 = _casting(dtypes.complex128, "ToComplex128")


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Tensor:
    """Elements below and above the two bounds set to them.

    Follows: ``tf.clip_by_value``.
    """
    with get_default_graph().name_scope(name or "clip_by_value") as scope:
        t = convert_to_tensor(t, name="t")
        upper = minimum(t, clip_value_max)
        merged(t.known_dims, upper.known_dims)
        both = maximum(upper, clip_value_min, name=scope)
        merged(t.known_dims, both.known_dims)
        return both  # type: ignore[no-any-return]


def add_n(inputs: Any, name: str | None = None) -> Tensor:
    """The sum of tensors of one type and shape.

    Follows: ``tf.add_n``.
    """
    if not isinstance(inputs, list | tuple) or not inputs:
        raise ValueError("inputs must be a list of at least one Tensor with the same dtype and shape")
    tensors = [convert_to_tensor(each) for each in inputs]
    if len(tensors) == 1:
        return tensors[0] if name is None else apply("Identity", tensors[0], name=name)
    return apply("AddN", tensors, name=name)


def complex_part(kind: str, public_name: str) -> Any:
    """`real`, `imag` or `angle`: of complex numbers a float."""

    def function(input: Any, name: str | None = None) -> Tensor:
        tensor = convert_to_tensor(input, name="input")
        if not tensor.dtype.is_complex and kind == "Real":
            return tensor
        return apply(kind, tensor, name=name, Tout=tensor.dtype.real_dtype)

    function.__doc__ = f"The {public_name} of complex numbers.\n\nFollows: ``tf.{public_name}``."
    return function


def conj(x: Any, name: str | None = None) -> Tensor:
    """Complex numbers with the other sign of the imaginary part; real ones as they are.

    Follows: ``tf.conj``.
    """
    tensor = convert_to_tensor(x, name="x")
    return apply("Conj", tensor, name=name) if tensor.dtype.is_complex else tensor


real = complex_part("Real", "real")
imag = complex_part("Imag", "imag")
angle = complex_part("Angle", "angle")
