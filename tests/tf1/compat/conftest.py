"""Fixtures for tests of the graph-mode API: a new graph for each test, and a session on request."""

import threading
import time

import pytest

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


class Background:
    """A call in a background thread."""

    def __init__(self, call):
        self._value = self._error = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call):
        try:
            self._value = call()
        except BaseException as error:
            self._error = error

    def finish(self):
        """Return the result of the call, or raise its exception."""
        self._thread.join(DEADLOCK_S)
        assert not self._thread.is_alive(), "the call did not end"
        if self._error is not None:
            raise self._error
        return self._value


def waiting_in(session, queue, count=1):
    """Wait until ``count`` calls are blocked in a queue."""
    core = session.run(queue.queue_ref)
    deadline = time.monotonic() + DEADLOCK_S
    while core.num_waiting < count:
        assert time.monotonic() < deadline, f"expected {count} blocked calls, got {core.num_waiting}"
        time.sleep(0.001)
