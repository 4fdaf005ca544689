"""Operations on strings, which are arrays of ``bytes``, and conversion between numbers and strings."""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims, broadcast, merged, merged_all
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import Array, Known, invalid
from mpqueue.tf1.compat.ops.math_reduce import checked_axes, reduced
from mpqueue.tf1.compat.ops.registry import INDEX, NUMBERS, op
from mpqueue.tf1.parsing import number_text
from mpqueue.tf1.parsing.fingerprint import fingerprint64
from mpqueue.tf1.runs.rules import elementwise, leading, of_one_shape
from mpqueue.values.conversion import text_array

_WEB_ALPHABET: Final = re.compile(rb"[A-Za-z0-9_-]*")
_INT: Final = re.compile(rb"[+-]?\d+")
_PARSED: Final = (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.uint32, dtypes.uint64)
_SPACE: Final = b" \t\n\v\f\r"


def each(function: Callable[..., Any], *arrays: Array, dtype: Any = object) -> Array:
    """Apply a function of Python values elementwise, with broadcasting."""
    out = np.frompyfunc(function, len(arrays), 1)(*arrays)
    if dtype is not object:
        return np.asarray(out).astype(dtype)
    if isinstance(out, Array):
        return out
    single = np.empty((), object)  # np.asarray would create an array of NumPy's string type
    single[()] = out
    return single


def _joined(inputs: Sequence[Known], **_separator: str) -> Dims:
    shapes = [each.known_dims for each in inputs if each.known_dims != ()]
    return merged_all(shapes) if shapes else ()


@op("StringJoin", "inputs: N * string -> string", infer=_joined, rows=of_one_shape)
def string_join(inputs: Sequence[Array], *, separator: str = "") -> Array:
    """Concatenate strings elementwise; scalars are broadcast."""
    shapes = {each.shape for each in inputs if each.ndim}
    if len(shapes) > 1:
        invalid(f"Input shapes do not match: {sorted(shapes)}")
    between = separator.encode() if isinstance(separator, str) else separator
    return each(lambda *parts: between.join(parts), *inputs)


@op("StringSplit", "input: string[_], delimiter: string[] -> indices: int64[_ 2], values: string[_], shape: int64[2]")
def string_split(input: Array, delimiter: Array, *, skip_empty: bool = True) -> tuple[Array, Array, Array]:
    """Split at any byte of ``delimiter``, or into single bytes if it is empty; return the parts of a sparse tensor."""
    pieces = [_pieces(text, delimiter.item(), skip_empty) for text in input.tolist()]
    return sparse_rows(pieces)


def _pieces(text: bytes, delimiter: bytes, skip_empty: bool) -> list[bytes]:
    if not delimiter:
        return [text[n : n + 1] for n in range(len(text))]
    if not text:
        return []
    parts = re.split(b"[" + re.escape(delimiter) + b"]", text)
    return [part for part in parts if part] if skip_empty else parts


def sparse_rows(rows: Sequence[Sequence[bytes]]) -> tuple[Array, Array, Array]:
    """Return rows of unequal length as the parts of a sparse tensor."""
    indices = [(row, place) for row, items in enumerate(rows) for place in range(len(items))]
    shape = np.array([len(rows), max(map(len, rows), default=0)], np.int64)
    return np.array(indices, np.int64).reshape(-1, 2), text_array([item for items in rows for item in items]), shape


@op("StringSplitV2", "input: string[_], sep: string[] -> indices: int64[_ 2], values: string[_], shape: int64[2]")
def string_split_v2(input: Array, sep: Array, *, maxsplit: int = -1) -> tuple[Array, Array, Array]:
    """Split like Python's ``split``; return the parts of a sparse tensor."""
    return sparse_rows([text.split(sep[()] or None, maxsplit) for text in input.tolist()])


def _check_unit(unit: str) -> None:
    if unit not in ("BYTE", "UTF8_CHAR"):
        raise ValueError(f"unit must be 'BYTE' or 'UTF8_CHAR', got {unit!r}")


