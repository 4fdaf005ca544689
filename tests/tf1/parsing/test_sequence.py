"""`parse_single_sequence_example`, with results observed in TensorFlow 2.21."""

import numpy as np
import pytest
from helpers.example_encoding import block, bytes_list, entry, float_list, int64_list

import mpqueue
from mpqueue.errors import InvalidArgumentError

CONTEXT, LISTS = 0x0A, 0x12


def sequence(context=None, lists=None):
    """Return a SequenceExample; a list is a list of Features."""
    entries = [entry(key.encode(), feature) for key, feature in (context or {}).items()]
    rows = [
        entry(key.encode(), b"".join(block(0x0A, feature) for feature in features))
        for key, features in (lists or {}).items()
    ]
    return block(CONTEXT, b"".join(entries)) + block(LISTS, b"".join(rows))


def parse(record, context=None, lists=None, **options):
    return mpqueue.parse_single_sequence_example(record, context, lists, **options)


def test_context_is_parsed_like_a_single_example():
    record = sequence({"i": int64_list(3), "f": float_list(0.5, 1.5), "s": bytes_list(b"a")})
    features = {
        "i": mpqueue.FixedLenFeature([], "int64"),
        "f": mpqueue.FixedLenFeature([2], "float32"),
        "s": mpqueue.VarLenFeature("string"),
        "d": mpqueue.FixedLenFeature([2], "int64", [7, 8]),
    }
    context, lists = parse(record, features)
    assert lists == {}
    assert type(context["i"]) is np.int64
    assert context["f"].tolist() == [0.5, 1.5]
    assert context["d"].tolist() == [7, 8]
    assert [part.tolist() for part in context["s"]] == [[[0]], [b"a"], [1]]


def test_list_has_a_row_per_step():
    record = sequence(lists={"x": [int64_list(1, 2), int64_list(3, 4)], "t": [bytes_list(b"a"), bytes_list(b"b")]})
    pairs, texts = mpqueue.FixedLenSequenceFeature([2], "int64"), mpqueue.FixedLenSequenceFeature([], "string")
    _, lists = parse(record, lists={"x": pairs, "t": texts})
    assert lists["x"].tolist() == [[1, 2], [3, 4]]
    assert lists["t"].tolist() == [b"a", b"b"]


def test_steps_of_different_lengths_yield_a_sparse_array():
    record = sequence(lists={"x": [int64_list(1, 2), int64_list(), b"", int64_list(3)]})
    _, lists = parse(record, lists={"x": mpqueue.VarLenFeature("int64")})
    assert lists["x"].indices.tolist() == [[0, 0], [0, 1], [3, 0]]
    assert lists["x"].values.tolist() == [1, 2, 3]
    assert lists["x"].dense_shape.tolist() == [4, 2]


def test_missing_list_can_be_allowed():
    _, lists = parse(sequence(), lists={"x": mpqueue.FixedLenSequenceFeature([2], "float32", allow_missing=True)})
    assert lists["x"].shape == (0, 2)
    assert lists["x"].dtype == np.float32


def test_missing_sparse_features_are_empty():
    context, lists = parse(b"", {"c": mpqueue.VarLenFeature("int64")}, {"x": mpqueue.VarLenFeature("string")})
    assert [part.tolist() for part in context["c"]] == [[], [], [0]]
    assert context["c"].indices.shape == (0, 1)
    assert [part.tolist() for part in lists["x"]] == [[], [], [0, 0]]
    assert lists["x"].indices.shape == (0, 2)


ONE, ONE_OR_DEFAULT = mpqueue.FixedLenFeature([], "int64"), mpqueue.FixedLenFeature([], "int64", 1)
ONE_EACH, ANY = mpqueue.FixedLenSequenceFeature([], "int64"), mpqueue.VarLenFeature("int64")


def steps(*features):
    return sequence(lists={"x": features})


@pytest.mark.parametrize(
    ("record", "context", "lists", "message"),
    [
        (b"", {"c": ONE}, None, "feature 'c' of the context is missing"),
        (b"", None, {"x": ONE_EACH}, "feature list 'x' is missing"),
        (sequence({"c": float_list(1)}), {"c": ANY}, None, "'c' is float32, expected int64"),
        (sequence({"c": b""}), {"c": ONE_OR_DEFAULT}, None, "'c' is without a kind"),
        (sequence({"c": int64_list()}), {"c": ONE_OR_DEFAULT}, None, "'c' must have 1 values"),
        (steps(int64_list(1), int64_list(1, 2)), None, {"x": ONE_EACH}, "step 1: feature 'x' must have 1 values"),
        (steps(int64_list(1), b""), None, {"x": ONE_EACH}, "step 1: feature 'x' is without a kind"),
        (steps(int64_list(1), float_list(1)), None, {"x": ANY}, "step 1: feature 'x' is float32"),
        (b"\xff", {"c": ANY}, None, "is not a serialized SequenceExample; it has 1 bytes"),
    ],
)
def test_error_contains_the_name(record, context, lists, message):
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        parse(record, context, lists, example_name="clip 9")
    assert "the record (clip 9)" in str(caught.value)


def test_empty_features_are_rejected():
    with pytest.raises(ValueError, match="At least one feature is required"):
        parse(b"")


@pytest.mark.parametrize(
    ("context", "lists"),
    [
        ({"x": mpqueue.FixedLenSequenceFeature([], "int64", allow_missing=True)}, None),
        (None, {"x": mpqueue.FixedLenFeature([], "int64")}),
    ],
)
def test_wrong_feature_class_is_rejected(context, lists):
    with pytest.raises(ValueError, match="must be a"):
        parse(b"", context, lists)


def test_value_before_its_key_is_accepted_as_in_protobuf():
    """TensorFlow rejects it here, but accepts it in an Example."""
    odd = block(0x0A, block(0x12, int64_list(3)) + block(0x0A, b"c"))
    context, _ = parse(block(CONTEXT, odd), {"c": mpqueue.FixedLenFeature([], "int64")})
    assert context == {"c": 3}


def test_batch_is_rejected():
    with pytest.raises(ValueError, match=r"shape \[1\]"):
        parse([b""], {"c": mpqueue.VarLenFeature("int64")})


def test_key_that_is_not_utf8_is_never_found():
    context, _ = parse(sequence({"é": int64_list(1)}), {b"\xe9": mpqueue.VarLenFeature("int64")})
    assert context[b"\xe9"].values.tolist() == []
