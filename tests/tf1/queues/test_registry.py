"""Queues with the same shared name share their elements."""

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


def test_shared_queue_exists_without_references():
    FIFOQueue(5, "int32", [[]], shared_name="jobs").enqueue(1)
    gc.collect()
    assert FIFOQueue(5, "int32", [[]], shared_name="jobs").dequeue() == 1


def test_reset_frees_name_and_old_queue_remains_usable():
    old = FIFOQueue(5, "int32", [[]], shared_name="jobs")
    registry.own.reset()
    new = FIFOQueue(7, "int64", [[]], shared_name="jobs")
    old.enqueue(1)
    assert (old.size(), new.size()) == (1, 0)


@pytest.mark.parametrize("name", [None, ""])
def test_queues_without_shared_name_are_separate(name):
    one, other = FIFOQueue(5, "int32", shared_name=name), FIFOQueue(5, "int32", shared_name=name)
    assert one.queue_ref is not other.queue_ref


@pytest.mark.parametrize(
    ("field", "make", "args"),
    [
        ("class_name", PaddingFIFOQueue, (5, "int32", [[]])),
        ("dtypes", FIFOQueue, (5, "int64", [[]])),
        ("shapes", FIFOQueue, (5, "int32", [[2]])),
        ("shapes", FIFOQueue, (5, "int32")),
        ("capacity", FIFOQueue, (6, "int32", [[]])),
        ("min_after_dequeue", RandomShuffleQueue, (5, 2, "int32", [[]], None, 3)),
        ("seed", RandomShuffleQueue, (5, 1, "int32", [[]], None, 4)),
    ],
)
def test_conflicting_shared_queue_is_rejected_with_the_differing_field(field, make, args):
    if make is RandomShuffleQueue:
        RandomShuffleQueue(5, 1, "int32", [[]], seed=3, shared_name="jobs")
    else:
        FIFOQueue(5, "int32", [[]], shared_name="jobs")
    with pytest.raises(InvalidArgumentError, match=f"Shared queue 'jobs' exists with {field}"):
        make(*args, shared_name="jobs")


def test_errors_of_shared_queue_contain_its_shared_name():
    """The object's name differs between programs and is mostly the default, so it does not identify the queue."""
    queue, other = (FIFOQueue(1, ["int32"], [[]], shared_name="jobs") for _ in range(2))
    other.enqueue(1)
    with pytest.raises(DeadlineExceededError, match="Queue 'jobs' did not finish"):
        queue.enqueue(2, timeout=0)
    queue.close()
    with pytest.raises(CancelledError, match="Queue 'jobs' is closed"):
        other.enqueue(2)
    with pytest.raises(OutOfRangeError, match=r"Queue 'jobs' is closed and has insufficient elements .*current size 1"):
        other.dequeue_many(2)
    assert (queue.name, "'jobs'" in repr(queue)) == ("fifo_queue", True)
