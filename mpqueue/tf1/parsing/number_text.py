"""Numbers from text, one at a time, by TensorFlow's grammar and its rounding.

Integers are decimal. Floats are decimal, hexadecimal with a leading ``0x``, ``inf``, ``infinity``, ``nan`` or
``nan(letters)`` in any case. Blanks around a number are ignored; underscores and everything else are errors.

Rounding: Python rounds a decimal text correctly to float64. Rounding that once more to float32 goes wrong when the
float64 lies exactly half way between two float32 and the text does not: 1.00000005960464477539063 is above half way,
its float64 is half way, and ties go down to 1.0. `to_float32` finds those few by their bits and asks the text.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_BLANKS = b" \t\n\v\f\r"
# Quantifiers that never give back what they took: bad input costs one look at each byte.
# No more than 19 digits after the zeros: Python refuses to convert very long ones.
_INT = re.compile(rb"[ \t\n\v\f\r]*+([+-]?)(?=[0-9])0*+([0-9]{0,19}+)[ \t\n\v\f\r]*+")
_HEX = re.compile(rb"([+-]?)0[xX](?:([0-9a-fA-F]+)(?:\.([0-9a-fA-F]*))?|\.([0-9a-fA-F]+))(?:[pP]([+-]?[0-9]+))?")
_NAN = re.compile(rb"[+-]?nan\([a-zA-Z0-9_]*\)", re.IGNORECASE)

_BELOW_HALF = np.uint64((1 << 29) - 1)  # the bits that float64 has and float32 has not
_HALF = np.uint64(1 << 28)
_NEAR, _TWICE_NEAR = np.uint64(4), np.uint64(8)
_SMALLEST_NORMAL = 2.0**-126


def to_int32(text: bytes) -> int | None:
    """Return the integer, or None if the text is none or int32 does not hold it."""
    value = to_int64(text)
    return value if value is not None and -(1 << 31) <= value < 1 << 31 else None


def to_int64(text: bytes) -> int | None:
    """Return the integer, or None if the text is none or int64 does not hold it."""
    parts = _INT.fullmatch(text)
    if not parts:
        return None
    value = int(parts[1] + (parts[2] or b"0"))
    return value if -(1 << 63) <= value < 1 << 63 else None


def to_float(text: bytes) -> float | None:
    """Return the nearest float64, or None if the text is no number."""
    if b"_" not in text:  # Python reads 1_000 as a number, and TensorFlow does not
        try:
            return float(text)
        except ValueError:
            pass  # Python knows no hexadecimal, nor nan(letters)
    text = text.strip(_BLANKS)
    if _HEX.fullmatch(text):
        return _from_hex(text)
    return float("nan") if _NAN.fullmatch(text) else None


def _from_hex(text: bytes) -> float:
    try:
        return float.fromhex(text.decode())
    except OverflowError:
        return float("-inf") if text.startswith(b"-") else float("inf")


def to_float32(values: NDArray[np.float64], text_of: Callable[[int], bytes]) -> NDArray[np.float32]:
    """Return the float32 nearest to each of some texts.

    Args:
        values: The texts as float64, right to four units in the last place; of one dimension.
        text_of: Returns the text of the value at a place; it is not called where the value is one of float32.
    """
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float32)
    below = values.view(np.uint64) & _BELOW_HALF
    doubtful = below - (_HALF - _NEAR) <= _TWICE_NEAR  # unsigned: below that, the difference is huge
    magnitude = np.abs(values)
    doubtful |= (magnitude < _SMALLEST_NORMAL) & (magnitude > 0)
    for place in np.flatnonzero(doubtful):
        if values[place] != rounded[place]:
            rounded[place] = _nearest(text_of(int(place)))
    return rounded


def _nearest(text: bytes) -> np.float32:
    """Return the float32 nearest to a text."""
    value = to_float(text)
    assert value is not None, "the text was read before"
    with np.errstate(over="ignore", under="ignore"):
        near = np.float32(value)
        other = np.nextafter(near, np.float32(np.inf if value > float(near) else -np.inf))
    if not np.isfinite(value) or float(near) == value or (_finite(near) + _finite(other)) / 2 != value:
        return near
    above = _compared(text.strip(_BLANKS), value)
    if above == 0:
        return near
    return max(near, other) if above > 0 else min(near, other)


def _finite(value: np.float32) -> float:
    """Convert a float32 to float64; infinity becomes the number that would follow the largest."""
    return math.copysign(2.0**128, value) if np.isinf(value) else float(value)


def _compared(text: bytes, value: float) -> int:
    """Compare the number of a text with another, exactly: -1 below, 0 equal, 1 above."""
    parts = _HEX.fullmatch(text)
    if not parts:
        exact, other = Decimal(text.decode()), Decimal(value)
        return (exact > other) - (exact < other)
    sign, whole, fraction, only_fraction, exponent = (part or b"" for part in parts.groups())
    fraction = fraction or only_fraction
    power = int(exponent or b"0") - 4 * len(fraction)
    number = int(sign + whole + fraction, 16) * Fraction(2) ** power
    return (number > value) - (number < value)
