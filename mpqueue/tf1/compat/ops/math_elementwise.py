"""Operations on single elements: a table of NumPy functions, and the few that NumPy does otherwise.

All inputs of one operation have one type; shapes broadcast. Ints wrap around, floats follow IEEE 754, both silently
(callers set `numpy.errstate`). Division by zero is an error for ints.
"""

from collections.abc import Callable, Sequence
from math import erf, erfc, lgamma
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
    """Types that the signature allows, but that TensorFlow cannot compute either."""

    def checked(*arrays: Array) -> Any:
        if arrays[0].dtype.kind in kinds:
            invalid(f"this operation has no kernel for {arrays[0].dtype.name}")
        return function(*arrays)

    return checked


def _declare(
    name: str, signature: str, public: str, doc: str, function: Callable[..., Any], allowed: tuple[DType, ...] = ()
) -> None:
    def applied(*arrays: Array) -> Any:
        return function(*arrays)  # a ufunc's own options are no attributes of the operation

    op(name, signature, public, doc=doc, rows=elementwise, T=allowed)(applied)


def _of(inputs: str) -> Callable[..., None]:
    """Return what declares operations of these inputs, all of one type, as is the output unless ``to`` says else."""

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
    """A function of Python's math module, element by element."""
    apply = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(apply(x)).astype(x.dtype)


def _sigmoid(x: Array) -> Any:
    return (1 / (1 + np.exp(-x))).astype(x.dtype)


def _reciprocal(x: Array) -> Any:
    return np.ones((), x.dtype) / x


_SMOOTH: Final = (*FLOATS, *COMPLEX)
_MOST: Final = (*FLOATS, dtypes.int32, dtypes.int64)
_SIGNED_NUMBERS: Final = (*FLOATS, *SIGNED, *COMPLEX)

