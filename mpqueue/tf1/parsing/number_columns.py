"""Numbers from text, thousands at a time.

The text is one buffer, and a field is given by its two ends in it. Eight bytes of text are one ``uint64``, and three
multiplications turn eight digits into their number, for all fields at once: 20,000 fields cost some 30 ns each, where
``float(text)`` and a list cost 150 to 500 ns. A field is read as a *front* (the digits before its point if there are at
most seven, else its first eight bytes) and a *rest* of pieces of eight digits. A field that is not
``[-]digits[.digits]`` of such a size is marked, and left to `number_text`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.vectorized import Mask, Places, Words

_U64 = np.uint64
_ZEROS = _U64(0x3030303030303030)
_POINTS = _U64(0x2E2E2E2E2E2E2E2E)
_OVER_NINE = _U64(0x7676767676767676)
_TOPS = _U64(0x8080808080808080)
_PIECE = 8
_MOVE_UP = np.array([256 ** (_PIECE - length) % 2**64 for length in range(_PIECE + 1)], np.uint64)
_POWERS = np.array([10**power for power in range(_PIECE + 1)], np.uint64)


class Fields(NamedTuple):
    """Fields read as digits; meaningless where ``plain`` is False.

    Args:
        front: The number in the front.
        rest: The number in the first piece of the rest.
        rest_length: Digits in the whole rest.
        rest_starts: Place of the first byte of the rest.
        has_point: True if a point is between the two.
        negative: True if a minus stands before them.
        plain: True if the field is ``[-]digits[.digits]``, as far as ``front`` and ``rest`` go.
    """

    front: Words
    rest: Words
    rest_length: Places
    rest_starts: Places
    has_point: Mask
    negative: Mask
    plain: Mask

    def part(self, where: slice) -> "Fields":
        """Return some of the fields."""
        return Fields(*(array[where] for array in self))  # type: ignore[arg-type]  # each stays what it is


def read_fields(words: Words, starts: Places, ends: Places) -> Fields:
    """Read fields as digits.

    Args:
        words: The text, from `vectorized.words_of`, with a margin after it.
        starts: Place of the first byte of each field.
        ends: Place after its last byte.
    """
    heads = words[starts]
    negative = (heads & _U64(0xFF)) == _U64(ord("-"))
    # The words are read once more only where some field has a sign.
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
    # An empty field, a sign or a point alone: no digit is wrong in it, as it has none.
    plain = front_length + rest_length > 0
    front, bad = _digits(heads, front_length)
    plain &= bad == 0
    rest = np.zeros_like(front)
    # Columns of short integers are done: all of their digits are in the front.
    if rest_length.any():
        rest, bad = _digits(words[rest_starts], np.clip(rest_length, 0, _PIECE))
        plain &= bad == 0
    return Fields(front, rest, rest_length, rest_starts, has_point, negative, plain)


def integers(fields: Fields) -> tuple[NDArray[np.int64], Mask]:
    """Return the fields as int64, and a mask of those that are right; integers of over sixteen digits are not."""
    # Sixteen digits always fit int64. More may not, and the reader of single numbers tells.
    known = fields.plain & ~fields.has_point & (fields.rest_length <= _PIECE)
    values = (fields.front * _POWERS[np.clip(fields.rest_length, 0, _PIECE)] + fields.rest).view(np.int64)
    np.negative(values, out=values, where=fields.negative)
    return values, known


def floats(fields: Fields) -> tuple[NDArray[np.float64], Mask]:
    """Return the float64 nearest to each field, and a mask of those that are right.

    At most fifteen digits are read. float64 holds them exactly, and the power of ten too, so that their division rounds
    once.
    """
    shift = _POWERS[np.clip(fields.rest_length, 0, _PIECE)]
    values = (fields.front * shift + fields.rest).astype(np.float64)
    values /= np.where(fields.has_point, shift, _U64(1)).astype(np.float64)
    np.negative(values, out=values, where=fields.negative)
    known = fields.plain & ((fields.rest_length == 0) | (fields.has_point & (fields.rest_length <= _PIECE)))
    return values, known


def add_long_decimals(words: Words, fields: Fields, values: NDArray[np.float64], known: Mask) -> None:
    """Add the second and third piece of decimals: right to some four units in the last place of a float64."""
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


def _bytes_before_point(words: Words) -> Places:
    """Count the bytes of each word before its first point; 8 if it has none."""
    # A byte that is zero is found by its sum with 127, where no carry leaves the byte; its top bit is the answer.
    others = words ^ _POINTS
    points = others & ~_TOPS
    points += ~_TOPS
    points |= others
    points |= ~_TOPS
    np.invert(points, out=points)
    first = points & -points
    none = first == 0
    # The bit is the top one of its byte, number i from below; byte 7 of this product is then byte 7 - i of the factor.
    first >>= _U64(7)
    first *= _U64(0x0001020304050607)
    first >>= _U64(56)
    first[none] = _PIECE
    return first.view(np.int64)


def _digits(words: Words, lengths: Places) -> tuple[Words, Words]:
    """Return the number in the first ``lengths`` bytes of each word, and nonzero bits where one of them is no digit.

    The steps work in place where they can: else arrays of this size are given back to the system and fetched again for
    every step, which took half of the time.
    """
    words = words ^ _ZEROS
    words *= _MOVE_UP[lengths]
    bad = words + _OVER_NINE
    bad |= words
    bad &= _TOPS
    # Neighbours are joined: eight digits, four pairs, two fours, one eight.
    words *= _U64(2561)
    words >>= _U64(8)
    words &= _U64(0x00FF00FF00FF00FF)
    words *= _U64(6553601)
    words >>= _U64(16)
    words &= _U64(0x0000FFFF0000FFFF)
    words *= _U64(42949672960001)
    words >>= _U64(32)
    return words, bad
