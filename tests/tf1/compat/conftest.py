"""Fixtures for tests of the graph-mode API: a new graph for each test, and a session on request."""

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
