"""A stop frees whoever is blocked in a queue, wherever that is, without anything registered for it."""

import multiprocessing
import threading

import pytest

import mpqueue
from mpqueue.errors import CancelledError
from mpqueue.train import QueueRunner

DEADLOCK_S = 60

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def make_queue():
    return mpqueue.FIFOQueue(1, "int32", [[]])


def in_line(queue):
    never = threading.Event()
    while not queue.queue_ref.num_waiting:
        queue.size()  # reads what other processes have said
        assert not never.wait(0.001)


def test_a_thread_blocked_in_a_queue_is_freed_by_a_stop():
    queue, coord, errors = make_queue(), mpqueue.Coordinator(), []

    def take():
        with coord.stop_on_exception():
            try:
                queue.dequeue()
            except CancelledError as error:
                errors.append(str(error))
                raise

    thread = threading.Thread(target=take)
    thread.start()
    in_line(queue)
    coord.request_stop()
    coord.join([thread], stop_grace_period_secs=DEADLOCK_S)
    assert errors == ["the coordinator stops"]


def test_the_report_wins_over_what_it_frees():
    queue, coord = make_queue(), mpqueue.Coordinator()

    def put():
        with coord.stop_on_exception():
            while True:
                queue.enqueue(1)

    thread = threading.Thread(target=put)
    thread.start()
    in_line(queue)
    with coord.stop_on_exception():
        raise KeyError("of mine")
    with pytest.raises(KeyError, match="of mine"):
        coord.join([thread], stop_grace_period_secs=DEADLOCK_S)


def test_calls_that_need_not_wait_go_on_after_the_stop():
    queue, coord, got = make_queue(), mpqueue.Coordinator(), []
    queue.enqueue(1)
    coord.request_stop()
    with coord.stop_on_exception():
        got.append(int(queue.dequeue()))
        queue.enqueue(2)
        got.append(int(queue.dequeue()))
        queue.dequeue()
        got.append("it has waited")
    assert got == [1, 2]
    coord.join()


def test_after_the_stop_was_cleared_calls_wait_again():
    queue, coord, got = make_queue(), mpqueue.Coordinator(), []
    coord.request_stop()
    coord.join()
    coord.clear_stop()

    def take():
        with coord.stop_on_exception():
            got.append(int(queue.dequeue()))

    thread = threading.Thread(target=take)
    thread.start()
    in_line(queue)
    queue.enqueue(1)
    thread.join(DEADLOCK_S)
    assert got == [1]


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_an_op_that_is_blocked_in_the_queue_it_draws_from_is_freed(workers):
    queue, filled, coord = make_queue(), make_queue(), mpqueue.Coordinator()
    op = filled.enqueue_op(mpqueue.Source(queue.dequeue))
    QueueRunner(filled, [op], workers=workers).create_threads(coord=coord, start=True)
    in_line(queue)
    coord.request_stop()
    coord.join(stop_grace_period_secs=DEADLOCK_S)
    assert filled.is_closed()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_that_is_blocked_in_a_queue_is_freed(method):
    queue, coord = make_queue(), mpqueue.Coordinator()
    process = multiprocessing.get_context(method).Process(target=take_all, args=(coord, queue))
    process.start()
    coord.register_thread(process)
    in_line(queue)
    coord.request_stop()
    coord.join(stop_grace_period_secs=DEADLOCK_S)
    assert process.exitcode == 0
    process.close()


def take_all(coord, queue):
    with coord.stop_on_exception():
        while True:
            queue.dequeue()


def test_the_handler_of_a_signal_may_ask_for_a_stop_amid_a_step_of_a_queue():
    """It runs in the thread that it interrupts, which may hold the queue's lock."""
    queue, coord = make_queue(), mpqueue.Coordinator()

    def take():
        with coord.stop_on_exception():
            queue.dequeue()

    thread = threading.Thread(target=take)
    thread.start()
    in_line(queue)
    with queue.queue_ref.driver.lock:
        coord.request_stop()
    coord.join([thread], stop_grace_period_secs=DEADLOCK_S)
