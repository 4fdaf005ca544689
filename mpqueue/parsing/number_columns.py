"""Numbers from text, thousands at a time.

The text is one buffer, a field two places in it. Eight bytes of text are one ``uint64``, and three multiplications turn
eight digits into their number, for all fields at once: 20,000 fields cost 25 ns each, where ``float(text)`` and a list
cost 150 ns. A field is cut in two pieces of at most eight digits, at its point or, where it has none, eight before its
end. What is not ``[-]digits[.digits]`` of that size is marked, and left to `number_text`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MARGIN = b"\0" * 8
"""What must stand before the text: eight bytes are read that end where a field ends."""

_Places = NDArray[np.int64]
_U64 = np.uint64
_ZEROS = _U64(0x3030303030303030)
_OVER_NINE = _U64(0x7676767676767676)
_TOPS = _U64(0x8080808080808080)
_KEEP = np.array([(-1 << (8 * (8 - length))) & (2**64 - 1) for length in range(8)] + [2**64 - 1], np.uint64)
_POWERS = np.array([10**power for power in range(9)], np.uint64)
_EXACT_IN_FLOAT64 = _U64(2**53)


class Digits(NamedTuple):
    """What plain fields say; meaningless where ``plain`` is False.

    Args:
        magnitude: uint64, all digits as one number.
        decimals: How many of them follow the point.
        has_point: Whether there is one.
        negative: Whether there is a minus.
        plain: Whether the field is ``[-]digits[.digits]`` with at most eight digits in each piece.
    """

    magnitude: NDArray[np.uint64]
    decimals: _Places
    has_point: NDArray[np.bool_]
    negative: NDArray[np.bool_]
    plain: NDArray[np.bool_]

    def floats(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The float64 nearest to each field, and where that is so: both sides of the division are exact."""
        values = self.magnitude.astype(np.float64)
        values /= _POWERS.astype(np.float64)[self.decimals]
        np.negative(values, out=values, where=self.negative)
        return values, self.plain & (self.magnitude <= _EXACT_IN_FLOAT64)

    def integers(self, dtype: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Each field as int64, and where it is one that ``dtype`` holds."""
        values = self.magnitude.view(np.int64)
        values = np.where(self.negative, -values, values)
        limits = np.iinfo(dtype)
        return values, self.plain & ~self.has_point & (values >= limits.min) & (values <= limits.max)


def words_of(memory: bytes) -> NDArray[np.uint64]:
    """The eight bytes at every place of a buffer as one number; a view."""
    return np.ndarray((len(memory) - 7,), np.dtype("<u8"), memory, strides=(1,))


def digits(words: NDArray[np.uint64], starts: _Places, ends: _Places, points: _Places) -> Digits:
    """Read fields as digits.

    Args:
        words: The text, from `words_of`; it begins with `MARGIN`.
        starts: Place of the first byte of each field.
        ends: Place after its last byte.
        points: Place of its point, -1 where it has none.
    """
    negative = (words[starts] & _U64(0xFF)) == _U64(ord("-"))
    starts = starts + negative
    has_point = points >= 0
    cuts = np.where(has_point, points, np.maximum(ends - 8, starts))
    decimals = ends - cuts - has_point
    front = cuts - starts
    plain = (front <= 8) & (front >= 0) & (decimals <= 8) & (front + decimals > 0)
    decimals = np.where(plain, decimals, 0)
    magnitude, bad = _eight_digits(words[ends - 8], decimals)
    if front.any():
        high, bad_high = _eight_digits(words[cuts - 8], np.where(plain, front, 0))
        magnitude += high * _POWERS[decimals]
        bad |= bad_high
    plain &= bad == 0
    return Digits(magnitude, np.where(has_point, decimals, 0), has_point, negative, plain)


def _eight_digits(words: NDArray[np.uint64], lengths: _Places) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The number in the last ``lengths`` bytes of each word, and bits where one of them is no digit."""
    words ^= _ZEROS
    words &= _KEEP[lengths]
    bad = words + _OVER_NINE
    bad |= words
    bad &= _TOPS
    # Neighbours are joined: eight digits, four pairs, two fours, one eight.
    words = (words * _U64(2561)) >> _U64(8)
    words = ((words & _U64(0x00FF00FF00FF00FF)) * _U64(6553601)) >> _U64(16)
    words = ((words & _U64(0x0000FFFF0000FFFF)) * _U64(42949672960001)) >> _U64(32)
    return words, bad
