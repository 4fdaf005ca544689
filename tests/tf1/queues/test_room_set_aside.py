"""Room reserved for elements that are being produced."""

import multiprocessing

import numpy as np
import pytest

import mpqueue


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
