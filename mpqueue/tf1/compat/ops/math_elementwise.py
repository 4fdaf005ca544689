"""Elementwise operations: a table of NumPy functions, and functions with other semantics than NumPy's.

All inputs of one operation have the same type; shapes broadcast. Integers wrap around and floats follow IEEE 754,
without warnings (callers set `numpy.errstate`). Integer division by zero is an error.
"""

from collections.abc import Callable, Sequence
from math import erf, erfc, inf, lgamma
from typing import Any, Final

import numpy as np

from mpqueue.errors import UnimplementedError
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import merged_all
from mpqueue.tf1.compat.ops.dtypes import DType, DTypeKind
from mpqueue.tf1.compat.ops.infer import Array, invalid
from mpqueue.tf1.compat.ops.registry import ALL, COMPLEX, FLOATS, INTS, NUMBERS, REALS, SIGNED, op
from mpqueue.tf1.runs.rules import elementwise, of_one_shape

Unary = Callable[[Array], Any]


def _refuse_zero(y: Array) -> None:
    if y.dtype.kind in "iu" and not y.all():
        invalid("Integer division by zero")


def _floor_div(x: Array, y: Array) -> Any:
    _refuse_zero(y)
    return np.floor(x / y) if x.dtype.kind == "f" else np.floor_divide(x, y)


