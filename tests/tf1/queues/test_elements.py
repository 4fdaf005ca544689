"""Elements in and out: ownership, form, and memory use."""

import numpy as np
import pytest
from tf1.helpers.traced_memory import less_than, traced

from mpqueue import FIFOQueue, QueueBase, RandomShuffleQueue
from mpqueue.errors import InvalidArgumentError

MIDDLE = 600  # float64 numbers: packed, but each row of a block separately
LARGE = 9000  # above the size limit of packed elements


def queue_of(shape, dtype="float64", capacity=10):
    return FIFOQueue(capacity, dtype, None if shape is None else [shape])


@pytest.mark.parametrize("shape", [[3], [MIDDLE], [LARGE], None])
def test_enqueued_array_may_be_modified_afterwards(shape):
    queue, array = queue_of(shape), np.ones(shape or [3])
    queue.enqueue(array)
    queue.enqueue_many(array[np.newaxis])
    array[:] = 0
    assert queue.dequeue().all()
    assert queue.dequeue().all()


@pytest.mark.parametrize("shape", [[3], [MIDDLE], [LARGE], None])
@pytest.mark.parametrize("method", ["enqueue", "enqueue_many"])
def test_dequeued_array_is_writable_contiguous_and_not_shared(shape, method):
    queue, array = queue_of(shape), np.ones(shape or [3])
    for _ in range(2):
        getattr(queue, method)(array if method == "enqueue" else array[np.newaxis])
    first, second = queue.dequeue(), queue.dequeue()
    first[:] = 0
    assert second.all()
    assert first.flags.writeable
    assert first.flags.c_contiguous


@pytest.mark.parametrize("shape", [[3], [MIDDLE], [LARGE]])
def test_batch_is_writable_and_owns_its_memory(shape):
    queue = queue_of(shape)
    queue.enqueue_many(np.ones([4, *shape]))
    first, second = queue.dequeue_many(2), queue.dequeue_many(2)
    first[:] = 0
    assert second.all()


@pytest.mark.parametrize("shape", [[LARGE], None])
def test_row_of_large_block_does_not_retain_the_block(shape):
    queue = queue_of(shape)
    queue.enqueue_many(np.ones([4, LARGE]))
    row = queue.dequeue()
    assert row.base is None


def test_transposed_and_strided_arrays_round_trip():
    queue = queue_of([2, 3])
    array = np.arange(6.0).reshape(3, 2).T
    queue.enqueue(array)
    queue.enqueue_many(np.stack([array, array])[::-1])
    np.testing.assert_array_equal(queue.dequeue_many(3), [array] * 3)


def test_empty_elements_round_trip():
    queue = queue_of([0, 2])
    queue.enqueue(np.zeros([0, 2]))
    queue.enqueue_many(np.zeros([3, 0, 2]))
    assert queue.dequeue().shape == (0, 2)
    assert queue.dequeue_many(3).shape == (3, 0, 2)


def test_single_named_component_is_dequeued_as_dict():
    queue = FIFOQueue(9, "int32", [[]], names="id")
    queue.enqueue({"id": 3})
    assert queue.dequeue() == {"id": 3}


@pytest.mark.parametrize("make", [FIFOQueue, lambda *args: RandomShuffleQueue(args[0], 0, *args[1:])])
def test_small_elements_use_little_more_memory_than_their_bytes(make):
    block, rows = np.zeros([1000, 16], np.float32), np.zeros([5_000, 16], np.float32)
    with traced() as memory:
        queue = make(10_000, "float32", [[16]])
        empty, _ = memory()
        for _ in range(5):
            queue.enqueue_many(block)
        for row in rows:
            queue.enqueue(row)
        full, _ = memory()
    assert empty < 100_000
    assert full < 10_000 * (64 + 48)


def test_waiting_rows_are_not_split_in_advance():
    queue = FIFOQueue(1, "int32", [[]])
    queue.enqueue(0)
    block = np.zeros(1_000_000, np.int32)
    with less_than(1.1 * 4_000_000), pytest.raises(TimeoutError):
        queue.enqueue_many(block, timeout=0)


def test_queue_ref_with_other_dtypes_is_rejected():
    queue = FIFOQueue(1, ["int32"], [[]])
    with pytest.raises(InvalidArgumentError, match="Expected the dtypes"):
        QueueBase(["int64"], [[]], None, queue.queue_ref)


def test_second_queue_object_shares_elements():
    queue = FIFOQueue(2, ["int32"], [[]])
    second = QueueBase(["int32"], [[]], ["id"], queue.queue_ref)
    second.enqueue({"id": 3})
    assert queue.dequeue() == 3
    assert second.name == "fifo_queue"
