"""Sources: one example per call, with static dtypes and shapes."""

import threading

import cloudpickle
import numpy as np
import pytest
from golden.outcomes import DEADLOCK_S, Background

from mpqueue import FIFOQueue, Source
from mpqueue.errors import OutOfRangeError


class Counter:
    """A resumable callable: 0, 1, 2, ..."""

    def __init__(self):
        self.next = 0

    def __call__(self):
        self.next += 1
        return self.next - 1

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


def test_stop_iteration_becomes_out_of_range_at_every_further_call():
    source = Source(iter([]).__next__)
    for _ in range(2):
        with pytest.raises(OutOfRangeError) as caught:
            source()
        assert isinstance(caught.value.__cause__, StopIteration)


def test_a_single_dtype_and_shape_stand_for_one_component():
    source = Source(int, np.float32, (2, None))
    assert source.dtypes == [np.dtype("float32")]
    assert source.shapes == [(2, None)]


@pytest.mark.parametrize("shapes", [None, [None], [(3,)], [(None, 2)]])
def test_dtypes_and_shapes_of_a_source_can_be_passed_to_another(shapes):
    one = Source(int, ["int32"], shapes)
    other = Source(int, one.dtypes, one.shapes, one.names)
    assert (other.dtypes, other.shapes, other.names) == (one.dtypes, one.shapes, one.names)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (([1, 2],), TypeError),
        ((int, "no such dtype"), TypeError),
        ((int, ["int32"], [(1,), (2,)]), ValueError),
        ((int, ["int32"], None, ["a", "b"]), ValueError),
        ((int, None, [(1,)]), ValueError),
        ((int, ["int32"], [("x",)]), TypeError),
    ],
)
def test_invalid_arguments_raise_immediately(args, error):
    with pytest.raises(error):
        Source(*args)


def test_map_applies_a_function_to_each_whole_example():
    pairs = Source(iter([[1, 2], [3, 4]]).__next__)
    sums = pairs.map(sum, dtypes=np.int64, shapes=())
    assert [sums(), sums()] == [3, 7]
    assert sums.dtypes == [np.dtype("int64")]
    with pytest.raises(OutOfRangeError):
        sums()


def resumed(source):
    again = Source(Counter()).map(lambda value: value * 10)
    again.load_state_dict(source.state_dict())
    return again


def pickled(source):
    return cloudpickle.loads(cloudpickle.dumps(source))


@pytest.mark.parametrize("copied", [resumed, pickled])
def test_a_copy_of_a_source_with_a_stateful_function_continues_also_through_map(copied):
    source = Source(Counter()).map(lambda value: value * 10)
    assert source.is_resumable
    assert [source(), source()] == [0, 10]
    copy = copied(source)
    assert copy() == 20
    assert (copy.state_dict(), source.state_dict()) == ({"next": 3}, {"next": 2})


def test_a_plain_function_makes_a_source_that_is_not_resumable():
    source = Source(int)
    assert not source.is_resumable
    with pytest.raises(TypeError, match="state_dict"):
        source.state_dict()
    with pytest.raises(TypeError, match="load_state_dict"):
        source.load_state_dict({})


def test_threads_can_share_the_source_of_a_generator():
    """Two threads cannot enter a generator at once: the calls wait for each other."""
    inside, go_on = threading.Event(), threading.Event()

    def examples():
        inside.set()
        assert go_on.wait(DEADLOCK_S)
        yield 1
        yield 2

    source = Source(examples().__next__)
    first = Background(source)
    assert inside.wait(DEADLOCK_S)
    second = Background(source)
    go_on.set()
    assert [first.finish(), second.finish()] == [1, 2]


def test_dicts_of_a_source_are_enqueued_by_name():
    queue = FIFOQueue(10, ["int32", "string"], [(), ()], names=["a", "b"])
    queue.enqueue_op(Source(lambda: {"b": "x", "a": 1}, ["string", "int32"], [(), ()], names=["b", "a"]))()
    assert queue.dequeue() == {"a": 1, "b": b"x"}


@pytest.mark.parametrize("names", [None, ["a"], ["b", "c"]])
def test_names_of_a_source_must_match_the_queue(names):
    queue = FIFOQueue(10, ["int32"] * len(names or "ab"), names=names)
    with pytest.raises(ValueError, match="names"):
        queue.enqueue_op(Source(dict, names=["a", "b"]))


@pytest.mark.parametrize(("dtypes", "shapes"), [("float32", (2,)), ("int32", (3,)), ("int32", (2, 2))])
def test_dtypes_and_shapes_are_checked_when_the_op_is_created(dtypes, shapes):
    queue = FIFOQueue(10, np.int32, (2,))
    with pytest.raises(ValueError):
        queue.enqueue_op(Source(int, dtypes, shapes))
    queue.enqueue_many_op(Source(int, np.int32, (None, 2)))  # has one more dimension
    with pytest.raises(ValueError):
        queue.enqueue_many_op(Source(int, dtypes, (2, *shapes)))
