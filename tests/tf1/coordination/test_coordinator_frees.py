"""A stop ends calls that are blocked in a queue, in any thread or process, without registration."""

import multiprocessing
import threading

import pytest
from helpers.queue_processes import DEADLOCK_S, in_line

import mpqueue
from mpqueue.errors import CancelledError
from mpqueue.train import QueueRunner

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def make_queue():
    return mpqueue.FIFOQueue(1, "int32", [[]])


def blocked(coord, queue, call):
    """Call a function in a thread that reports to the coordinator, and wait until it is blocked in a queue."""

    def report():
        with coord.stop_on_exception():
            call()

    thread = threading.Thread(target=report)
    thread.start()
    in_line(queue)
    return thread


def test_stop_ends_thread_blocked_in_queue():
    queue, coord, errors = make_queue(), mpqueue.Coordinator(), []

    def take():
        try:
            queue.dequeue()
        except CancelledError as error:
            errors.append(str(error))
            raise

    thread = blocked(coord, queue, take)
    coord.request_stop()
    coord.join([thread], stop_grace_period_secs=DEADLOCK_S)
    assert errors == ["the coordinator stops"]


def test_first_report_takes_precedence_over_cancelled_calls():
    queue, coord = make_queue(), mpqueue.Coordinator()
    thread = blocked(coord, queue, lambda: [queue.enqueue(1), queue.enqueue(1)])
    with coord.stop_on_exception():
        raise KeyError("of mine")
    with pytest.raises(KeyError, match="of mine"):
        coord.join([thread], stop_grace_period_secs=DEADLOCK_S)


def test_calls_that_need_not_wait_succeed_after_the_stop():
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


def test_calls_wait_again_after_clear_stop():
    queue, coord, got = make_queue(), mpqueue.Coordinator(), []
    coord.request_stop()
    coord.join()
    coord.clear_stop()
    thread = blocked(coord, queue, lambda: got.append(int(queue.dequeue())))
    queue.enqueue(1)
    thread.join(DEADLOCK_S)
    assert got == [1]


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_stop_ends_op_blocked_in_its_input_queue(workers):
    queue, filled, coord = make_queue(), make_queue(), mpqueue.Coordinator()
    op = filled.enqueue_op(mpqueue.Source(queue.dequeue))
    QueueRunner(filled, [op], workers=workers).create_threads(coord=coord, start=True)
    in_line(queue)
    coord.request_stop()
    coord.join(stop_grace_period_secs=DEADLOCK_S)
    assert filled.is_closed()


def test_stop_ends_process_blocked_in_queue():
    queue, coord = make_queue(), mpqueue.Coordinator()
    process = multiprocessing.get_context("fork").Process(target=take_all, args=(coord, queue))
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


def test_signal_handler_may_request_stop_during_a_step_of_a_queue():
    """It runs in the interrupted thread, which may hold the queue's lock."""
    queue, coord = make_queue(), mpqueue.Coordinator()
    thread = blocked(coord, queue, queue.dequeue)
    with queue.queue_ref.driver.lock:
        coord.request_stop()
    coord.join([thread], stop_grace_period_secs=DEADLOCK_S)
