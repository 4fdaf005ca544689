"""Malformed and unusual Examples, with results observed in TensorFlow 2.21."""

import numpy as np
import pytest

import mpqueue

FEATURES = {
    "ints": mpqueue.VarLenFeature("int64"),
    "floats": mpqueue.VarLenFeature("float32"),
    "strings": mpqueue.VarLenFeature("string"),
    "fixed int": mpqueue.FixedLenFeature([], "int64", default_value=77),
    "one float": mpqueue.FixedLenFeature([1], "float32"),
}
REFUSED = None

# Description, record, how feature "x" is parsed, result in a batch, result of a single record.
CASES = [
    ("a list of texts", b"\n\x0f\n\r\n\x01x\x12\x08\n\x06\n\x01a\n\x01b", "strings", [b"a", b"b"], [b"a", b"b"]),
    ("after a packed run the list is over", b"\n\x0e\n\x0c\n\x01x\x12\x07\x1a\x05\n\x01\x05\x08\x06", "ints", [5], [5]),
    ("only the first packed run", b"\n\x0f\n\r\n\x01x\x12\x08\x1a\x06\n\x01\x05\n\x01\x06", "ints", [5], [5]),
    (
        "only the first packed run of floats",
        b"\n\x15\n\x13\n\x01x\x12\x0e\x12\x0c\n\x04\x00\x00\x00@\n\x04\x00\x00\x80?",
        "floats",
        [2.0],
        [2.0],
    ),
    (
        "only the first packed run, dense",
        b"\n\x15\n\x13\n\x01x\x12\x0e\x12\x0c\n\x04\x00\x00\x00@\n\x04\x00\x00\x80?",
        "one float",
        [2.0],
        [2.0],
    ),
    ("a list longer than its feature", b"\n\x0c\n\n\n\x01x\x12\x05\x1a\x7f\n\x01\x05", "ints", [5], [5]),
    ("a list that ends in its run", b"\n\x0c\n\n\n\x01x\x12\x05\x1a\x01\n\x01\x05", "ints", REFUSED, REFUSED),
    ("a run longer than its list", b"\n\x0c\n\n\n\x01x\x12\x05\x1a\x03\n\x7f\x05", "ints", [5], [5]),
    (
        "a run of floats longer than its list",
        b"\n\x0f\n\r\n\x01x\x12\x08\x12\x06\n\x7f\x00\x00\x00@",
        "floats",
        REFUSED,
        REFUSED,
    ),
    ("two lists of one kind", b"\n\x11\n\x0f\n\x01x\x12\n\x1a\x03\n\x01\x05\x1a\x03\n\x01\x06", "ints", [5], [5]),
    ("the first kind counts", b"\n\x0e\n\x0c\n\x01x\x12\x07\x12\x00\x1a\x03\n\x01\x06", "ints", REFUSED, REFUSED),
    (
        "a later feature without a kind, sparse",
        b"\n\x13\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05\n\x05\n\x01x\x12\x00",
        "ints",
        [],
        [5],
    ),
    (
        "a later feature without a kind, dense",
        b"\n\x13\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05\n\x05\n\x01x\x12\x00",
        "fixed int",
        [5],
        [5],
    ),
    (
        "an earlier feature that is broken",
        b"\n\x18\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x85\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05",
        "fixed int",
        [5],
        [5],
    ),
    (
        "an earlier feature of another dtype",
        b"\n\x18\n\n\n\x01x\x12\x05\x12\x03\n\x01\x85\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05",
        "ints",
        [5],
        [5],
    ),
    (
        "an earlier feature of no kind at all",
        b'\n\x18\n\n\n\x01x\x12\x05"\x03\n\x01\x85\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05',
        "ints",
        REFUSED,
        REFUSED,
    ),
    ("a feature of no kind", b'\n\x0c\n\n\n\x01x\x12\x05"\x03\n\x01\x85', "ints", REFUSED, REFUSED),
    ("another feature of no kind", b'\n\x0c\n\n\n\x01y\x12\x05"\x03\n\x01\x85', "ints", [], []),
    ("an entry of a key only", b"\n\x05\n\x03\n\x01x", "fixed int", REFUSED, REFUSED),
    ("an entry of a value only", b"\n\t\n\x07\x12\x05\x1a\x03\n\x01\x05", "fixed int", REFUSED, REFUSED),
    ("an empty entry", b"\n\x02\n\x00", "fixed int", REFUSED, REFUSED),
    ("an entry of two keys", b"\n\x08\n\x06\n\x01y\n\x01x", "fixed int", [77], [77]),
    (
        "an entry of two keys and a value",
        b"\n\x0f\n\r\n\x01y\n\x01x\x12\x05\x1a\x03\n\x01\x05",
        "fixed int",
        REFUSED,
        REFUSED,
    ),
    ("value before key", b"\n\x0c\n\n\x12\x05\x1a\x03\n\x01\x05\n\x01x", "fixed int", [5], [5]),
    ("a tag of two bytes in an entry", b"\n\r\n\x0b\x8a\x00\x01x\x12\x05\x1a\x03\n\x01\x05", "fixed int", [5], [5]),
    ("a tag of two bytes at the top", b"\x8a\x00\x0c\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05", "fixed int", [77], [77]),
    ("features longer than the record", b"\n\x7f\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05", "fixed int", [5], [5]),
    ("an unknown field over the end", b"\x12\x7fab", "fixed int", [77], [77]),
    ("an unknown number", b"\x10\x85\x01\n\x0c\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05", "fixed int", [5], [5]),
    (
        "an unknown field of four billion bytes",
        b"\x12\xff\xff\xff\xff\x0f\n\x0c\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05",
        "fixed int",
        [5],
        [5],
    ),
    ("field number zero", b"\x00\x05\n\x0c\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05", "fixed int", [5], [5]),
    ("a group", b"\x13\x14", "fixed int", REFUSED, REFUSED),
    ("an unknown fixed64", b"\x11aaaaaaaa\n\x0c\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x05", "fixed int", [5], [5]),
    ("a cut fixed64", b"\x11aaaaaaa", "fixed int", REFUSED, REFUSED),
    ("a cut fixed32", b"\x15aaa", "fixed int", REFUSED, REFUSED),
    ("something else than an entry", b"\n\x02\x10\x05", "fixed int", REFUSED, REFUSED),
    ("another field in a bytes list", b"\n\x0c\n\n\n\x01x\x12\x05\n\x03\x12\x01a", "strings", REFUSED, REFUSED),
    ("a string longer than its list", b"\n\x0c\n\n\n\x01x\x12\x05\n\x03\n\x05a", "strings", REFUSED, REFUSED),
    ("a cut float", b"\n\x0c\n\n\n\x01x\x12\x05\x12\x03\r\x00\x00", "floats", REFUSED, REFUSED),
    ("a cut number", b"\n\x0c\n\n\n\x01x\x12\x05\x1a\x03\x08\x01\x08", "ints", REFUSED, REFUSED),
    (
        "a length of ten bytes",
        b"\n\x15\n\x13\n\x01x\x12\x0e\x1a\x83\x80\x80\x80\x80\x80\x80\x80\x80\x01\n\x01\x05",
        "ints",
        [5],
        [5],
    ),
    (
        "a number of more than 64 bits",
        b"\n\x15\n\x13\n\x01x\x12\x0e\x1a\x0c\n\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        "ints",
        [-1],
        [-1],
    ),
    ("bytes after the list", b"\n\x10\n\x0e\n\x01x\x12\t\x1a\x03\n\x01\x05zzzz", "fixed int", [5], [5]),
]