_binary("AddV2", NUMBERS, np.add)
_binary("Add", (*NUMBERS, dtypes.string), np.add)
_binary("Sub", NUMBERS, np.subtract, "subtract", "``x - y``, both of one type.")
_binary("Mul", NUMBERS, np.multiply, "multiply", "``x * y``, both of one type.")
_binary("RealDiv", NUMBERS, _without("iu", np.divide), "realdiv", "``x / y`` of floats of one type.")
_binary("FloorDiv", NUMBERS, _without("c", _floor_div), "floordiv", "``x / y`` rounded down, both of one type.")
_binary("FloorMod", REALS, _floor_mod, "mod", "The rest of `floordiv`: it has the sign of ``y``.")
_binary("TruncateDiv", NUMBERS, _truncate_div, "truncatediv", "``x / y`` rounded towards zero, both of one type.")
_binary("TruncateMod", _MOST, _truncate_mod, "truncatemod", "The rest of `truncatediv`: it has the sign of ``x``.")
_binary("Pow", _SIGNED_NUMBERS, _pow, "pow", "``x`` to the power of ``y``; ints have no negative powers.")
_binary("DivNoNan", (*FLOATS, *COMPLEX), _div_no_nan)
_binary("Maximum", REALS, np.maximum, "maximum", "The larger of two elements; NaN if one is.")
_binary("Minimum", REALS, np.minimum, "minimum", "The smaller of two elements; NaN if one is.")
_binary("SquaredDifference", (*_MOST, *COMPLEX), _squared_difference, "squared_difference", "``(x - y) ** 2``.")
_binary("Atan2", FLOATS, np.arctan2, "atan2(x as y, y as x, name)", "The angle of the point (second, first).")
_binary("BitwiseAnd", INTS, np.bitwise_and, "bitwise.bitwise_and", "The bits that two ints share.")
_binary("BitwiseOr", INTS, np.bitwise_or, "bitwise.bitwise_or", "The bits that one of two ints has.")
_binary("BitwiseXor", INTS, np.bitwise_xor, "bitwise.bitwise_xor", "The bits that only one of two ints has.")
_binary("Equal", ALL, np.equal, "equal", "``x == y``, element by element.", to="bool")
_binary("NotEqual", ALL, np.not_equal, "not_equal", "``x != y``, element by element.", to="bool")
_binary("Less", REALS, np.less, "less", "``x < y``, element by element.", to="bool")
_binary("LessEqual", REALS, np.less_equal, "less_equal", "``x <= y``, element by element.", to="bool")
_binary("Greater", REALS, np.greater, "greater", "``x > y``, element by element.", to="bool")
_binary("GreaterEqual", REALS, np.greater_equal, "greater_equal", "``x >= y``, element by element.", to="bool")
_unary("Abs", (*FLOATS, *SIGNED), np.abs)
_unary("Neg", _SIGNED_NUMBERS, np.negative, "negative", "``-x``.")
_unary("Sign", (*FLOATS, *SIGNED), np.sign, "sign", "-1, 0 or 1 as the element is below, at or above 0; NaN for NaN.")
_unary("Square", NUMBERS, np.square, "square", "``x * x``.")
_unary("Sqrt", _SMOOTH, np.sqrt, "sqrt", "The square root of floats.")
_unary("Rsqrt", _SMOOTH, lambda x: _reciprocal(np.sqrt(x)), "rsqrt", "1 over the square root of floats.")
_unary("Reciprocal", _SIGNED_NUMBERS, _without("i", _reciprocal), "reciprocal", "``1 / x`` of floats.")
_unary("Exp", _SMOOTH, np.exp, "exp", "e to the power of ``x``.")
_unary("Expm1", _SMOOTH, np.expm1, "expm1", "``exp(x) - 1``, exact near 0.")
_unary("Log", _SMOOTH, np.log, "log", "The natural logarithm.")
_unary("Log1p", _SMOOTH, np.log1p, "log1p", "``log(1 + x)``, exact near 0.")
_unary("Sigmoid", _SMOOTH, _sigmoid, "sigmoid", "``1 / (1 + exp(-x))``.")
_unary("Tanh", _SMOOTH, np.tanh, "tanh", "The hyperbolic tangent.")
_unary("Sinh", _SMOOTH, np.sinh, "sinh", "The hyperbolic sine.")
_unary("Cosh", _SMOOTH, np.cosh, "cosh", "The hyperbolic cosine.")
_unary("Sin", _SMOOTH, np.sin, "sin", "The sine.")
_unary("Cos", _SMOOTH, np.cos, "cos", "The cosine.")
_unary("Tan", _SMOOTH, np.tan, "tan", "The tangent.")
_unary("Asin", _SMOOTH, np.arcsin, "asin", "The inverse of the sine.")
_unary("Acos", _SMOOTH, np.arccos, "acos", "The inverse of the cosine.")
_unary("Atan", _SMOOTH, np.arctan, "atan", "The inverse of the tangent.")
_unary("Asinh", _SMOOTH, np.arcsinh, "asinh", "The inverse of the hyperbolic sine.")
_unary("Acosh", _SMOOTH, np.arccosh, "acosh", "The inverse of the hyperbolic cosine.")
_unary("Atanh", _SMOOTH, np.arctanh, "atanh", "The inverse of the hyperbolic tangent.")
_unary("Floor", FLOATS, np.floor, "floor", "The next lower whole number, of floats.")
_unary("Ceil", FLOATS, np.ceil, "ceil", "The next higher whole number, of floats.")
_unary("Rint", FLOATS, np.rint, "rint", "The nearest whole number, halves to the even one, of floats.")
_unary("Round", _SIGNED_NUMBERS, _without("c", np.rint))
_unary("Erf", FLOATS, _each(erf), "erf", "The error function.")
_unary("Erfc", FLOATS, _each(erfc), "erfc", "1 minus the error function.")
_unary("Lgamma", FLOATS, _each(lgamma), "lgamma", "The logarithm of the absolute value of the gamma function.")
_unary("Conj", COMPLEX, np.conj)
_unary("Invert", INTS, np.invert, "bitwise.invert", "The bits that an int has not.")
_unary("IsNan", FLOATS, np.isnan, "is_nan", "True where it is not a number.", to="bool")
_unary("IsInf", FLOATS, np.isinf, "is_inf", "True where it is infinite.", to="bool")
_unary("IsFinite", FLOATS, np.isfinite, "is_finite", "True where it is neither infinite nor NaN.", to="bool")
_BOTH = "x: bool[...], y: bool[...] -> bool[...]"
_declare("LogicalAnd", _BOTH, "logical_and", "True where both bools hold.", np.logical_and)
_declare("LogicalOr", _BOTH, "logical_or", "True where one of two bools holds, or both.", np.logical_or)
_declare("LogicalXor", _BOTH, "logical_xor(x, y, name='LogicalXor')", "True where just one bool holds.", np.logical_xor)
_declare("LogicalNot", "x: bool[...] -> bool[...]", "logical_not", "The other bool.", np.logical_not)


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
    """The elements in another type, cut or wrapped as C does; text is not parsed."""
    if (x.dtype == object) is not (DstT.kind is DTypeKind.TEXT):
        source = dtypes.as_dtype(x.dtype).name
        raise UnimplementedError(None, None, f"Cast {source} to {DstT.name} is not supported")
    if x.dtype.kind == "c" and not DstT.is_complex:
        x = x.real
    if x.dtype.kind == "f" and DstT.is_integer:
        return _float_to_int(x, DstT)
    return x.astype(DstT.as_numpy_dtype, copy=False)


def _float_to_int(x: Array, to: DType) -> Array:
    """Cast as x86 does it: through an int of at least 32 bits, whose lower bits are kept."""
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
    """The sum of arrays of one shape."""
    total = inputs[0]
    for each in inputs[1:]:
        if each.shape != total.shape:
            invalid(f"Inputs to operation AddN must have the same size and shape, got {total.shape} and {each.shape}")
        total = total + each
    return total
