"""`parse_example` and related functions, beyond the golden cases."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.example_encoding import bytes_list, entry, example, example_of, float_list, int64_list

import mpqueue
from mpqueue.errors import InvalidArgumentError

A_FEW, MANY = 3, 40  # parsed one by one, and at once


def one(dtype="int64", **options):
    return mpqueue.FixedLenFeature([], dtype, **options)


@pytest.mark.parametrize("count", [A_FEW, MANY])
@pytest.mark.parametrize(
    ("feature", "dtype"), [(int64_list(7), "int64"), (float_list(7), "float32"), (bytes_list(b"7"), "string")]
)
def test_results_are_writable_and_own_their_memory(count, feature, dtype):
    records = [example_of(x=feature)] * count
    result = mpqueue.parse_example(records, {"x": one(dtype)})["x"]
    result[0] = 8 if dtype != "string" else b"8"
    again = mpqueue.parse_example(records, {"x": one(dtype)})["x"]
    assert again.tolist() == [7 if dtype != "string" else b"7"] * count


@pytest.mark.parametrize("count", [A_FEW, MANY])
def test_default_is_not_shared_with_the_result(count):
    default = np.array([1, 2])
    features = {"x": mpqueue.FixedLenFeature([2], "int64", default)}
    mpqueue.parse_example([example()] * count, features)["x"][:] = 0
    mpqueue.parse_single_example(example(), features)["x"][:] = 0
    assert default.tolist() == [1, 2]
    assert mpqueue.parse_example([example()] * count, features)["x"].tolist() == [[1, 2]] * count


def test_features_changed_between_calls_take_effect():
    """The plan of a dict of features must not be used for a different dict at the same address."""
    record = example_of(x=int64_list(1), y=int64_list(2))
    features = {"x": one()}
    assert mpqueue.parse_single_example(record, features) == {"x": 1}
    features["y"] = one()
    assert mpqueue.parse_single_example(record, features) == {"x": 1, "y": 2}
    features["x"] = one(default_value=5)
    assert mpqueue.parse_single_example(example_of(y=int64_list(2)), features) == {"x": 5, "y": 2}


def test_equal_defaults_of_different_types_are_distinguished():
    """1, 1.0 and True are equal in Python, but not all of them are valid defaults of an int64."""
    assert mpqueue.parse_single_example(b"", {"x": one(default_value=1)}) == {"x": 1}
    with pytest.raises(TypeError, match=r"1\.0"):
        mpqueue.parse_single_example(b"", {"x": one(default_value=1.0)})


def test_shape_list_changed_between_calls_takes_effect():
    shape = [1]
    feature = mpqueue.FixedLenFeature(shape, "int64")
    assert mpqueue.parse_single_example(example_of(x=int64_list(4)), {"x": feature})["x"].shape == (1,)
    shape[0] = 2
    assert mpqueue.parse_single_example(example_of(x=int64_list(4, 5)), {"x": feature})["x"].tolist() == [4, 5]


@pytest.mark.parametrize("shape", [1, [1], (1,), np.array([1]), [SimpleNamespace(value=1)]])
def test_shapes_in_all_spellings(shape):
    feature = mpqueue.FixedLenFeature(shape, "int64")
    assert mpqueue.parse_single_example(example_of(x=int64_list(4)), {"x": feature})["x"].shape == (1,)


def test_scalars_are_numpy_scalars_and_bytes():
    record = example_of(i=int64_list(4), f=float_list(0.5), s=bytes_list(b"t"))
    result = mpqueue.parse_single_example(record, {"i": one(), "f": one("float32"), "s": one("string")})
    assert (type(result["i"]), type(result["f"]), type(result["s"])) == (np.int64, np.float32, bytes)


@pytest.mark.parametrize("count", [A_FEW, MANY])
def test_keys_of_any_length_are_distinguished(count):
    keys = ["", *("a" * length for length in (1, 8, 16, 17, 40, 127, 128)), "a\0", "a\0\0"]
    keys += ["b", "a" * 7 + "b", "a" * 8 + "b" + "a" * 8, "a" * 20 + "b" + "a" * 19]
    record = example(*(entry(key.encode(), int64_list(number)) for number, key in enumerate(keys)))
    result = mpqueue.parse_example([record] * count, {key: one() for key in keys})
    assert {key: values.tolist() for key, values in result.items()} == {
        key: [number] * count for number, key in enumerate(keys)
    }


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda records: np.array(records, dtype=object)])
def test_batch_can_be_any_sequence_of_strings(kind):
    records = [example_of(x=int64_list(number)) for number in (1, 2, 3)]
    assert mpqueue.parse_example(kind(records), {"x": one()})["x"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("wrong", [[1, 2], np.array([1.5]), [None], 7, {"a": b"b"}])
def test_input_that_is_not_a_string_raises_type_error(wrong):
    with pytest.raises(TypeError, match="serialized must be bytes or str"):
        mpqueue.parse_example(wrong, {"x": one()})


def test_matrix_of_strings_is_rejected():
    with pytest.raises(ValueError, match=r"shape \[1, 2\]"):
        mpqueue.parse_example([[b"", b""]], {"x": one(default_value=0)})


@pytest.mark.parametrize("count", [A_FEW, MANY])
def test_error_names_the_first_invalid_record(count):
    good, missing, wrong = example_of(x=int64_list(1)), example(), example_of(x=float_list(1))
    batch = [good] * (count - 2) + [wrong, missing]
    names = [f"file{number}" for number in range(count)]
    with pytest.raises(InvalidArgumentError) as caught:
        mpqueue.parse_example(batch, {"x": one()}, example_names=names)
    assert str(caught.value) == (f"record {count - 2} (file{count - 2}): feature 'x' is float32, expected int64")


@pytest.mark.parametrize("count", [A_FEW, MANY])
def test_missing_feature_before_invalid_record_is_named_first(count):
    good, missing, broken = example_of(x=int64_list(1)), example(), b"\xff"
    with pytest.raises(InvalidArgumentError, match=f"record {count - 2}: feature 'x' is missing"):
        mpqueue.parse_example([good] * (count - 2) + [missing, broken], {"x": one()})


def test_error_contains_name_of_single_record():
    """TensorFlow accepts the name and does not use it."""
    with pytest.raises(InvalidArgumentError, match=r"the record \(clip\): feature 'x' is missing"):
        mpqueue.parse_single_example(example(), {"x": one()}, example_names="clip")


@pytest.mark.parametrize("count", [A_FEW, MANY])
def test_more_floats_than_the_shape_raise_an_error(count):
    """In TensorFlow they are written beyond the end of its memory."""
    records = [example_of(x=float_list(1, 2, 3, packed=False))] * count
    with pytest.raises(
        InvalidArgumentError, match=r"record 0: feature 'x' must have 2 values for its shape \[2\], got 3"
    ):
        mpqueue.parse_example(records, {"x": mpqueue.FixedLenFeature([2], "float32")})


def test_errors_can_be_pickled():
    with pytest.raises(InvalidArgumentError) as caught:
        mpqueue.parse_single_example(b"\xff", {"x": one()})
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_signaling_nans_keep_their_bits():
    bits, features = b"\x01\x00\xa0\x7f", {"x": one("float32")}
    record = example_of(x=b"\x12\x06\x0a\x04" + bits)
    for count in (MANY, A_FEW):
        assert mpqueue.parse_example([record] * count, features)["x"].tobytes() == bits * count
    assert mpqueue.parse_single_example(record, features)["x"].tobytes() == bits


@pytest.mark.sample(7)
@pytest.mark.parametrize("count", [0, 1, 2, 30, 31, 32, 99, 100, 101, 127, 128, 300])
@pytest.mark.parametrize("packed", [True, False])
def test_any_number_of_values_is_read(count, packed):
    """Also at the limits of the encoding of lengths and of integers."""
    ints = ([5, 127, 128, -1, 1 << 40, 0, 1 << 62, -(1 << 63)] * count)[:count]
    texts = [b"x" * (number % 4 + 123 * (number % 3)) for number in range(count)]
    features = {"i": int64_list(*ints, packed=packed), "f": float_list(*range(count), packed=packed)}
    record = example_of(**features, s=bytes_list(*texts))
    kinds = {"i": "int64", "f": "float32", "s": "string"}
    for size in (1, MANY):
        found = mpqueue.parse_example(
            [record] * size, {key: mpqueue.VarLenFeature(dtype) for key, dtype in kinds.items()}
        )
        assert found["i"].values.tolist() == ints * size
        assert found["f"].values.tolist() == [*range(count)] * size
        assert found["s"].values.tolist() == texts * size


class TestFeaturesThatCannotBe:
    """Reported before any record is parsed."""

    @pytest.mark.sample(4)
    @pytest.mark.parametrize(
        ("feature", "error", "message"),
        [
            (mpqueue.FixedLenFeature(None, "int64"), ValueError, "no shape"),
            (mpqueue.FixedLenFeature([-1], "int64"), ValueError, "fully known"),
            (mpqueue.FixedLenFeature([2], "int64", [1]), ValueError, "must have 2 values"),
            (mpqueue.FixedLenFeature([], "int64", []), ValueError, "must have 1 values"),
            (mpqueue.FixedLenFeature([], "int64", 1.5), TypeError, "default of feature 'x' must be of dtype int64"),
            (mpqueue.FixedLenFeature([], "int64", 2**70), TypeError, "default of feature 'x' does not fit int64"),
            (mpqueue.FixedLenFeature([], "string", 1), TypeError, "the default of feature 'x'"),
            (mpqueue.FixedLenFeature([], None), ValueError, "no dtype"),
            (mpqueue.VarLenFeature("nonsense"), TypeError, "nonsense"),
            (mpqueue.VarLenFeature("bool"), TypeError, "bool"),
            (mpqueue.FixedLenSequenceFeature([0], "int64", True), ValueError, "items with at least one value"),
            (mpqueue.FixedLenSequenceFeature([], "int64", True, [1, 2]), ValueError, "must have 1 values"),
            (("int64", 1), ValueError, "must be a VarLenFeature"),
            (None, ValueError, "must be a VarLenFeature"),
        ],
    )
    def test_invalid_feature_is_rejected(self, feature, error, message):
        for parse in (mpqueue.parse_single_example, lambda record, features: mpqueue.parse_example([record], features)):
            with pytest.raises(error, match=message):
                parse(b"\xff", {"x": feature})

    @pytest.mark.parametrize("features", [{}, None, []])
    def test_empty_features_are_rejected(self, features):
        with pytest.raises(ValueError, match="features must not be empty"):
            mpqueue.parse_example([b""], features)

    @pytest.mark.parametrize(
        ("dtype", "default", "expected"),
        [
            ("int64", True, 1),
            ("int64", np.float64(1.5), 1),
            ("int64", np.array([1.5]), 1),
            ("int64", [[3]], 3),
            ("float32", 3, 3.0),
            ("float32", True, 1.0),
            ("string", "é", "é".encode()),
        ],
    )
    def test_defaults_are_converted_as_in_tensorflow(self, dtype, default, expected):
        assert mpqueue.parse_single_example(b"", {"x": one(dtype, default_value=default)}) == {"x": expected}
