"""Numbers from strings, by TensorFlow's grammar and rounding, as observed in TensorFlow 2.21."""

import json
import math
import random
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.sweeps import part_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.errors import InvalidArgumentError

thorough = settings(derandomize=True, deadline=None, max_examples=part_of(200, 4))

# Strings and the numbers that they represent, and invalid strings.
CASES = json.loads((Path(__file__).parent / "cases" / "numbers.json").read_text("utf-8"))
BATCH = 200  # large enough to be read as a batch


def decode(text, dtype):
    """Read one field, alone and among others; both must agree."""
    required = [np.array([], dtype)]
    single = mpqueue.decode_csv(text, required, field_delim="|")[0]
    among = mpqueue.decode_csv([b"1", text] * BATCH, required, field_delim="|")[0][1::2]
    assert among.dtype == single.dtype == dtype
    assert among.tobytes() == single.tobytes() * BATCH
    return single


def is_invalid(text, dtype):
    required = [np.array([], dtype)]
    for records in (text, [b"1"] * BATCH + [text]):
        with pytest.raises(InvalidArgumentError, match=f"Field 0 in record {0 if records is text else BATCH}"):
            mpqueue.decode_csv(records, required, field_delim="|")
    return True


@pytest.mark.sample(5)
@pytest.mark.parametrize(("text", "expected"), [*CASES["int64"], ("0" * 5000 + "7", 7)])
def test_int64_is_read(text, expected):
    assert decode(text, "int64") == expected


@pytest.mark.sample(6)
@pytest.mark.parametrize("text", [*CASES["invalid int64"], "1" * 5000, "0" * 100000 + "x"])
def test_invalid_int64_is_rejected(text):
    assert is_invalid(text, "int64")


@pytest.mark.parametrize(("text", "fits"), [("2147483647", True), ("-2147483648", True), ("2147483648", False)])
def test_int32_limits(text, fits):
    assert decode(text, "int32") == int(text) if fits else is_invalid(text, "int32")


@pytest.mark.sample(12)
@pytest.mark.parametrize(
    ("text", "expected"), [*CASES["float"], ("0." + "0" * 400 + "1e400", 0.1), ("1" + "0" * 400 + "e-400", 1.0)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_is_read(text, expected, dtype):
    with np.errstate(over="ignore"):
        assert decode(text, dtype).tobytes() == np.array(expected, dtype).tobytes()


@pytest.mark.parametrize("text", ["nan", "NaN", "+nan", "-nan", "nan()", "NAN(a_1)"])
def test_nan_is_read(text):
    assert math.isnan(decode(text, "float32"))


@pytest.mark.sample(8)
@pytest.mark.parametrize("text", CASES["invalid float"])
def test_invalid_float_is_rejected(text):
    assert is_invalid(text, "float32")
    assert is_invalid(text, "float64")


HALF_WAY = "1.000000059604644775390625"  # between two float32


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *CASES["float32"],
        (HALF_WAY[:-1] + "0" * 5000 + "1", 1.0),
        (HALF_WAY + "0" * 5000 + "1", 1.0000001192092896),
        ("0x1.000000ffffffffffp0", 1.0),
        ("0x.80000080000000000p1", 1.0),
        ("0x.80000080000000001p1", 1.0000001192092896),
        (" -0x10000010000000001p-64 ", -1.0000001192092896),
    ],
)
def test_float32_is_rounded_once(text, expected):
    """Rounding through float64 would be wrong for the ties."""
    assert decode(text, "float32") == expected


@thorough
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 120), st.booleans())
@example(1.0, 24, True)
def test_float32_and_ties_are_rounded_to_nearest(value, digits, at_half):
    value = np.float32(value)
    with np.errstate(over="ignore"):  # the neighbor of the largest float32 is infinity
        neighbour = np.nextafter(value, np.float32(np.inf))
    if at_half and np.isfinite(neighbour):
        exact = (Fraction(float(value)) + Fraction(float(neighbour))) / 2
    else:
        exact = Fraction(float(value))
    sign, scaled = "-" * (exact < 0), abs(exact) * 10**digits
    text = f"{sign}{int(scaled)}e-{digits}"
    error = abs(Fraction(float(decode(text, "float32"))) - Fraction(text))
    for other in (value, neighbour):
        if np.isfinite(other):
            assert error <= abs(Fraction(float(other)) - Fraction(text))


def nearest_of(text):
    """Return the nearest float32 by exact arithmetic; ties go to the even one."""
    exact, near = Fraction(text), np.float32(float(text))
    candidates = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    return min(candidates, key=lambda one: (abs(Fraction(float(one)) - exact), int(one.view(np.uint32)) & 1))


def test_strings_below_the_smallest_normal_are_rounded_exactly():
    chance = random.Random(1)
    texts = [f"{chance.choice('+-')}{chance.randrange(1, 10**9)}e-{chance.randrange(46, 54)}" for _ in range(100)]
    # Half of the smallest float32, three halves of it, and slightly less and more: the float64 of all are equal.
    with localcontext(prec=300):
        ties = [Decimal(halves) / 2**150 for halves in (1, 3, 2**23 + 1)]
        texts += [str(tie * (1 + shift * Decimal(10) ** -25)) for tie in ties for shift in (-1, 0, 1)]
    for text in texts:
        assert decode(text, "float32") == nearest_of(text), text


@thorough
@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=5),
    st.sampled_from(["{!r}", "{:.6f}", "{:.3e}", "{:.17g}"]),
)
def test_any_float64_is_read_like_python(values, form):
    texts = [form.format(value) for value in values] * BATCH
    decoded = mpqueue.decode_csv(texts, [np.array([], np.float64)])[0]
    assert decoded.tolist() == [float(text) for text in texts]


@thorough
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1000, 1000), min_size=1, max_size=5))
def test_any_int64_is_read(values):
    decoded = mpqueue.decode_csv([str(value) for value in values] * BATCH, [np.array([], np.int64)])[0]
    assert decoded.tolist() == values * BATCH