def values(result):
    result = result["x"]
    return np.ravel(result.values if isinstance(result, mpqueue.SparseTensorValue) else result).tolist()


@pytest.mark.parametrize(("record", "how", "expected"), [case[1:4] for case in CASES], ids=[case[0] for case in CASES])
def test_batch_is_parsed_as_in_tensorflow(record, how, expected):
    features = {"x": FEATURES[how]}
    if expected is REFUSED:
        with pytest.raises(mpqueue.errors.InvalidArgumentError, match="record 0"):
            mpqueue.parse_example([record], features)
    else:
        assert values(mpqueue.parse_example([record], features)) == expected


@pytest.mark.parametrize(
    ("record", "how", "expected"), [(*case[1:3], case[4]) for case in CASES], ids=[case[0] for case in CASES]
)
def test_single_record_is_parsed_as_in_tensorflow(record, how, expected):
    features = {"x": FEATURES[how]}
    if expected is REFUSED:
        with pytest.raises(mpqueue.errors.InvalidArgumentError, match="the record"):
            mpqueue.parse_single_example(record, features)
    else:
        assert values(mpqueue.parse_single_example(record, features)) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [(case[1], case[3]) for case in CASES if case[2] == "ints"],
    ids=[case[0] for case in CASES if case[2] == "ints"],
)
def test_unusual_record_among_regular_ones_is_parsed_equally(record, expected):
    """In a batch that is large enough to be parsed at once."""
    regular = b"\n\x0c\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x03"  # x: [3]
    batch = [regular] * 20 + [record] + [regular] * 20
    features = {"x": FEATURES["ints"]}
    if expected is REFUSED:
        with pytest.raises(mpqueue.errors.InvalidArgumentError, match="record 20"):
            mpqueue.parse_example(batch, features)
    else:
        assert values(mpqueue.parse_example(batch, features)) == [3] * 20 + expected + [3] * 20
