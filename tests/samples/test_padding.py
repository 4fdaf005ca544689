"""Collation of arrays with different lengths, padded to the longest one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpqueue.samples.padding import PaddedCollation


def pad(*samples):
    collation = PaddedCollation(len(samples), np.empty)
    collation.add_all(samples)
    return collation.finish(range(len(samples)))


@given(st.lists(st.lists(st.integers(-9, 9), max_size=6), min_size=1, max_size=6))
def test_rows_are_padded_with_zeros(samples):
    batch = pad(*[np.array(sample, np.int16) for sample in samples])
    longest = max(map(len, samples))
    assert batch.dtype == np.int16
    assert batch.tolist() == [sample + [0] * (longest - len(sample)) for sample in samples]
    assert np.array_equal(pad(*samples), batch)


def test_each_axis_is_padded():
    batch = pad(np.ones((1, 3)), np.ones((2, 1)))
    assert batch.tolist() == [[[1, 1, 1], [0, 0, 0]], [[1, 0, 0], [1, 0, 0]]]


def test_fields_of_any_structure_are_padded_separately():
    batch = pad(({"a": [1], "b": np.zeros(2)}, 5, "x"), ({"a": [2, 3], "b": np.ones(2)}, 6, "y"))
    assert batch[0]["a"].tolist() == [[1, 0], [2, 3]]
    assert batch[0]["b"].tolist() == [[0, 0], [1, 1]]
    assert batch[1].tolist() == [5, 6]
    assert batch[2] == ["x", "y"]


@pytest.mark.parametrize(
    ("arrays", "dtype"),
    [
        ([np.zeros(1, np.int8), np.zeros(2, np.int32)], np.int32),
        ([np.zeros(1, np.float32), np.zeros(2, np.int8)], np.float32),
        ([[1, 2], []], np.int64),
        ([[], [1.5]], np.float64),
        ([[True], [False, True]], np.bool_),
    ],
)
def test_dtype_is_common_dtype_of_nonempty_arrays(arrays, dtype):
    assert pad(*arrays).dtype == dtype


def test_strings_are_padded_with_empty_strings():
    assert pad(np.array(["a"]), np.array(["bc", "d"])).tolist() == [["a", ""], ["bc", "d"]]
    assert pad(np.array([b"a"]), np.array([b"bc", b"d"])).tolist() == [[b"a", b""], [b"bc", b"d"]]


def test_torch_tensors_are_padded():
    torch = pytest.importorskip("torch")
    assert pad(torch.tensor([1]), torch.tensor([2, 3])).tolist() == [[1, 0], [2, 3]]


def test_lists_of_arrays_are_containers():
    batch = pad([np.zeros(1), np.zeros(2)], [np.ones(2), np.ones(2)])
    assert [array.tolist() for array in batch] == [[[0, 0], [1, 1]], [[0, 0], [1, 1]]]


def test_different_numbers_of_axes_raise_and_name_both():
    with pytest.raises(ValueError, match=r"sample\['a'\] of index 0 has 1 axes, but index 1 has 2 axes"):
        pad({"a": np.zeros(2)}, {"a": np.zeros((2, 2))})


def test_arrays_without_a_common_dtype_raise_and_name_both():
    with pytest.raises(ValueError, match=r"index 0 has dtype int64, but index 2 has dtype datetime64\[D\]"):
        pad(np.ones(1, int), np.ones(0, "m8[D]"), np.ones(2, "M8[D]"))
