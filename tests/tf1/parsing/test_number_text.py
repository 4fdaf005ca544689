"""Numbers from strings, one at a time: limits of the types, and rounding to float32 in close cases."""

import math
import random
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from mpqueue.tf1.parsing.number_text import to_float32

HALF = 1 + 2.0**-24  # half way between two float32
ABOVE = float(np.nextafter(np.float32(1), np.float32(2)))


def moved(value, units):
    for _ in range(abs(units)):
        value = np.nextafter(value, math.copysign(math.inf, units))
    return value


@pytest.mark.parametrize("units", range(-4, 5))
@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        (b"1.00000005960464477", 1.0),
        (b"1.000000059604644775390625", 1.0),
        (b"1.00000005960464478", ABOVE),
        (b"-1.00000005960464477", -1.0),
        (b"-1.00000005960464478", -ABOVE),
        (b"0x1.000000ffffffffffp0", 1.0),
        (b"0x1.00000100000000001p0", ABOVE),
        (b"0x1.000001", 1.0),
        (b"0x1.00000100000000001", ABOVE),
        (b"0x.80000080000000000p1", 1.0),
        (b"0x.80000080000000001p1", ABOVE),
        (b"0x1000001p-24", 1.0),
        (b" -0x10000010000000001p-64 ", -ABOVE),
    ],
)
def test_string_decides_within_four_units_of_half_way(units, text, nearest):
    value = math.copysign(moved(HALF, units), nearest)
    assert to_float32(np.array([value]), lambda _: text).tolist() == [nearest]


def test_string_is_not_requested_if_the_value_decides():
    values = np.array([0.1, 1.0, -2.5, 1e30, 0.0, np.inf, moved(HALF, 10), moved(HALF, -10)])
    found = to_float32(values, None)
    assert found.dtype == np.float32
    assert found.tolist() == values.astype(np.float32).tolist()


@pytest.mark.parametrize(
    ("halves", "shift", "units"),
    [(3, -1, 1), (3, 0, 2), (3, 1, 2), (2**23 + 1, -1, 2**22), (2**23 + 1, 0, 2**22), (2**23 + 1, 1, 2**22 + 1)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_string_decides_below_the_smallest_normal(halves, shift, units, sign):
    """Multiples of half of the smallest float32, slightly smaller and slightly larger: all have the same float64."""
    value = halves * 2.0**-150
    with localcontext(prec=300):
        text = str(sign * Decimal(value) * (1 + shift * Decimal(10) ** -25)).encode()
    assert float(text) == sign * value
    assert to_float32(np.array([sign * value]), lambda _: text).tolist() == [sign * units * 2.0**-149]


def nearest_of(text):
    """Return the nearest float32 by exact arithmetic; ties go to the even one."""
    exact, near = Fraction(text), np.float32(float(text))
    candidates = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    return min(candidates, key=lambda one: (abs(Fraction(float(one)) - exact), int(one.view(np.uint32)) & 1))


def test_strings_below_the_smallest_normal_are_rounded_exactly():
    chance = random.Random(1)
    for _ in range(500):
        text = f"{chance.choice('+-')}{chance.randrange(1, 10**9)}e-{chance.randrange(46, 54)}"
        found = to_float32(np.array([float(text)]), lambda _, text=text: text.encode())
        assert found[0] == nearest_of(text), text
