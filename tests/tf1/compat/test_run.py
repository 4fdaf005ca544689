"""Runs with operations that block: on each other, on other runs, and until they are cancelled."""

import os
import signal
import threading

import numpy as np
import pytest
from golden.outcomes import Background
from helpers.alarms import nudged
from helpers.injected_exceptions import Alarms, StruckException
from helpers.signal_handlers import handling, raising
from tf1.compat.conftest import waiting_in

import mpqueue.compat.v1 as tf
from mpqueue.tf1.coordination.cancellation import active_scopes


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("end", [lambda queue: queue.enqueue(5), lambda queue: queue.close()], ids=["enqueue", "close"])
def test_operations_that_can_wait_for_each_other_are_refused(session, first, end):
    queue = tf.FIFOQueue(1, tf.int32, [()])
    nodes = [queue.dequeue(), end(queue)]
    with pytest.raises(ValueError, match=r"can wait for each other at fifo_queue.*tf\.control_dependencies"):
        session.run([nodes[first], nodes[1 - first]])
    assert session.run(queue.size()) == 0


def test_enqueue_and_dequeue_run_in_the_order_of_their_dependencies(session):
    queue = tf.FIFOQueue(1, tf.int32, [()])
    with tf.control_dependencies([tf.group(queue.enqueue(5))]):  # through another operation
        number = queue.dequeue()
    assert session.run(number) == 5
    session.run(queue.enqueue(1))
    again = queue.enqueue(queue.dequeue() + 1)
    session.run([again, again])
    assert session.run(queue.dequeue()) == 2


def test_dependents_of_a_blocked_operation_run_after_it(session):
    log = []
    queue = tf.FIFOQueue(1, tf.int32, [()])
    with tf.control_dependencies([queue.enqueue(1)]):
        after = tf.py_func(lambda: log.append("after") or np.int32(0), [], tf.int32)
    session.run(queue.enqueue(0))
    running = Background(lambda: session.run(after))
    waiting_in(session, queue)
    assert log == []
    session.run(queue.dequeue())
    running.finish()
    assert log == ["after"]


def test_operations_after_the_first_error_do_not_run(session):
    full, closed = tf.FIFOQueue(1, tf.int32, [()]), tf.FIFOQueue(1, tf.int32, [()])
    session.run([closed.close(), full.enqueue(1)])
    with pytest.raises(tf.errors.OutOfRangeError):
        session.run([closed.dequeue(), full.dequeue()])
    assert session.run(full.size()) == 1


def test_closing_the_session_cancels_blocked_runs(graph):
    session = tf.Session(graph=graph)
    full, empty = tf.FIFOQueue(1, tf.int32, [()], name="full"), tf.FIFOQueue(1, tf.int32, [()], name="empty")
    session.run(full.enqueue(1))
    calls = [Background(session.make_callable(node)) for node in (full.enqueue(2), empty.dequeue(), full.close())]
    waiting_in(session, full, 2)
    waiting_in(session, empty)
    session.close()
    for call in calls:
        with pytest.raises(tf.errors.CancelledError, match="session"):
            call.finish()


def test_ctrl_c_ends_a_run_and_returns_its_elements(session):
    queue = tf.FIFOQueue(9, tf.int32, [()])
    session.run(queue.enqueue_many([[1, 2]]))

    def press():  # once: on a loaded machine, a second signal could arrive while the first is handled
        waiting_in(session, queue)
        os.kill(os.getpid(), signal.SIGINT)

    pressing = Background(press)
    with nudged(), pytest.raises(KeyboardInterrupt):
        session.run(queue.dequeue_many(3))
    pressing.finish()
    # The blocked operation returns the elements it had taken.
    assert Background(session.make_callable(queue.dequeue_many(2))).finish().tolist() == [1, 2]


def test_operations_run_in_the_thread_of_the_caller(session):
    names = []
    queue = tf.FIFOQueue(9, tf.string, [()])
    reader = tf.IdentityReader()
    session.run(queue.enqueue("unit"))
    value = reader.read(queue).value
    seen = tf.py_func(lambda text: names.append(threading.current_thread()) or text, [value], tf.string)
    seen.set_shape([])
    session.run(tf.FIFOQueue(9, tf.string, [()]).enqueue(seen))
    assert names == [threading.current_thread()]


def test_branch_that_is_not_taken_dequeues_no_elements(session):
    queue = tf.FIFOQueue(9, tf.int32, [()])
    session.run(queue.enqueue_many([[1, 2, 3]]))
    chosen = tf.placeholder(tf.bool, [])
    node = tf.cond(chosen, queue.dequeue, lambda: tf.constant(-1))
    assert [session.run(node, {chosen: each}) for each in (False, True, False, True)] == [-1, 1, -1, 2]
    assert session.run(queue.size()) == 1


@pytest.mark.parametrize("chosen", [True, False])
def test_operations_from_outside_of_a_branch_run_once_whichever_branch_is_chosen(session, chosen):
    numbers, log = tf.FIFOQueue(9, tf.int32, [()]), tf.FIFOQueue(9, tf.int32, [()])
    session.run(numbers.enqueue_many([[1, 2, 3]]))
    number, noted = numbers.dequeue(), log.enqueue(7)
    inner = tf.placeholder_with_default(True, [])
    node = tf.cond(
        tf.constant(chosen),
        lambda: tf.cond(inner, lambda: tf.group(number, noted), tf.no_op),  # depends on both without reading a value
        tf.no_op,
    )
    assert session.run([node, number, noted])[1] == 1
    assert session.run(node)
    assert session.run([numbers.size(), log.size()]) == [1, 2]


def test_interrupted_run_duplicates_no_elements_and_later_runs_continue(session):
    """Elements that the run has dequeued are lost, as in a run that fails."""
    queue, numbers, received, sent = tf.FIFOQueue(-1, tf.int64, [()]), tf.placeholder(tf.int64, [None]), [], 0
    put, size, one, many = queue.enqueue_many([numbers]), queue.size(), queue.dequeue(), queue.dequeue_many(2)
    both = queue.dequeue(), queue.dequeue()
    with Alarms(8) as alarms:
        while alarms.count < 200:
            session.run(put, {numbers: np.arange(sent, sent + 9)})
            sent += 9
            for kind in (one, many, both):
                for values in alarms.call(session.run, kind):
                    received += np.ravel(values).tolist()
            received += session.run(queue.dequeue_many(size), {}).tolist()
    assert len(received) == len(set(received))
    assert set(received) <= set(range(sent))
    assert active_scopes() == ()


def test_exception_of_a_signal_handler_is_not_an_error_of_a_python_function(session):
    node = tf.py_func(lambda: signal.raise_signal(signal.SIGUSR1), [], tf.int64)
    with handling(raising(StruckException), signal.SIGUSR1), pytest.raises(StruckException):
        session.run(node)
