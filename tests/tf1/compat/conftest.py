"""Every test of the deferred face has a graph of its own, and a session of it where it asks for one."""

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
    """A call in a thread of its own."""

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
        """The call's value, or what it raised."""
        self._thread.join(DEADLOCK_S)
        assert not self._thread.is_alive(), "the call never ended"
        if self._error is not None:
            raise self._error
        return self._value


def waiting_in(session, queue, count=1):
    """Returns when so many calls are blocked in a queue."""
    core = session.run(queue.queue_ref)
    deadline = time.monotonic() + DEADLOCK_S
    while core.num_waiting < count:
        assert time.monotonic() < deadline, f"{core.num_waiting} calls wait, not {count}"
        time.sleep(0.001)
