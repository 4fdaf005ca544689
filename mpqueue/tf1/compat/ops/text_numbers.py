"""Numbers as text, and text as numbers."""

import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import invalid
from mpqueue.tf1.compat.ops.known import Array, Known
from mpqueue.tf1.compat.ops.registry import NUMBERS, op
from mpqueue.tf1.compat.ops.text import each
from mpqueue.tf1.parsing import number_text
from mpqueue.tf1.runs.rules import elementwise

_INT: Final = re.compile(rb"[+-]?\d+")
_PARSED: Final = (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.uint32, dtypes.uint64)
_SPACE: Final = b" \t\n\v\f\r"


@op(
    "AsString", "input: T[...] -> string[...]", "as_string", rows=elementwise, T=(*NUMBERS, dtypes.bool_, dtypes.string)
)
def as_string(
    input: Array,
    *,
    precision: int = -1,
    scientific: bool = False,
    shortest: bool = False,
    width: int = -1,
    fill: str = "",
) -> Array:
    """Numbers as C's printf writes them: floats with six digits after the point by default."""
    _check_format(input.dtype, precision, scientific, shortest, fill)
    if input.dtype == object:
        return input
    if input.dtype == bool:
        return each(lambda value: b"true" if value else b"false", input)
    digits = f".{precision}" if precision >= 0 else ""
    letter = ("e" if scientific else "g" if shortest else "f") if input.dtype.kind in "fc" else "d"
    size = str(width) if width >= 0 else ""
    if input.dtype.kind == "c":
        return each(_complex_writer(f"%{digits}{letter}", f"%{fill.strip('0')}{size}s"), input)
    return each(_writer(f"%{fill}{size}{digits}{letter}", f"%{fill.strip('0')}{size}{digits}{letter}"), input)


def _check_format(dtype: np.dtype[Any], precision: int, scientific: bool, shortest: bool, fill: str) -> None:
    if fill not in ("", " ", "+", "-", "0"):
        invalid(f"Fill argument not supported: {fill!r}")
    if scientific and shortest:
        invalid("Cannot select both scientific and shortest notation")
    if dtype.kind not in "fc" and (scientific or shortest):
        invalid("scientific and shortest format not supported for datatype " + dtype.name)
    if dtype.kind not in "fc" and precision >= 0:
        invalid("precision not supported for datatype " + dtype.name)


def _writer(form: str, unpadded: str) -> Callable[[Any], bytes]:
    def write(value: Any) -> bytes:
        finite = isinstance(value, int) or np.isfinite(value)  # C pads infinities with spaces only
        text: str = (form if finite else unpadded) % value
        return text.encode()

    return write


def _complex_writer(part: str, whole: str) -> Callable[[complex], bytes]:
    def write(value: complex) -> bytes:
        return (whole % f"({part % value.real},{part % value.imag})").encode()

    return write


def _parser(out_type: DType) -> Callable[[bytes], Any]:
    kind = out_type.as_numpy_dtype
    if out_type.is_floating:
        return _parsed_float
    least, most = np.iinfo(kind).min, np.iinfo(kind).max

    def parse(text: bytes) -> int:
        core = text.strip(_SPACE)
        if not _INT.fullmatch(core) or not least <= int(core) <= most or (least == 0 and core[:1] in b"+-"):
            invalid(f"StringToNumberOp could not correctly convert string: {text!r} to {out_type.name}")
        return int(core)

    return parse


def _parsed_float(text: bytes) -> float:
    value = number_text.to_float(text)
    if value is None:
        invalid(f"StringToNumberOp could not correctly convert string: {text!r}")
    return value


def _parsed(string_tensor: Known, *, out_type: DType) -> Dims:
    if out_type not in _PARSED:
        raise TypeError(f"out_type must be one of {[each.name for each in _PARSED]}, got {out_type.name}")
    return string_tensor.known_dims


@op(
    "StringToNumber",
    "string_tensor: string -> out_type",
    "string_to_number(string_tensor=None, out_type, name, input=string_tensor)",
    infer=_parsed,
    rows=elementwise,
)
def string_to_number(string_tensor: Array, *, out_type: DType = dtypes.float32) -> Array:
    """Text parsed as numbers, with white space around them; what is none is an `InvalidArgumentError` of the run.

    Floats too large become infinite, ints too large are an error.

    Args:
        string_tensor: The texts.
        out_type: A float or int type of 32 or 64 bits.

    Raises:
        TypeError: ``out_type`` is another.
    """
    return each(_parser(out_type), string_tensor, dtype=out_type.as_numpy_dtype)