def _floor_mod(x: Array, y: Array) -> Any:
    _refuse_zero(y)
    rest = np.fmod(x, y)
    if x.dtype.kind == "u":
        return rest
    return np.where((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest)


def _truncate_div(x: Array, y: Array) -> Any:
    _refuse_zero(y)
    return np.trunc(x / y) if x.dtype.kind in "fc" else (x - np.fmod(x, y)) // y


def _truncate_mod(x: Array, y: Array) -> Any:
    _refuse_zero(y)
    return np.fmod(x, y)


def _pow(x: Array, y: Array) -> Any:
    if y.dtype.kind == "i" and (y < 0).any():
        invalid("Integers to negative integer powers are not allowed")
    return np.power(x, y)


def _div_no_nan(x: Array, y: Array) -> Any:
    return np.where(y == 0, np.zeros((), x.dtype), x / y)


def _squared_difference(x: Array, y: Array) -> Any:
    difference = x - y
    return difference * np.conj(difference)


def _without(kinds: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Reject types that the signature allows but TensorFlow cannot compute."""

    def checked(*arrays: Array) -> Any:
        if arrays[0].dtype.kind in kinds:
            invalid(f"This operation has no kernel for {arrays[0].dtype.name}")
        return function(*arrays)

    return checked


def _declare(
    name: str, signature: str, public: str, doc: str, function: Callable[..., Any], allowed: tuple[DType, ...] = ()
) -> None:
    def applied(*arrays: Array) -> Any:
        return function(*arrays)  # the options of a ufunc are not attributes of the operation

    op(name, signature, public, doc=doc, rows=elementwise, T=allowed)(applied)


def _of(inputs: str) -> Callable[..., None]:
    """Return a function that declares operations with these inputs, of one type; ``to`` sets another output type."""

    def declare(
        name: str,
        allowed: tuple[DType, ...],
        function: Callable[..., Any],
        public: str = "",
        doc: str = "",
        to: str = "T",
    ) -> None:
        _declare(name, f"{inputs} -> {to}[...]", public, doc, function, allowed)

    return declare


_unary, _binary = _of("x: T[...]"), _of("x: T[...], y: T[...]")


def _each(function: Callable[[float], float]) -> Unary:
    """Apply a function of Python's math module elementwise."""
    apply = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(apply(x)).astype(x.dtype)


def _lgamma(x: float) -> float:
    try:
        return lgamma(x)
    except (ValueError, OverflowError):  # a pole (0, -1, -2, ...), or a result beyond the range of floats
        return inf


def _sigmoid(x: Array) -> Any:
    return (1 / (1 + np.exp(-x))).astype(x.dtype)


def _reciprocal(x: Array) -> Any:
    return np.ones((), x.dtype) / x


_SMOOTH: Final = (*FLOATS, *COMPLEX)
_MOST: Final = (*FLOATS, dtypes.int32, dtypes.int64)
_SIGNED_NUMBERS: Final = (*FLOATS, *SIGNED, *COMPLEX)

_binary("AddV2", NUMBERS, np.add)
_binary("Add", (*NUMBERS, dtypes.string), np.add)
_binary("Sub", NUMBERS, np.subtract, "subtract", "Compute ``x - y``, both of one type.")
_binary("Mul", NUMBERS, np.multiply, "multiply", "Compute ``x * y``, both of one type.")
_binary("RealDiv", NUMBERS, _without("iu", np.divide), "realdiv", "Compute ``x / y`` for floats of one type.")
_binary(
    "FloorDiv", NUMBERS, _without("c", _floor_div), "floordiv", "Compute ``x / y``, rounded down, both of one type."
)
_binary("FloorMod", REALS, _floor_mod, "mod", "Compute the remainder of `floordiv`, which has the sign of ``y``.")
_binary("TruncateDiv", NUMBERS, _truncate_div, "truncatediv", "Compute ``x / y``, rounded towards zero, of one type.")
_binary("TruncateMod", _MOST, _truncate_mod, "truncatemod", "Compute the remainder of `truncatediv` (sign of ``x``).")
_binary("Pow", _SIGNED_NUMBERS, _pow, "pow", "Compute ``x`` to the power of ``y``; negative powers of integers fail.")
_binary("DivNoNan", (*FLOATS, *COMPLEX), _div_no_nan)
_binary("Maximum", REALS, np.maximum, "maximum", "Return the elementwise maximum; NaN if one element is NaN.")
_binary("Minimum", REALS, np.minimum, "minimum", "Return the elementwise minimum; NaN if one element is NaN.")
_binary("SquaredDifference", (*_MOST, *COMPLEX), _squared_difference, "squared_difference", "Compute ``(x - y) ** 2``.")
_binary("Atan2", FLOATS, np.arctan2, "atan2(x as y, y as x, name)", "Compute the angle of the point (second, first).")
_binary("BitwiseAnd", INTS, np.bitwise_and, "bitwise.bitwise_and", "Compute the bitwise AND of integers.")
_binary("BitwiseOr", INTS, np.bitwise_or, "bitwise.bitwise_or", "Compute the bitwise OR of integers.")
_binary("BitwiseXor", INTS, np.bitwise_xor, "bitwise.bitwise_xor", "Compute the bitwise XOR of integers.")
_binary("Equal", ALL, np.equal, "equal", "Compute ``x == y`` elementwise.", to="bool")
_binary("NotEqual", ALL, np.not_equal, "not_equal", "Compute ``x != y`` elementwise.", to="bool")
_binary("Less", REALS, np.less, "less", "Compute ``x < y`` elementwise.", to="bool")
_binary("LessEqual", REALS, np.less_equal, "less_equal", "Compute ``x <= y`` elementwise.", to="bool")
_binary("Greater", REALS, np.greater, "greater", "Compute ``x > y`` elementwise.", to="bool")
_binary("GreaterEqual", REALS, np.greater_equal, "greater_equal", "Compute ``x >= y`` elementwise.", to="bool")
_unary("Abs", (*FLOATS, *SIGNED), np.abs)
_unary("Neg", _SIGNED_NUMBERS, np.negative, "negative", "Compute ``-x``.")
_unary("Sign", (*FLOATS, *SIGNED), np.sign, "sign", "Return -1, 0 or 1 for negative, zero and positive; NaN for NaN.")
_unary("Square", NUMBERS, np.square, "square", "Compute ``x * x``.")
_unary("Sqrt", _SMOOTH, np.sqrt, "sqrt", "Compute the square root of floats.")
_unary("Rsqrt", _SMOOTH, lambda x: _reciprocal(np.sqrt(x)), "rsqrt", "Compute ``1 / sqrt(x)`` for floats.")
_unary("Reciprocal", _SIGNED_NUMBERS, _without("i", _reciprocal), "reciprocal", "Compute ``1 / x`` for floats.")
_unary("Exp", _SMOOTH, np.exp, "exp", "Compute e to the power of ``x``.")
_unary("Expm1", _SMOOTH, np.expm1, "expm1", "Compute ``exp(x) - 1``, accurate near 0.")
_unary("Log", _SMOOTH, np.log, "log", "Compute the natural logarithm.")
_unary("Log1p", _SMOOTH, np.log1p, "log1p", "Compute ``log(1 + x)``, accurate near 0.")
_unary("Sigmoid", _SMOOTH, _sigmoid, "sigmoid", "Compute ``1 / (1 + exp(-x))``.")
_unary("Tanh", _SMOOTH, np.tanh, "tanh", "Compute the hyperbolic tangent.")
_unary("Sinh", _SMOOTH, np.sinh, "sinh", "Compute the hyperbolic sine.")
_unary("Cosh", _SMOOTH, np.cosh, "cosh", "Compute the hyperbolic cosine.")
_unary("Sin", _SMOOTH, np.sin, "sin", "Compute the sine.")
_unary("Cos", _SMOOTH, np.cos, "cos", "Compute the cosine.")
_unary("Tan", _SMOOTH, np.tan, "tan", "Compute the tangent.")
_unary("Asin", _SMOOTH, np.arcsin, "asin", "Compute the inverse sine.")
_unary("Acos", _SMOOTH, np.arccos, "acos", "Compute the inverse cosine.")
_unary("Atan", _SMOOTH, np.arctan, "atan", "Compute the inverse tangent.")
_unary("Asinh", _SMOOTH, np.arcsinh, "asinh", "Compute the inverse hyperbolic sine.")
_unary("Acosh", _SMOOTH, np.arccosh, "acosh", "Compute the inverse hyperbolic cosine.")
_unary("Atanh", _SMOOTH, np.arctanh, "atanh", "Compute the inverse hyperbolic tangent.")
_unary("Floor", FLOATS, np.floor, "floor", "Round floats down to an integer.")
_unary("Ceil", FLOATS, np.ceil, "ceil", "Round floats up to an integer.")
_unary("Rint", FLOATS, np.rint, "rint", "Round floats to the nearest integer, halves to even.")
_unary("Round", _SIGNED_NUMBERS, _without("c", np.rint))
_unary("Erf", FLOATS, _each(erf), "erf", "Compute the error function.")
_unary("Erfc", FLOATS, _each(erfc), "erfc", "Compute 1 minus the error function.")
_unary("Lgamma", FLOATS, _each(_lgamma), "lgamma", "Compute the logarithm of the absolute value of the gamma function.")
_unary("Conj", COMPLEX, np.conj)
_unary("Invert", INTS, np.invert, "bitwise.invert", "Invert all bits of integers.")
_unary("IsNan", FLOATS, np.isnan, "is_nan", "Return whether elements are NaN.", to="bool")
_unary("IsInf", FLOATS, np.isinf, "is_inf", "Return whether elements are infinite.", to="bool")
_unary("IsFinite", FLOATS, np.isfinite, "is_finite", "Return whether elements are neither infinite nor NaN.", to="bool")
_BOTH = "x: bool[...], y: bool[...] -> bool[...]"
_declare("LogicalAnd", _BOTH, "logical_and", "Compute the logical AND of bools.", np.logical_and)
_declare("LogicalOr", _BOTH, "logical_or", "Compute the logical OR of bools.", np.logical_or)
_declare(
    "LogicalXor", _BOTH, "logical_xor(x, y, name='LogicalXor')", "Compute the logical XOR of bools.", np.logical_xor
)
_declare("LogicalNot", "x: bool[...] -> bool[...]", "logical_not", "Compute the logical NOT of bools.", np.logical_not)


def _real_part(name: str, function: Unary) -> None:
    @op(name, "x: T[...] -> Tout[...]", rows=elementwise, T=COMPLEX)
    def part(x: Array, *, Tout: DType) -> Any:  # TensorFlow's name of the attribute
        return function(x).astype(Tout.as_numpy_dtype)


for _name, _one in (("ComplexAbs", np.abs), ("Real", np.real), ("Imag", np.imag), ("Angle", np.angle)):
    _real_part(_name, _one)


@op(
    "Cast",
    "x: S[...] -> DstT[...]",
    rows=elementwise,
    entries=lambda x, *, DstT: x.known_entries() if DstT.is_integer and x.dtype.is_integer else None,
)
def cast(x: Array, *, DstT: DType) -> Array:
    """Convert elements to another type, with C's truncation and overflow; strings are not parsed."""
    if (x.dtype == object) is not (DstT.kind is DTypeKind.TEXT):
        source = dtypes.as_dtype(x.dtype).name
        raise UnimplementedError(None, None, f"Cast {source} to {DstT.name} is not supported")
    if x.dtype.kind == "c" and not DstT.is_complex:
        x = x.real
    if x.dtype.kind == "f" and DstT.is_integer:
        return _float_to_int(x, DstT)
    return x.astype(DstT.as_numpy_dtype, copy=False)


def _float_to_int(x: Array, to: DType) -> Array:
    """Cast floats as x86 does: through an integer of at least 32 bits, keeping the lower bits."""
    wide = np.int32 if to.size < 4 else np.int64
    return x.astype(wide).astype(to.as_numpy_dtype) if to.size < 4 or to.is_unsigned else x.astype(to.as_numpy_dtype)


@op(
    "AddN",
    "inputs: N * T -> T",
    T=NUMBERS,
    infer=lambda inputs: merged_all(each.known_dims for each in inputs),
    rows=of_one_shape,
)
def add_n(inputs: Sequence[Array]) -> Array:
    """Sum arrays of the same shape."""
    total = inputs[0]
    for each in inputs[1:]:
        if each.shape != total.shape:
            invalid(f"Inputs to operation AddN must have the same size and shape, got {total.shape} and {each.shape}")
        total = total + each
    return total
