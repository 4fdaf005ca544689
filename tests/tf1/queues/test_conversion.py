"""Conversion of values by TensorFlow's rules, as observed in TensorFlow 2.21."""

import warnings
from fractions import Fraction

import numpy as np
import pytest

from mpqueue import FIFOQueue
from mpqueue.tf1.values.conversion import infer_array
from mpqueue.values.dtypes import as_dtype


class Tensor:
    """An array of a different library."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array if dtype is None else self._array.astype(dtype)


def through(dtype, value):
    queue = FIFOQueue(1, dtype)
    queue.enqueue(value)
    return queue.dequeue()


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", Fraction(1, 2), np.float32(0.5)),
        ("float16", 70000.0, np.float16(np.inf)),
        ("uint64", 2**63, np.uint64(2**63)),
        ("int32", range(3), [0, 1, 2]),
        ("float32", [[[1, 2.5], [3, 4]]], [[1, 2.5], [3, 4]]),
        ("float32", [[]], []),
        ("float32", [[np.array([1, 2]), [3.5, 4]]], [[1, 2], [3.5, 4]]),
        ("int32", [np.array([1, 2])], [1, 2]),
        ("int32", [np.array([-1.9])], [-1]),
        ("int32", [np.array([2**40 + 5])], [5]),
        ("float32", [np.array(True)], 1.0),
        ("float64", [np.array([1.5], np.float16)], [1.5]),
        ("float32", [np.array([1.5], object)], [1.5]),
        ("int32", [Tensor(np.array([1, 2], np.int64))], [1, 2]),
        ("int32", [memoryview(np.array([1, 2], np.int64))], [1, 2]),
        ("int32", [np.array([1, 2], ">i4")], [1, 2]),
    ],
)
def test_number_of_matching_kind_and_any_array_become_the_dtype(dtype, value, expected):
    got = through(dtype, value)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected)


def test_numbers_beyond_integer_range_are_cast_without_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert through("int32", np.array([np.nan, 1e20, 1])).shape == (3,)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hé", b"h\xc3\xa9"),
        (b"a\x00", b"a\x00"),
        (np.str_("x"), b"x"),
        (np.bytes_(b"x"), b"x"),
        (np.array("x"), b"x"),
        (b"", b""),
        ([["a", b"b\x00"]], [b"a", b"b\x00"]),
        ([np.array(["a", "b\x00"], object)], [b"a", b"b\x00"]),
        ([Tensor(np.array([b"a", b"b\x00"], object))], [b"a", b"b\x00"]),
        ([[np.array(["a", "b"]), np.array([b"c", b"d"], object)]], [[b"a", b"b"], [b"c", b"d"]]),
    ],
)
def test_strings_are_bytes_in_utf_8(value, expected):
    got = through("string", value)
    assert type(got) is bytes if type(expected) is bytes else got.dtype == object
    assert np.array(got, object).tolist() == expected


WRONG_KIND = (TypeError, "component 0 must be of dtype")


@pytest.mark.parametrize(
    ("dtype", "value", "error", "message"),
    [
        *(("int32", value, *WRONG_KIND) for value in (2.0, "5", Fraction(1, 2), object())),
        *(("int32", [value], *WRONG_KIND) for value in ([1, 2.0], [1, "a"], [None], [np.array([1.5])])),
        ("bool", [[True, 0]], *WRONG_KIND),
        *(("string", value, *WRONG_KIND) for value in ([["a", 1]], [["a", None]], bytearray(b"x"), np.array([1.5]))),
        ("int32", [[[1, 2], [3]]], ValueError, "component 0"),
        ("string", [[["a"], ["b", "c"]]], ValueError, "component 0"),
        ("int32", None, ValueError, "component 0 is None"),
        ("int32", [None], ValueError, "component 0 is None"),
        ("int32", np.array(["a"]), ValueError, "component 0 cannot become int32"),
        ("float32", np.array([object()], object), TypeError, "component 0 cannot become float32"),
        ("int64", 2**70, OverflowError, "component 0 does not fit"),
        ("int32", -(2**70), OverflowError, "component 0 does not fit"),
        ("float32", 10**400, OverflowError, "component 0 does not fit"),
    ],
)
def test_value_that_cannot_become_the_dtype_raises(dtype, value, error, message):
    with pytest.raises(error, match=message):
        through(dtype, value)


@pytest.mark.parametrize(
    ("value", "dtype"), [(2**31 - 1, "int32"), (2**31, "int64"), (-(2**31), "int32"), (-(2**31) - 1, "int64")]
)
def test_integer_without_dtype_is_int32_if_it_fits(value, dtype):
    assert infer_array(value, "x").dtype == dtype


def test_strings_without_dtype_become_bytes():
    """NumPy would decode bytes that are in a list with strings."""
    assert infer_array(["a", b"\xff"], "x").tolist() == [b"a", b"\xff"]


def test_literals_keep_numpy_width_on_request():
    assert infer_array([1, 2], "x", narrow=False).dtype == np.int64
    assert infer_array(1.5, "x", narrow=False).dtype == np.float64


def test_errors_contain_name_of_component():
    queue = FIFOQueue(1, ["int32"], [[]], names=["id"])
    with pytest.raises(TypeError, match="component 'id'"):
        queue.enqueue({"id": 1.5})


def test_ml_dtypes_bfloat16_is_numeric():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    queue = FIFOQueue(2, ml_dtypes.bfloat16, [[]])
    queue.enqueue_many(np.array([1.5, 2], ml_dtypes.bfloat16))
    got = queue.dequeue_many(2)
    assert got.dtype == ml_dtypes.bfloat16
    assert got.tolist() == [1.5, 2]


class DType:
    """A dtype of a different library."""

    def __init__(self, as_numpy_dtype):
        self.as_numpy_dtype = as_numpy_dtype


STRINGS = ["string", bytes, str, object, np.bytes_, np.str_, "S", "U5", np.dtype(object), DType(np.object_)]
NAMES = {
    "string": STRINGS,
    "int32": ["int32", np.int32, np.dtype("int32"), "i4", ">i4", "<i4"],
    "float32": [DType(np.float32)],
    "float64": [float],
}


@pytest.mark.parametrize(("dtype", "name"), [(dtype, name) for dtype, names in NAMES.items() for name in names])
def test_all_names_of_a_dtype(dtype, name):
    assert as_dtype(name) == dtype


@pytest.mark.parametrize(
    "dtype", ["int31", "(2,", None, 5, "datetime64[s]", np.dtype([("a", "i4")]), np.void, [1], "V8"]
)
def test_unknown_dtype_raises_type_error_with_its_name(dtype):
    with pytest.raises(TypeError, match=r"dtype|queued"):
        FIFOQueue(1, [dtype])
