"""Numbers from text, one at a time, by TensorFlow's grammar and its rounding.

Integers are decimal. Floats are decimal, hexadecimal with a leading ``0x``, ``inf``, ``infinity``, ``nan`` or
``nan(letters)`` in any case. Blanks around a number do not count, underscores and everything else are errors.

Rounding: Python rounds a decimal text correctly to float64. Rounding that once more to float32 goes wrong when the
float64 lies exactly half way between two float32 and the text does not: 1.00000005960464477539063 is above half way, its
float64 is half way, and ties go down to 1.0. `to_float32` finds those few by their bits and asks the text.
"""

import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_BLANKS = b" \t\n\v\f\r"
_INT = re.compile(rb"([+-]?)0*([0-9]+)")
_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX = re.compile(rb"([+-]?)0[xX](?:([0-9a-fA-F]+)(?:\.([0-9a-fA-F]*))?|\.([0-9a-fA-F]+))(?:[pP]([+-]?[0-9]+))?")
_NAMED = re.compile(rb"([+-]?)(?:(inf|infinity)|nan(?:\([a-zA-Z0-9_]*\))?)", re.IGNORECASE)

_BELOW_HALF = np.uint64((1 << 29) - 1)  # the bits that float64 has and float32 has not
_HALF = np.uint64(1 << 28)
_SMALLEST_NORMAL = 2.0**-126


def to_int(text: bytes, bits: int) -> int | None:
    """The integer, or None if the text is none or needs more than ``bits`` bits."""
    parts = _INT.fullmatch(text.strip(_BLANKS))
    if not parts or len(parts[2]) > 19:  # Python refuses to convert very long ones
        return None
    value = int(parts[1] + parts[2])
    return value if -(1 << (bits - 1)) <= value < 1 << (bits - 1) else None


def to_float(text: bytes) -> float | None:
    """The nearest float64, or None if the text is no number."""
    text = text.strip(_BLANKS)
    if _DECIMAL.fullmatch(text):
        return float(text)
    if _HEX.fullmatch(text):
        return _from_hex(text)
    if named := _NAMED.fullmatch(text):
        value = float("inf") if named[2] else float("nan")
        return -value if named[1] == b"-" else value
    return None


def _from_hex(text: bytes) -> float:
    try:
        return float.fromhex(text.decode())
    except OverflowError:
        return float("-inf") if text.startswith(b"-") else float("inf")


def to_float32(values: NDArray[np.float64], text_of: Callable[[int], bytes]) -> NDArray[np.float32]:
    """float64 values of texts, rounded to the float32 nearest to the text.

    Args:
        values: Of one dimension.
        text_of: Gives the text of the value at a place.
    """
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float32)
    bits = values.view(np.uint64)
    doubtful = (bits & _BELOW_HALF) == _HALF
    magnitude = np.abs(values)
    doubtful |= (magnitude < _SMALLEST_NORMAL) & (magnitude > 0)
    for place in np.flatnonzero(doubtful):
        rounded[place] = _nearest(float(values[place]), text_of(int(place)))
    return rounded


def _nearest(value: float, text: bytes) -> np.float32:
    """The float32 nearest to a text whose float64 is ``value``."""
    with np.errstate(over="ignore", under="ignore"):
        near = np.float32(value)
    if not np.isfinite(value) or float(near) == value:
        return near
    other = np.nextafter(near, np.float32(np.inf if value > near else -np.inf))
    if (_finite(near) + _finite(other)) / 2 != value:
        return near
    exact, half = _exact(text.strip(_BLANKS)), Fraction(value)
    if exact == half:
        return near
    return max(near, other) if exact > half else min(near, other)


def _finite(value: np.float32) -> float:
    """A float32 as float64, where infinity is the number that would follow the largest."""
    return float(np.copysign(2.0**128, value)) if np.isinf(value) else float(value)


def _exact(text: bytes) -> Fraction:
    if parts := _HEX.fullmatch(text):
        sign, whole, fraction, only_fraction, exponent = (part or b"" for part in parts.groups())
        fraction = fraction or only_fraction
        power = int(exponent or b"0") - 4 * len(fraction)
        return int(sign + (whole + fraction), 16) * Fraction(2) ** power
    return Fraction(text.decode())
