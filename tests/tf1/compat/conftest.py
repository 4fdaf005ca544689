"""Fixtures for tests of the graph-mode API: a new graph for each test, and a session on request."""

import contextlib

import pytest
from helpers.waits import until

import mpqueue.compat.v1 as tf

DEADLOCK_S = 60


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def session(graph):
    with tf.Session(graph=graph) as made:
        yield made


def waiting_in(session, queue, count=1):
    """Wait until ``count`` calls are blocked in a queue."""
    core = session.run(queue.queue_ref)
    until(lambda: core.num_waiting >= count, f"expected {count} blocked calls")


@contextlib.contextmanager
def running(session):
    """Run the queue runners of the graph until the end of the block; yield their coordinator."""
    session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    coord = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(session, coord)
    yield coord
    coord.request_stop()
    coord.join(threads)


def initialized(session, value):
    """Create a variable that has its initial value."""
    variable = tf.Variable(value)
    session.run(variable.initializer)
    return variable
