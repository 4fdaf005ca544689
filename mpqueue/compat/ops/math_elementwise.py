"""Operations on single elements: a table of NumPy functions, and the few that NumPy does otherwise.

All inputs of one operation have one type; shapes broadcast. Ints wrap around, floats follow IEEE 754, both silently
(callers set `numpy.errstate`). Division by zero is an error for ints.
"""

from collections.abc import Callable, Sequence
from math import erf, erfc, lgamma
from typing import Any, Final

import numpy as np

from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dims import Dims, merged_all
from mpqueue.compat.ops.dtypes import DType, Kind
from mpqueue.compat.ops.infer import elementwise, invalid, same
from mpqueue.compat.ops.registry import COMPLEX, FLOATS, INTS, NUMBERS, REALS, SIGNED, Known, Types, op
from mpqueue.errors import UnimplementedError

Binary = Callable[[np.ndarray, np.ndarray], Any]
Unary = Callable[[np.ndarray], Any]


def _refuse_zero(y: np.ndarray) -> None:
    if y.dtype.kind in "iu" and not y.all():
        invalid("Integer division by zero")


def _floor_div(x: np.ndarray, y: np.ndarray) -> Any:
    _refuse_zero(y)
    return np.floor(x / y) if x.dtype.kind == "f" else np.floor_divide(x, y)