def _cut(input: Known, pos: Known, len: Known, *, unit: str) -> Dims:
    _check_unit(unit)
    return broadcast(input.known_dims, merged(pos.known_dims, len.known_dims))


@op(
    "Substr",
    "input: string, pos: T, len: T -> string",
    "substr(input, pos, len, name, unit)",
    T=INDEX.allowed,
    infer=_cut,
    rows=leading(),
)
def substr(input: Array, pos: Array, len: Array, *, unit: str = "BYTE") -> Array:
    """Return ``len`` bytes from ``pos`` on, fewer at the end; a negative ``pos`` counts from the end.

    Args:
        input: The strings.
        pos: Start position. One outside of the string is an `InvalidArgumentError` of the run.
        len: Number of bytes, in the type and shape of ``pos``; a negative number means all remaining bytes.
        unit: "BYTE" or "UTF8_CHAR".

    Raises:
        ValueError: The shapes are incompatible, or another unit.
        TypeError: The types are incompatible.
    """
    if pos.shape != len.shape:
        invalid(f"pos and len should have the same shape, got {list(pos.shape)} and {list(len.shape)}")
    return each(_cut_characters if unit == "UTF8_CHAR" else _cut_part, input, pos, len)


def _cut_part(text: Any, start: int, length: int) -> Any:
    """Return a part of ``bytes`` or ``str``."""
    size = len(text)
    if not -size <= start <= size:
        invalid(f"pos {start} out of range for string {text!r}")
    start = start + size if start < 0 else start
    return text[start:] if length < 0 else text[start : start + length]


def _cut_characters(text: bytes, start: int, length: int) -> bytes:
    cut: str = _cut_part(text.decode("utf-8", "surrogateescape"), start, length)
    return cut.encode("utf-8", "surrogateescape")


@op("ReduceJoin", "inputs: string, reduction_indices: int32 -> string", infer=reduced)
def reduce_join(inputs: Array, reduction_indices: Array, *, keep_dims: bool = False, separator: str = "") -> Array:
    """Join strings along some axes, in the order of the axes."""
    if not inputs.ndim:
        return inputs
    axes = checked_axes(inputs.ndim, reduction_indices)
    rest = [axis for axis in range(inputs.ndim) if axis not in axes]
    rows = inputs.transpose([*rest, *axes[::-1]])
    out = np.empty(rows.shape[: len(rest)], object)
    between = separator.encode()
    for place in np.ndindex(*out.shape):
        out[place] = between.join(rows[(*place, ...)].reshape(-1).tolist())
    return out.reshape([1 if axis in axes else size for axis, size in enumerate(inputs.shape)]) if keep_dims else out


@op("EncodeBase64", "input: string[...] -> string[...]", "encode_base64")
def encode_base64(input: Array, *, pad: bool = False) -> Array:
    """Encode as base64 with the URL-safe alphabet (- and _)."""

    def encode(text: bytes) -> bytes:
        coded = base64.urlsafe_b64encode(text)
        return coded if pad else coded.rstrip(b"=")

    return each(encode, input)


@op("DecodeBase64", "input: string[...] -> string[...]", "decode_base64")
def decode_base64(input: Array) -> Array:
    """Decode base64 as written by `encode_base64`; padding can be missing, but must not be wrong."""
    return each(_decode_one, input)


def _decode_one(text: bytes) -> bytes:
    core = text.rstrip(b"=")
    missing = -len(core) % 4
    if not _WEB_ALPHABET.fullmatch(core) or missing == 3 or len(text) - len(core) not in (0, missing):
        invalid(f"Invalid character or padding found in base64: {text!r}")
    try:
        return base64.urlsafe_b64decode(core + b"=" * missing)
    except binascii.Error as error:
        invalid(f"{text!r} is not base64: {error}")


def _bucketed(input: Known, *, num_buckets: int) -> Dims:
    if num_buckets < 1:
        raise ValueError(f"num_buckets must be at least 1, got {num_buckets}")
    return input.known_dims


