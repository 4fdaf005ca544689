"""Numbers from strings, thousands at a time.

All strings are in one buffer, and a field is given by its start and end. Eight bytes are one ``uint64``, and three
multiplications convert eight digits to their number, for all fields at once. 20,000 fields take about 30 ns each, while
``float(text)`` and a list take 150 to 500 ns. A field consists of a *front* (the digits before the point if there are
at most seven, otherwise the first eight bytes) and a *rest* in pieces of eight digits. A field that is not
``[-]digits[.digits]`` with at most that many digits is marked, and left to `number_text`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.vectorized import Mask, Offsets, Words

_U64 = np.uint64
_ZEROS = _U64(0x3030303030303030)
_POINTS = _U64(0x2E2E2E2E2E2E2E2E)
_OVER_NINE = _U64(0x7676767676767676)
_TOPS = _U64(0x8080808080808080)
_PIECE = 8
_MOVE_UP = np.array([256 ** (_PIECE - length) % 2**64 for length in range(_PIECE + 1)], np.uint64)
_POWERS = np.array([10**power for power in range(_PIECE + 1)], np.uint64)


class Fields(NamedTuple):
    """Fields read as digits. The values are undefined where ``plain`` is False.

    Args:
        front: The number in the front.
        rest: The number in the first piece of the rest.
        rest_length: Number of digits in the whole rest.
        rest_starts: Position of the first byte of the rest.
        has_point: True if there is a point between front and rest.
        negative: True if the field starts with a minus sign.
        plain: True if ``front`` and ``rest`` have only digits, and the field has the form ``[-]digits[.digits]``.
    """

    front: Words
    rest: Words
    rest_length: Offsets
    rest_starts: Offsets
    has_point: Mask
    negative: Mask
    plain: Mask

    def part(self, where: slice) -> "Fields":
        """Return a slice of the fields."""
        return Fields(*(array[where] for array in self))  # type: ignore[arg-type]  # each array keeps its type


def read_fields(words: Words, starts: Offsets, ends: Offsets) -> Fields:
    """Read fields as digits.

    Args:
        words: The buffer, from `vectorized.words_of`, with a margin after it.
        starts: Position of the first byte of each field.
        ends: Position after the last byte of each field.
    """
    heads = words[starts]
    negative = (heads & _U64(0xFF)) == _U64(ord("-"))
    # Read the words again only if a field has a sign.
    if negative.any():
        starts = starts + negative
        heads = words[starts]
    length = ends - starts
    front_length = _bytes_before_point(heads)
    has_point = front_length < length
    has_point &= front_length < _PIECE
    np.minimum(front_length, length, out=front_length)
    rest_starts = starts + front_length
    rest_starts += has_point
    rest_length = ends - rest_starts
    # Empty fields, and a sign or point without digits: they have no invalid digit, so they are excluded here.
    plain = front_length + rest_length > 0
    front, bad = _digits(heads, front_length)
    plain &= bad == 0
    rest = np.zeros_like(front)
    # Columns of short integers are finished, because all digits are in the front.
    if rest_length.any():
        rest, bad = _digits(words[rest_starts], np.clip(rest_length, 0, _PIECE))
        plain &= bad == 0
    return Fields(front, rest, rest_length, rest_starts, has_point, negative, plain)


def integers(fields: Fields) -> tuple[NDArray[np.int64], Mask]:
    """Return the fields as int64, and a mask of valid ones. Integers of more than sixteen digits are not valid."""
    # Sixteen digits always fit int64. With more digits, `number_text` decides.
    known = fields.plain & ~fields.has_point & (fields.rest_length <= _PIECE)
    values = (fields.front * _POWERS[np.clip(fields.rest_length, 0, _PIECE)] + fields.rest).view(np.int64)
    np.negative(values, out=values, where=fields.negative)
    return values, known


def floats(fields: Fields) -> tuple[NDArray[np.float64], Mask]:
    """Return the nearest float64 of each field, and a mask of valid ones.

    At most fifteen digits are read. They and the power of ten are exact in float64, so the division rounds only once.
    """
    shift = _POWERS[np.clip(fields.rest_length, 0, _PIECE)]
    values = (fields.front * shift + fields.rest).astype(np.float64)
    values /= np.where(fields.has_point, shift, _U64(1)).astype(np.float64)
    np.negative(values, out=values, where=fields.negative)
    known = fields.plain & ((fields.rest_length == 0) | (fields.has_point & (fields.rest_length <= _PIECE)))
    return values, known


def add_long_decimals(words: Words, fields: Fields, values: NDArray[np.float64], known: Mask) -> None:
    """Add the second and third piece of decimals, with an error of at most some four units in the last place."""
    places = np.flatnonzero(fields.plain & fields.has_point & (fields.rest_length > _PIECE))
    places = places[fields.rest_length[places] <= 3 * _PIECE]
    if not len(places):
        return
    good = np.ones(len(places), bool)
    sign = np.where(fields.negative[places], -1.0, 1.0)
    for piece in (1, 2):
        lengths = np.clip(fields.rest_length[places] - piece * _PIECE, 0, _PIECE)
        more, bad = _digits(words[fields.rest_starts[places] + piece * _PIECE], lengths)
        good &= bad == 0
        values[places] += sign * more / (_POWERS[lengths] * 10.0 ** (piece * _PIECE))
    known[places] = good


def _bytes_before_point(words: Words) -> Offsets:
    """Return the number of bytes before the first point of each word, or 8 without a point."""
    # A zero byte is detected by adding 127, which never carries into the next byte: its top bit remains 0.
    others = words ^ _POINTS
    points = others & ~_TOPS
    points += ~_TOPS
    points |= others
    points |= ~_TOPS
    np.invert(points, out=points)
    first = points & -points
    none = first == 0
    # The top bit of byte number i becomes bit 8*i. Byte 7 of the product is then byte 7 - i of the factor.
    first >>= _U64(7)
    first *= _U64(0x0001020304050607)
    first >>= _U64(56)
    first[none] = _PIECE
    return first.view(np.int64)


def _digits(words: Words, lengths: Offsets) -> tuple[Words, Words]:
    """Return the number in the first ``lengths`` bytes of each word, and nonzero bits where a byte is not a digit.

    Operations are in place. Otherwise each step would allocate an array and return it to the system, which took half of
    the time.
    """
    words = words ^ _ZEROS
    words *= _MOVE_UP[lengths]
    bad = words + _OVER_NINE
    bad |= words
    bad &= _TOPS
    # Join neighbors: eight digits to four pairs, two groups of four, one group of eight.
    words *= _U64(2561)
    words >>= _U64(8)
    words &= _U64(0x00FF00FF00FF00FF)
    words *= _U64(6553601)
    words >>= _U64(16)
    words &= _U64(0x0000FFFF0000FFFF)
    words *= _U64(42949672960001)
    words >>= _U64(32)
    return words, bad
