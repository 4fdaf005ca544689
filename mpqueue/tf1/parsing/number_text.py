"""A number from a string, with TensorFlow's grammar and rounding.

Integers are decimal. Floats are decimal, hexadecimal with the prefix ``0x``, or ``inf``, ``infinity``, ``nan`` or
``nan(letters)`` in any case. Blanks around a number are ignored. Everything else is an error, including underscores.

Rounding: Python rounds a decimal string correctly to float64. Rounding this to float32 is wrong if the float64 is
exactly half way between two float32 and the decimal is not. For example, 1.00000005960464477539063 is above half way,
its float64 is half way, and ties round down to 1.0. `to_float32` detects such values by their bits and uses the string.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_BLANKS = b" \t\n\v\f\r"
# Possessive quantifiers: invalid input is scanned once, without backtracking.
# At most 19 digits after leading zeros, because Python does not convert very long integers.
_INT = re.compile(rb"[ \t\n\v\f\r]*+([+-]?)(?=[0-9])0*+([0-9]{0,19}+)[ \t\n\v\f\r]*+")
_HEX = re.compile(rb"([+-]?)0[xX](?:([0-9a-fA-F]+)(?:\.([0-9a-fA-F]*))?|\.([0-9a-fA-F]+))(?:[pP]([+-]?[0-9]+))?")
_NAN = re.compile(rb"[+-]?nan\([a-zA-Z0-9_]*\)", re.IGNORECASE)

_BELOW_HALF = np.uint64((1 << 29) - 1)  # the bits of a float64 that a float32 does not have
_HALF = np.uint64(1 << 28)
_NEAR, _TWICE_NEAR = np.uint64(4), np.uint64(8)
_SMALLEST_NORMAL = 2.0**-126


def to_int32(text: bytes) -> int | None:
    """Return the integer, or None if the string is not a valid int32."""
    value = to_int64(text)
    return value if value is not None and -(1 << 31) <= value < 1 << 31 else None


def to_int64(text: bytes) -> int | None:
    """Return the integer, or None if the string is not a valid int64."""
    parts = _INT.fullmatch(text)
    if not parts:
        return None
    value = int(parts[1] + (parts[2] or b"0"))
    return value if -(1 << 63) <= value < 1 << 63 else None


def to_float(text: bytes) -> float | None:
    """Return the nearest float64, or None if the string is not a number."""
    if b"_" not in text:  # Python accepts 1_000 as a number, but TensorFlow does not
        try:
            return float(text)
        except ValueError:
            pass  # Python supports neither hexadecimal floats nor nan(letters)
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
    """Return the nearest float32 of each string.

    Args:
        values: The strings as float64, with an error of at most four units in the last place; one-dimensional.
        text_of: Returns the string of the value at an index. It is only called if the value is not a float32.
    """
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float32)
    below = values.view(np.uint64) & _BELOW_HALF
    doubtful = below - (_HALF - _NEAR) <= _TWICE_NEAR  # unsigned, so a value below wraps to a large number
    magnitude = np.abs(values)
    doubtful |= (magnitude < _SMALLEST_NORMAL) & (magnitude > 0)
    for place in np.flatnonzero(doubtful):
        if values[place] != rounded[place]:
            rounded[place] = _nearest(text_of(int(place)))
    return rounded


def _nearest(text: bytes) -> np.float32:
    """Return the nearest float32 of a string."""
    value = to_float(text)
    assert value is not None, "the string was read before"
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
    """Convert a float32 to float64. Infinity becomes the power of two after the largest number."""
    return math.copysign(2.0**128, value) if np.isinf(value) else float(value)


def _compared(text: bytes, value: float) -> int:
    """Compare the exact number in a string with ``value``: -1 below, 0 equal, 1 above."""
    parts = _HEX.fullmatch(text)
    if not parts:
        exact, other = Decimal(text.decode()), Decimal(value)
        return (exact > other) - (exact < other)
    sign, whole, fraction, only_fraction, exponent = (part or b"" for part in parts.groups())
    fraction = fraction or only_fraction
    power = int(exponent or b"0") - 4 * len(fraction)
    number = int(sign + whole + fraction, 16) * Fraction(2) ** power
    return (number > value) - (number < value)
