"""Placeholders, and values that can be fed to them."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers.concurrent_calls import in_threads

import mpqueue
from mpqueue import errors
from mpqueue.values.sparse import SparseTensorValue

INDICES, VALUES, SHAPE = [[3, 2, 0], [4, 5, 1]], [1.0, 2.0], [7, 9, 2]


class Pair(NamedTuple):
    """A named tuple."""

    a: Any
    b: Any


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", 1 + 2j, 1.0),
        ("float16", 1e10, float("inf")),
        ("int32", "1", 1),
        ("uint8", [300], [44]),
        ("complex64", 1, 1),
        ("float32", [], []),
        ("string", b"a\0\xff", b"a\0\xff"),
        ("string", np.array(["é", "b"]), ["é".encode(), b"b"]),
        ("string", np.array([b"a", b"b"]), [b"a", b"b"]),
    ],
)
def test_fed_values_are_cast_as_in_tensorflow(dtype, value, expected):
    array = mpqueue.placeholder(dtype).check(value)
    assert array.dtype == (object if dtype == "string" else np.dtype(dtype))
    np.testing.assert_array_equal(array, np.array(expected, array.dtype))


@pytest.mark.parametrize(
    ("dtype", "value", "error"),
    [
        ("string", ["a", 1], TypeError),
        ("string", [["a"], ["b", "c"]], ValueError),
        ("string", None, ValueError),
        ("int32", None, TypeError),
        ("int32", 2**70, TypeError),
        ("uint8", -1, TypeError),
        ("bool", 2, TypeError),
        ("float32", object(), TypeError),
    ],
)
def test_values_that_cannot_be_cast_raise(dtype, value, error):
    with pytest.raises(error):
        mpqueue.placeholder(dtype).check(value)


def test_placeholder_attributes():
    x = mpqueue.placeholder(np.float32, [None, 3], "x")
    assert (x.dtype, x.shape, x.name) == (np.dtype("float32"), (None, 3), "x")
    assert x.dtypes == [np.dtype("float32")] and x.shapes == [(None, 3)] and x.is_bare
    assert mpqueue.placeholder("string").shape is None


@pytest.mark.parametrize(
    ("args", "error"),
    [(("nope",), TypeError), ((None,), TypeError), (("int32", [-1]), ValueError), (("int32", "a"), TypeError)],
)
@pytest.mark.parametrize("make", [mpqueue.placeholder, mpqueue.sparse_placeholder])
def test_invalid_dtype_or_shape_raises(make, args, error):
    with pytest.raises(error):
        make(*args)


def test_all_functions_called_in_a_run_get_the_fed_value():
    x = mpqueue.placeholder("float32", [None])
    queue = mpqueue.FIFOQueue(10, ["float32"], [()])
    total = x.map(np.sum)
    got = mpqueue.run([queue.enqueue_many_op(x), total, {"twice": lambda: x() * 2}], {x: [1, 2, 3]})
    assert got[0] is None and got[1] == 6 and got[2]["twice"].tolist() == [2, 4, 6]
    assert queue.dequeue_many(3).tolist() == [1, 2, 3]


def test_fetches_keep_their_structure_and_are_called_once():
    calls = []
    one = mpqueue.Source(lambda: calls.append(1) or len(calls))
    assert mpqueue.run({"x": [one, (one, [])], "y": Pair(one, ())}) == {"x": [1, (1, [])], "y": Pair(1, ())}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([int, 3],), "must be callable, got 3"),
        ((int, {"x": 1}), "keys of feed_dict must be placeholders"),
        ((mpqueue.train.placeholder("int32"), [1]), "feed_dict must be a dict"),
    ],
)
def test_wrong_argument_of_a_run_raises(arguments, words):
    with pytest.raises(TypeError, match=words):
        mpqueue.train.run(*arguments)


def test_nested_runs_add_feeds_and_other_threads_have_none():
    x, y = mpqueue.placeholder("int32"), mpqueue.placeholder("int32")
    assert mpqueue.run(lambda: mpqueue.run([x, y], {y: 2}), {x: 1}) == [1, 2]
    with pytest.raises(errors.InvalidArgumentError):
        mpqueue.run(lambda: in_threads(x), {x: 1})


def test_default_source_is_called_only_if_no_value_is_fed():
    queue = mpqueue.FIFOQueue(3, ["int32"], [()])
    queue.enqueue_many([[1, 2]])
    x = mpqueue.placeholder_with_default(mpqueue.Source(queue.dequeue, "int32", [()]), [])
    assert mpqueue.run(x, {x: 7}) == 7 and queue.size() == 2
    assert mpqueue.run(x) == 1 and queue.size() == 1
    with pytest.raises(ValueError, match="known dtype"):
        mpqueue.placeholder_with_default(mpqueue.Source(queue.dequeue), [])


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ([7, 9, 2], (INDICES, VALUES, [1, 1, 1])),
        ([None, 9, 2], (INDICES, [1.0, 2.0, 3.0], SHAPE)),
        (None, (np.array(INDICES, np.float32), VALUES, SHAPE)),
    ],
)
def test_parts_of_a_sparse_value_are_not_checked_against_each_other(shape, value):
    x = mpqueue.sparse_placeholder("float32", shape)
    got = mpqueue.run(x, {x: value})
    assert isinstance(got, SparseTensorValue)
    assert [part.dtype.name for part in got] == ["int64", "float32", "int64"]
    assert [part.tolist() for part in got] == [np.asarray(part).tolist() for part in value]


@pytest.mark.parametrize(
    ("shape", "value", "error"),
    [
        (None, (INDICES[0], VALUES, SHAPE), ValueError),
        ([7, 9, 2], ([[3, 2]], [1.0], [7, 9]), ValueError),
        ([7, 9, 2], (INDICES, VALUES, [1, 1]), ValueError),
        (None, (INDICES, VALUES), TypeError),
        (None, 3, TypeError),
        (None, (INDICES, ["a", "b"], SHAPE), ValueError),
    ],
)
def test_sparse_value_of_another_rank_raises(shape, value, error):
    x = mpqueue.sparse_placeholder("float32", shape, "s")
    with pytest.raises(error):
        mpqueue.run(x, {x: value})
