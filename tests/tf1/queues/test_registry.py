"""Queues that share a name share everything."""

import gc

import pytest

from mpqueue import FIFOQueue, PaddingFIFOQueue, RandomShuffleQueue
from mpqueue.errors import CancelledError, DeadlineExceededError, InvalidArgumentError, OutOfRangeError
from mpqueue.tf1.queues import registry


@pytest.fixture(autouse=True)
def fresh():
    registry.own.reset()
    yield
    registry.own.reset()


def test_one_shared_name_is_one_queue_with_a_name_for_each_face():
    one = FIFOQueue(5, "int32", [[]], shared_name="jobs", name="a")
    other = FIFOQueue(5, "int32", [[]], shared_name="jobs", name="b")
    one.enqueue(1)
    assert other.dequeue() == 1
    assert one.queue_ref is other.queue_ref
    assert (one.name, other.name) == ("a", "b")


def test_it_lives_on_while_nobody_holds_it():
    FIFOQueue(5, "int32", [[]], shared_name="jobs").enqueue(1)
    gc.collect()
    assert FIFOQueue(5, "int32", [[]], shared_name="jobs").dequeue() == 1


def test_after_a_reset_the_name_is_free_and_the_old_queue_works_on():
    old = FIFOQueue(5, "int32", [[]], shared_name="jobs")
    registry.own.reset()
    new = FIFOQueue(7, "int64", [[]], shared_name="jobs")
    old.enqueue(1)
    assert (old.size(), new.size()) == (1, 0)


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_shared_name_every_queue_is_its_own(name):
    one, other = FIFOQueue(5, "int32", shared_name=name), FIFOQueue(5, "int32", shared_name=name)
    assert one.queue_ref is not other.queue_ref


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("class_name", lambda: PaddingFIFOQueue(5, "int32", [[]], shared_name="jobs")),
        ("dtypes", lambda: FIFOQueue(5, "int64", [[]], shared_name="jobs")),
        ("shapes", lambda: FIFOQueue(5, "int32", [[2]], shared_name="jobs")),
        ("shapes", lambda: FIFOQueue(5, "int32", shared_name="jobs")),
        ("capacity", lambda: FIFOQueue(6, "int32", [[]], shared_name="jobs")),
    ],
)
def test_another_queue_under_the_same_name_is_refused_by_what_differs(field, make):
    FIFOQueue(5, "int32", [[]], shared_name="jobs")
    with pytest.raises(InvalidArgumentError, match=f"Shared queue 'jobs' exists with {field}"):
        make()


@pytest.mark.parametrize(("field", "minimum", "seed"), [("min_after_dequeue", 2, 3), ("seed", 1, 4)])
def test_shuffle_queues_must_agree_in_minimum_and_seed(field, minimum, seed):
    RandomShuffleQueue(5, 1, "int32", seed=3, shared_name="jobs")
    with pytest.raises(InvalidArgumentError, match=field):
        RandomShuffleQueue(5, minimum, "int32", seed=seed, shared_name="jobs")


def test_errors_call_a_shared_queue_by_its_shared_name():
    """The name is that of the object in this program, and the default for most: it tells nobody which queue it is."""
    queue, other = (FIFOQueue(1, ["int32"], [[]], shared_name="jobs") for _ in range(2))
    other.enqueue(1)
    with pytest.raises(DeadlineExceededError, match="queue 'jobs' did not finish"):
        queue.enqueue(2, timeout=0)
    queue.close()
    with pytest.raises(CancelledError, match="Queue 'jobs' is closed"):
        other.enqueue(2)
    with pytest.raises(OutOfRangeError, match=r"Queue 'jobs' is closed and has insufficient elements .*current size 1"):
        other.dequeue_many(2)
    assert (queue.name, "'jobs'" in repr(queue)) == ("fifo_queue", True)
