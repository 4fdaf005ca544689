"""Room reserved for elements that are being produced."""

import multiprocessing

import numpy as np
import pytest

import mpqueue
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.queues.storage import PlainStorage


def test_reserved_rooms_do_not_overlap():
    core = mpqueue.FIFOQueue(10, ["int32"], [()]).queue_ref
    core.enqueue_many([np.arange(3, dtype=np.int32)], None)
    assert [core.set_aside(4), core.set_aside(4), core.set_aside(4)] == [4, 3, 0]
    core.release(4)
    assert core.set_aside(100) == 4


@pytest.mark.parametrize("capacity", [-1, 5])
def test_unbounded_queue_has_room_and_closed_queue_has_none(capacity):
    core = mpqueue.FIFOQueue(capacity, ["int32"], [()]).queue_ref
    assert core.set_aside(7) == (7 if capacity < 0 else 5)
    core.release(5)
    core.close(False, None)
    assert core.set_aside(7) == 0


def _room_elsewhere(queue, answers):
    rooms = [queue.queue_ref.set_aside(1000)]
    queue.enqueue(1)
    while not rooms[-1]:  # the owner opens a window after it has received the first element
        rooms.append(queue.queue_ref.set_aside(1000))
    answers.put((rooms[0], rooms[-1]))


def test_remote_process_gets_room_promised_by_owner():
    queue = mpqueue.FIFOQueue(300, ["int32"], [()])
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=_room_elsewhere, args=(queue, answers))
    process.start()
    assert queue.dequeue() == 1
    first, later = answers.get()
    process.join()
    assert first == 0
    assert 0 < later <= 150
    assert queue.queue_ref.set_aside(1000) <= 300


def rows_as_tokens(shape, num_numbers):
    """Return the first components of the tokens of four rows."""
    storage = PlainStorage(ElementSpec(["float32", "uint8"], [shape, (3,)]))
    block = np.ones((4, num_numbers), np.float32)
    return [large for large, _ in storage.put_many([block, np.zeros((4, 3), np.uint8)], 4)[0:4]]


@pytest.mark.parametrize(("shape", "num_numbers"), [((20_000,), 20_000), ((None,), 2000)])
def test_large_rows_do_not_retain_each_other(shape, num_numbers):
    assert all(row.base is None for row in rows_as_tokens(shape, num_numbers))


@pytest.mark.parametrize("num_numbers", [0, 1, 256, 257, 16_383])
def test_rows_below_64_kib_are_stored_as_bytes(num_numbers):
    assert rows_as_tokens((num_numbers,), num_numbers) == [np.ones(num_numbers, np.float32).tobytes()] * 4
