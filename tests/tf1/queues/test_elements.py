"""Elements in and out: who owns them, what form they have, what they weigh."""

import tracemalloc
import weakref

import numpy as np
import pytest

from mpqueue import FIFOQueue, PaddingFIFOQueue, QueueBase, RandomShuffleQueue
from mpqueue.errors import InvalidArgumentError

MIDDLE = 600  # float64 numbers: packed, but each row of a block by itself
LARGE = 9000  # above the limit below which elements are packed


def queue_of(shape, dtype="float64", capacity=10):
    return FIFOQueue(capacity, dtype, None if shape is None else [shape])


@pytest.mark.parametrize("shape", [[3], [MIDDLE], [LARGE], None])
def test_what_was_enqueued_may_be_changed_afterwards(shape):
    queue, array = queue_of(shape), np.ones(shape or [3])
    queue.enqueue(array)
    queue.enqueue_many(array[np.newaxis])
    array[:] = 0
    assert queue.dequeue().all()
    assert queue.dequeue().all()


@pytest.mark.parametrize("shape", [[3], [MIDDLE], [LARGE], None])
@pytest.mark.parametrize("method", ["enqueue", "enqueue_many"])
def test_a_dequeued_array_is_writable_contiguous_and_seen_by_nobody_else(shape, method):
    queue, array = queue_of(shape), np.ones(shape or [3])
    for _ in range(2):
        getattr(queue, method)(array if method == "enqueue" else array[np.newaxis])
    first, second = queue.dequeue(), queue.dequeue()
    first[:] = 0
    assert second.all()
    assert first.flags.writeable
    assert first.flags.c_contiguous


@pytest.mark.parametrize("shape", [[3], [MIDDLE], [LARGE]])
def test_a_batch_is_writable_and_its_own(shape):
    queue = queue_of(shape)
    queue.enqueue_many(np.ones([4, *shape]))
    first, second = queue.dequeue_many(2), queue.dequeue_many(2)
    first[:] = 0
    assert second.all()


def test_a_row_of_a_large_block_does_not_keep_the_block_alive():
    queue = queue_of([LARGE])
    queue.enqueue_many(np.ones([4, LARGE]))
    row = queue.dequeue()
    assert row.base is None


def test_transposed_and_strided_arrays_come_out_right():
    queue = queue_of([2, 3])
    array = np.arange(6.0).reshape(3, 2).T
    queue.enqueue(array)
    queue.enqueue_many(np.stack([array, array])[::-1])
    np.testing.assert_array_equal(queue.dequeue_many(3), [array] * 3)


def test_scalars_come_out_as_numpy_scalars():
    for queue in (queue_of([]), queue_of(None)):
        queue.enqueue(1.5)
        queue.enqueue_many([[2.5]])
        assert [type(queue.dequeue()), type(queue.dequeue())] == [np.float64, np.float64]


def test_elements_without_anything_in_them_work():
    queue = queue_of([0, 2])
    queue.enqueue(np.zeros([0, 2]))
    queue.enqueue_many(np.zeros([3, 0, 2]))
    assert queue.dequeue().shape == (0, 2)
    assert queue.dequeue_many(3).shape == (3, 0, 2)


def test_text_of_fixed_shape_is_batched():
    queue = FIFOQueue(9, "string", [[2]])
    queue.enqueue([["a", "b"]])
    queue.enqueue_many([[["c", "d"], ["e", "f"]]])
    assert queue.dequeue_many(3).tolist() == [[b"a", b"b"], [b"c", b"d"], [b"e", b"f"]]


def test_padding_fills_booleans_with_false_and_text_with_nothing():
    queue = PaddingFIFOQueue(9, ["bool", "string"], [[None], [None, 2]])
    queue.enqueue([[True], [["a", "b"]]])
    queue.enqueue([[True, True], np.empty([0, 2], object)])
    flags, text = queue.dequeue_many(2)
    assert flags.tolist() == [[True, False], [True, True]]
    assert text.tolist() == [[[b"a", b"b"]], [[b"", b""]]]


def test_one_component_with_a_name_comes_out_as_a_dictionary():
    queue = FIFOQueue(9, "int32", [[]], names="id")
    queue.enqueue({"id": 3})
    assert queue.dequeue() == {"id": 3}


def test_several_components_come_out_as_a_list_that_can_be_changed():
    queue = FIFOQueue(9, ["int32", "string"])
    queue.enqueue((3, "x"))
    assert queue.dequeue() == [3, b"x"]


@pytest.mark.parametrize("make", [FIFOQueue, lambda *args: RandomShuffleQueue(args[0], 0, *args[1:])])
def test_fifty_thousand_small_elements_weigh_little_more_than_their_bytes(make):
    block, rows = np.zeros([1000, 16], np.float32), np.zeros([25_000, 16], np.float32)
    tracemalloc.start()
    try:
        queue = make(50_000, "float32", [[16]])
        empty, _ = tracemalloc.get_traced_memory()
        for _ in range(25):
            queue.enqueue_many(block)
        for row in rows:
            queue.enqueue(row)
        full, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert empty < 100_000
    assert full < 50_000 * (64 + 48)


def test_a_block_that_waits_for_room_is_not_taken_apart_before():
    queue = FIFOQueue(1, "int32", [[]])
    queue.enqueue(0)
    block = np.zeros(1_000_000, np.int32)
    tracemalloc.start()
    try:
        with pytest.raises(TimeoutError):
            queue.enqueue_many(block, timeout=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * 4_000_000


def test_a_dropped_queue_is_freed_with_its_elements():
    queue = queue_of(None)
    queue.enqueue(np.ones(LARGE))
    gone = weakref.ref(queue.queue_ref)
    del queue
    assert gone() is None


def test_a_queue_ref_with_other_dtypes_is_refused():
    queue = FIFOQueue(1, ["int32"], [[]])
    with pytest.raises(InvalidArgumentError, match="Expected the dtypes"):
        QueueBase(["int64"], [[]], None, queue.queue_ref)


def test_a_second_face_of_a_queue_shares_its_elements():
    queue = FIFOQueue(2, ["int32"], [[]])
    face = QueueBase(["int32"], [[]], ["id"], queue.queue_ref)
    face.enqueue({"id": 3})
    assert queue.dequeue() == 3
    assert face.name == "fifo_queue"