def _floor_mod(x: np.ndarray, y: np.ndarray) -> Any:
    _refuse_zero(y)
    rest = np.fmod(x, y)
    if x.dtype.kind == "u":
        return rest
    return np.where((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest)


def _truncate_div(x: np.ndarray, y: np.ndarray) -> Any:
    _refuse_zero(y)
    return np.trunc(x / y) if x.dtype.kind in "fc" else (x - np.fmod(x, y)) // y


def _truncate_mod(x: np.ndarray, y: np.ndarray) -> Any:
    _refuse_zero(y)
    return np.fmod(x, y)


def _pow(x: np.ndarray, y: np.ndarray) -> Any:
    if y.dtype.kind == "i" and (y < 0).any():
        invalid("Integers to negative integer powers are not allowed")
    return np.power(x, y)


def _div_no_nan(x: np.ndarray, y: np.ndarray) -> Any:
    return np.where(y == 0, np.zeros((), x.dtype), x / y)


def _squared_difference(x: np.ndarray, y: np.ndarray) -> Any:
    difference = x - y
    return difference * np.conj(difference)


def _broadcasting(function: Binary) -> Binary:
    """With TensorFlow's error for shapes that do not fit."""

    def checked(x: np.ndarray, y: np.ndarray) -> Any:
        try:
            return function(x, y)
        except ValueError:
            if _fit(x.shape, y.shape):
                raise
            invalid(f"Incompatible shapes: {list(x.shape)} vs. {list(y.shape)}")

    return checked


def _without(kinds: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Types that the signature allows, but that TensorFlow cannot compute either."""

    def checked(*arrays: np.ndarray) -> Any:
        if arrays[0].dtype.kind in kinds:
            invalid(f"this operation has no kernel for {arrays[0].dtype.name}")
        return function(*arrays)

    return checked


def _fit(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(left[::-1], right[::-1], strict=False))


_COMPARED: Final = (*FLOATS, *INTS)
_ORDERED: Final = REALS

_ARITHMETIC: Final[tuple[tuple[str, tuple[DType, ...], Binary], ...]] = (
    ("AddV2", NUMBERS, np.add),
    ("Add", (*NUMBERS, dtypes.string), np.add),
    ("Sub", NUMBERS, np.subtract),
    ("Mul", NUMBERS, np.multiply),
    ("RealDiv", NUMBERS, _without("iu", np.divide)),
    ("FloorDiv", NUMBERS, _without("c", _floor_div)),
    ("FloorMod", REALS, _floor_mod),
    ("TruncateDiv", NUMBERS, _truncate_div),
    ("TruncateMod", (*FLOATS, dtypes.int32, dtypes.int64), _truncate_mod),
    ("Pow", (*FLOATS, *SIGNED, *COMPLEX), _pow),
    ("DivNoNan", (*FLOATS, *COMPLEX), _div_no_nan),
    ("Maximum", _ORDERED, np.maximum),
    ("Minimum", _ORDERED, np.minimum),
    ("SquaredDifference", (*FLOATS, dtypes.int32, dtypes.int64, *COMPLEX), _squared_difference),
    ("Atan2", FLOATS, np.arctan2),
    ("BitwiseAnd", INTS, np.bitwise_and),
    ("BitwiseOr", INTS, np.bitwise_or),
    ("BitwiseXor", INTS, np.bitwise_xor),
)

_COMPARISONS: Final[tuple[tuple[str, tuple[DType, ...] | None, Binary], ...]] = (
    ("Equal", None, np.equal),
    ("NotEqual", None, np.not_equal),
    ("Less", _COMPARED, np.less),
    ("LessEqual", _COMPARED, np.less_equal),
    ("Greater", _COMPARED, np.greater),
    ("GreaterEqual", _COMPARED, np.greater_equal),
)

_LOGIC: Final[tuple[tuple[str, Binary], ...]] = (("LogicalAnd", np.logical_and), ("LogicalOr", np.logical_or))

for _name, _types, _function in _ARITHMETIC:
    op(_name, "x: T, y: T -> T", T=Types(_types), infer=elementwise)(_broadcasting(_function))
for _name, _allowed, _function in _COMPARISONS:
    _variables = {"T": Types(_allowed)} if _allowed else {}
    op(_name, "x: T, y: T -> bool", infer=elementwise, **_variables)(_broadcasting(_function))  # type: ignore[arg-type]
for _name, _function in _LOGIC:
    op(_name, "x: bool, y: bool -> bool", infer=elementwise)(_broadcasting(_function))


def _alone(function: Unary) -> Unary:
    """A function with a plain signature: a ufunc's own options are no attributes of the operation."""

    def applied(x: np.ndarray) -> Any:
        return function(x)

    return applied


def _each(function: Callable[[float], float]) -> Unary:
    """A function of Python's math module, element by element."""
    apply = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(apply(x)).astype(x.dtype)


def _sigmoid(x: np.ndarray) -> Any:
    return (1 / (1 + np.exp(-x))).astype(x.dtype)


def _reciprocal(x: np.ndarray) -> Any:
    return np.ones((), x.dtype) / x


_SMOOTH: Final = (*FLOATS, *COMPLEX)
_SIGNED_NUMBERS: Final = (*FLOATS, *SIGNED, *COMPLEX)

_UNARY: Final[tuple[tuple[str, tuple[DType, ...], Unary], ...]] = (
    ("Abs", (*FLOATS, *SIGNED), np.abs),
    ("Neg", _SIGNED_NUMBERS, np.negative),
    ("Sign", (*FLOATS, *SIGNED), np.sign),
    ("Square", NUMBERS, np.square),
    ("Sqrt", _SMOOTH, np.sqrt),
    ("Rsqrt", _SMOOTH, lambda x: _reciprocal(np.sqrt(x))),
    ("Reciprocal", _SIGNED_NUMBERS, _without("i", _reciprocal)),
    ("Exp", _SMOOTH, np.exp),
    ("Expm1", _SMOOTH, np.expm1),
    ("Log", _SMOOTH, np.log),
    ("Log1p", _SMOOTH, np.log1p),
    ("Sigmoid", _SMOOTH, _sigmoid),
    ("Tanh", _SMOOTH, np.tanh),
    ("Sinh", _SMOOTH, np.sinh),
    ("Cosh", _SMOOTH, np.cosh),
    ("Sin", _SMOOTH, np.sin),
    ("Cos", _SMOOTH, np.cos),
    ("Tan", _SMOOTH, np.tan),
    ("Asin", _SMOOTH, np.arcsin),
    ("Acos", _SMOOTH, np.arccos),
    ("Atan", _SMOOTH, np.arctan),
    ("Asinh", _SMOOTH, np.arcsinh),
    ("Acosh", _SMOOTH, np.arccosh),
    ("Atanh", _SMOOTH, np.arctanh),
    ("Floor", FLOATS, np.floor),
    ("Ceil", FLOATS, np.ceil),
    ("Rint", FLOATS, np.rint),
    ("Round", _SIGNED_NUMBERS, _without("c", np.rint)),
    ("Erf", FLOATS, _each(erf)),
    ("Erfc", FLOATS, _each(erfc)),
    ("Lgamma", FLOATS, _each(lgamma)),
    ("Conj", COMPLEX, np.conj),
    ("Invert", INTS, np.invert),
)

_TESTS: Final[tuple[tuple[str, Unary], ...]] = (("IsNan", np.isnan), ("IsInf", np.isinf), ("IsFinite", np.isfinite))

for _name, _types, _one in _UNARY:
    op(_name, "x: T -> T", T=Types(_types), infer=same)(_alone(_one))
for _name, _one in _TESTS:
    op(_name, "x: T -> bool", T=Types(FLOATS), infer=same)(_alone(_one))
op("LogicalNot", "x: bool -> bool", infer=same)(_alone(np.logical_not))


def _real_part(function: Unary) -> Callable[..., Any]:
    def part(x: np.ndarray, *, Tout: DType) -> Any:  # TensorFlow's name of the attribute
        return function(x).astype(Tout.as_numpy_dtype)

    return part


for _name, _one in (("ComplexAbs", np.abs), ("Real", np.real), ("Imag", np.imag), ("Angle", np.angle)):
    op(_name, "x: T -> Tout", T=Types(COMPLEX), infer=same)(_real_part(_one))


def _cast_entries(x: Known, *, DstT: DType) -> np.ndarray | None:
    return x.known_entries() if DstT.is_integer and x.dtype.is_integer else None


@op("Cast", "x: S -> DstT", infer=same, entries=_cast_entries)
def cast(x: np.ndarray, *, DstT: DType) -> np.ndarray:
    """The elements in another type, cut or wrapped as C does; text is not parsed."""
    if (x.dtype == object) is not (DstT.kind is Kind.TEXT):
        source = dtypes.as_dtype(x.dtype).name
        raise UnimplementedError(None, None, f"Cast {source} to {DstT.name} is not supported")
    if x.dtype.kind == "c" and not DstT.is_complex:
        x = x.real
    if x.dtype.kind == "f" and DstT.is_integer:
        return _float_to_int(x, DstT)
    return x.astype(DstT.as_numpy_dtype, copy=False)


def _float_to_int(x: np.ndarray, to: DType) -> np.ndarray:
    """As x86 does it: through an int of at least 32 bits, whose lower bits are kept."""
    wide = np.int32 if to.size < 4 else np.int64
    return x.astype(wide).astype(to.as_numpy_dtype) if to.size < 4 or to.is_unsigned else x.astype(to.as_numpy_dtype)


def _all_alike(inputs: Sequence[Known]) -> Dims:
    return merged_all(each.known_dims for each in inputs)


@op("AddN", "inputs: N * T -> T", T=Types(NUMBERS), infer=_all_alike)
def add_n(inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of arrays of one shape."""
    total = inputs[0]
    for each in inputs[1:]:
        if each.shape != total.shape:
            invalid(f"Inputs to operation AddN must have the same size and shape, got {total.shape} and {each.shape}")
        total = total + each
    return total
