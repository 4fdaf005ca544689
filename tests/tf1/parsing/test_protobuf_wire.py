"""Malformed and unusual Examples, with results observed in TensorFlow 2.21."""

import json
from pathlib import Path

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
# Records, how their feature "x" is parsed, and the values in a batch and of a single record, or None if it is rejected.
CASES = json.loads((Path(__file__).parent / "cases" / "examples.json").read_text("utf-8"))["cases"]


def values(result):
    result = result["x"]
    return np.ravel(result.values if isinstance(result, mpqueue.SparseTensorValue) else result).tolist()


def check(parse, case, expected, name):
    """Check the values of feature "x", or that the error names the record."""
    features = {"x": FEATURES[case["feature"]]}
    if expected is None:
        with pytest.raises(mpqueue.errors.InvalidArgumentError, match=name):
            parse(case["record"].encode("latin-1"), features)
    else:
        found = values(parse(case["record"].encode("latin-1"), features))
        assert [one.decode("latin-1") if isinstance(one, bytes) else one for one in found] == expected


@pytest.mark.sample(10)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_record_is_parsed_as_in_tensorflow(case):
    check(lambda record, features: mpqueue.parse_example([record], features), case, case["batch"], "record 0")
    check(mpqueue.parse_single_example, case, case["single"], "the record")


@pytest.mark.sample(4)
@pytest.mark.parametrize("case", [one for one in CASES if one["feature"] == "ints"], ids=lambda case: case["case"])
def test_unusual_record_among_regular_ones_is_parsed_equally(case):
    """In a batch that is large enough to be parsed at once."""
    regular = [b"\n\x0c\n\n\n\x01x\x12\x05\x1a\x03\n\x01\x03"] * 20  # x: [3]
    expected = case["batch"] if case["batch"] is None else [3] * 20 + case["batch"] + [3] * 20
    check(
        lambda record, features: mpqueue.parse_example([*regular, record, *regular], features),
        case,
        expected,
        "record 20",
    )