@op("StringToHashBucketFast", "input: string -> int64", "string_to_hash_bucket_fast", infer=_bucketed, rows=elementwise)
def string_to_hash_bucket_fast(input: Array, *, num_buckets: int) -> Array:
    """Hash each string to a number in ``[0, num_buckets)`` that never changes (FarmHash).

    Args:
        input: The strings.
        num_buckets: Number of buckets.

    Raises:
        ValueError: ``num_buckets`` is less than 1.
    """
    return each(lambda text: fingerprint64(text) % num_buckets, input, dtype=np.int64)


def _measured(input: Known, *, unit: str) -> Dims:
    _check_unit(unit)
    return input.known_dims


@op("StringLength", "input: string -> int32", "strings.length(input, name, unit)", infer=_measured, rows=elementwise)
def string_length(input: Array, *, unit: str = "BYTE") -> Array:
    """Return the number of bytes, or with ``unit="UTF8_CHAR"`` of characters."""
    if unit == "UTF8_CHAR":
        return each(lambda text: sum(byte & 0xC0 != 0x80 for byte in text), input, dtype=np.int32)
    return each(len, input, dtype=np.int32)


def _changing(name: str, of_bytes: Callable[[bytes], bytes], of_text: Callable[[str], str]) -> None:
    """Register the operation that converts to lower or upper case."""
    text = f'Convert ASCII letters to {name} case; with ``encoding="utf-8"``, all letters.'

    @op(f"String{name.title()}", "input: string[...] -> string[...]", f"strings.{name}", doc=text, rows=elementwise)
    def change(input: Array, *, encoding: str = "") -> Array:
        if encoding == "utf-8":
            return each(lambda text: of_text(text.decode("utf-8", "replace")).encode(), input)
        return each(of_bytes, input)


_changing("lower", bytes.lower, str.lower)
_changing("upper", bytes.upper, str.upper)


@op("StringStrip", "input: string[...] -> string[...]", "string_strip", rows=elementwise)
def string_strip(input: Array) -> Array:
    """Remove whitespace at both ends."""
    return each(bytes.strip, input)


@op("RegexReplace", "input: string[...], pattern: string, rewrite: string -> string[...]", "regex_replace")
def regex_replace(input: Array, pattern: Array, rewrite: Array, *, replace_global: bool = True) -> Array:
    r"""Replace matches of a regular expression; ``\1`` refers to a group. The syntax is Python's, not RE2's."""
    expression = _valid(re.compile, pattern.item())
    into, count = rewrite.item(), 0 if replace_global else 1
    return each(lambda text: _valid(expression.sub, into, text, count), input)


@op("RegexFullMatch", "input: string[...], pattern: string -> bool[...]", "strings.regex_full_match")
def regex_full_match(input: Array, pattern: Array) -> Array:
    """Return whether a regular expression matches the whole string. The syntax is Python's, not RE2's."""
    expression = _valid(re.compile, pattern.item())
    return each(lambda text: expression.fullmatch(text) is not None, input, dtype=bool)


def _valid(function: Callable[..., Any], pattern: bytes, *args: Any) -> Any:
    """Call a function of `re` with a pattern, or with a rewrite. Its groups are checked when the pattern matches."""
    try:
        return function(pattern, *args)
    except re.error as error:
        invalid(f"Invalid pattern: {pattern!r}, error: {error}")


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
    """Format numbers like C's printf: floats with six digits after the decimal point by default."""
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
    """Parse strings as numbers; surrounding whitespace is ignored.

    An invalid string is an `InvalidArgumentError` of the run. Floats that are too large become infinite, integers that
    are too large are an error.

    Args:
        string_tensor: The strings.
        out_type: A float or integer type of 32 or 64 bits.

    Raises:
        TypeError: ``out_type`` is not supported.
    """
    return each(_parser(out_type), string_tensor, dtype=out_type.as_numpy_dtype)
