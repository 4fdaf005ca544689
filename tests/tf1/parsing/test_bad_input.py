"""Hostile input for each decoder: a documented error or a result, in memory proportional to the input."""

import numpy as np
import pytest
from helpers.example_encoding import bytes_list, example_of, float_list, int64_list, varint
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tf1.helpers.traced_memory import less_than

import mpqueue
from mpqueue import train
from mpqueue.errors import InvalidArgumentError

pytestmark = pytest.mark.sample(2)

thorough = settings(derandomize=True, deadline=None, max_examples=part_of(200, 4))

FEATURES = {
    "i": mpqueue.FixedLenFeature([], "int64"),
    "f": mpqueue.FixedLenSequenceFeature([2], "float32", allow_missing=True),
    "s": mpqueue.VarLenFeature("string"),
}
GOOD = example_of(i=int64_list(300), f=float_list(1, 2, 3, 4), s=bytes_list(b"one", b"two"))
CONTEXT, LISTS = {"i": FEATURES["i"]}, {"s": FEATURES["s"]}
CSV = [np.array([], np.int32), [0.5], ["d"]]
JSON = b'{"features": {"feature": {"a": {"int64List": {"value": [1, "2"]}}, "b": {"bytesList": {"value": ["eA=="]}}}}}'
SEQUENCE = train.SequenceExample.FromString(GOOD)
SEQUENCE.feature_lists.feature_list["s"].feature.add().bytes_list.value.append(b"step")
SEQUENCE = SEQUENCE.SerializeToString()

# By name: the record in error messages, a valid record, and the call.
DECODERS = {
    "parse_single_example": ("the record", GOOD, lambda record: mpqueue.parse_single_example(record, FEATURES)),
    "parse_example": ("record 1", GOOD, lambda record: mpqueue.parse_example([GOOD, record], FEATURES)),
    "parse_example at once": (
        "record 30", GOOD, lambda record: mpqueue.parse_example([GOOD] * 30 + [record], FEATURES),
    ),
    "parse_single_sequence_example": (
        "the record", SEQUENCE, lambda record: mpqueue.parse_single_sequence_example(record, CONTEXT, LISTS),
    ),
    "decode_csv": ("record 0", b'1,2.5,"a ""b"""', lambda record: mpqueue.decode_csv(record, CSV)),
    "decode_csv at once": (
        "record 99", b'1,2.5,"a b"', lambda record: mpqueue.decode_csv([b"1,2,c"] * 99 + [record], CSV),
    ),
    "decode_raw": ("record 1", b"abcdefgh", lambda record: mpqueue.decode_raw([b"abcdefgh", record], "float32")),
    "decode_json_example": ("record 1", JSON, lambda record: mpqueue.decode_json_example([b"{}", record])),
}  # fmt: skip
decoders = pytest.mark.parametrize("name", list(DECODERS))


def attempt(name, record):
    """Decode a record. An error must be documented and name the record."""
    named, _, decode = DECODERS[name]
    try:
        decode(record)
        return
    except InvalidArgumentError as error:
        message = str(error)
    assert named in message or (name == "decode_raw" and "record 0" in message)
    assert len(message) < 1000


@decoders
@thorough
@given(record=st.binary(max_size=60))
def test_random_bytes(name, record):
    attempt(name, record)


@decoders
def test_every_truncation(name):
    good = DECODERS[name][1]
    for length in range(len(good)):
        attempt(name, good[:length])


@decoders
@thorough
@given(data=st.data())
def test_flipped_bits(name, data):
    record = bytearray(DECODERS[name][1])
    for bit in data.draw(st.lists(st.integers(0, 8 * len(record) - 1), min_size=1, max_size=3)):
        record[bit // 8] ^= 1 << bit % 8
    attempt(name, bytes(record))


@decoders
@thorough
@given(data=st.data())
def test_inserted_or_removed_bytes(name, data):
    good = DECODERS[name][1]
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    attempt(name, good[:start] + data.draw(st.binary(max_size=8)) + good[end:])


@pytest.mark.sample(6)
@pytest.mark.parametrize("claimed", [2**7, 2**20, 10 * 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize(
    "name", ["parse_single_example", "parse_example", "parse_example at once", "parse_single_sequence_example"]
)
def test_huge_length_field_allocates_no_memory(name, claimed):
    """Each length field of the record in turn is set to gigabytes."""
    good = DECODERS[name][1]
    attempt(name, good)
    with less_than(2**20):
        for place in range(1, len(good)):
            attempt(name, good[:place] + varint(claimed) + good[place + 1 :])


@thorough
@given(st.binary(min_size=200, max_size=3000), st.sampled_from(sorted(DECODERS)))
def test_memory_is_bounded_by_the_input(noise, name):
    record = DECODERS[name][1] + noise
    attempt(name, record)
    with less_than(100 * len(record) + 2**19):
        attempt(name, record)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("decode_csv", b"," * 10**6),
        ("decode_csv at once", b"," * 10**6),
        ("decode_csv", b"\n" * 10**6),
        ("decode_csv", b'"' * 10**6),
        ("decode_csv", b'"' + b'""' * 10**5),
        ("decode_csv at once", b"0" * 10**6 + b"x,1,a"),
        ("decode_csv", b"1,0x" + b"f" * 10**6 + b"z,a"),
        ("decode_csv", b"1," + b" " * 10**6 + b"x,a"),
        ("decode_csv", b"1,nan(" + b"a" * 10**6 + b",a"),
        ("decode_csv", b"1,1e" + b"9" * 10**6 + b"x,a"),
        ("decode_json_example", b"[" * 10**6),
        ("decode_json_example", b'{"' + b"a" * 10**6),
        ("decode_json_example", b'{"' + b"\\n" * 10**6),
        ("decode_json_example", b" " * 10**6),
        ("decode_json_example", b'{"features":{"feature":{"a":{"int64List":{"value":[' + b"1" * 10**6 + b"]}}}}}"),
        ("decode_json_example", b'{"features":{"feature":{"a":{"floatList":{"value":["' + b"1" * 10**6 + b'x"]}}}}}'),
        ("decode_json_example", b'{"features":{"feature":{"a":{"bytesList":{"value":["' + b"a" * 10**6 + b'!"]}}}}}'),
        ("parse_single_example", b"\x80" * 10**6),
        ("parse_single_example", b"\x0a" * 10**6),
        ("parse_example at once", b"\x0a\x00" * 10**5),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:20]),
)
def test_long_invalid_input_is_rejected_in_one_pass(name, record):
    """Anything slower than linear in the input would exceed the suite's timeout."""
    attempt(name, record)
