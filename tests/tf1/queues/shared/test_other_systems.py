"""Queues between processes without Linux-specific features."""

import threading

import numpy as np
import pytest
from helpers.others import DEADLOCK_S, Other, in_line

from mpqueue import FIFOQueue
from mpqueue.errors import CancelledError
from mpqueue.system import platform_support

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def no_epoll(monkeypatch):
    monkeypatch.setattr(platform_support, "HAS_EPOLL", False)


def test_waiting_call_serves_other_processes():
    queue = FIFOQueue(5, "int32", [[]])
    with Other(queue) as other:
        other.begin(lambda q: [q.enqueue(value) for value in range(20)] and None)
        assert [int(queue.dequeue(timeout=DEADLOCK_S)) for _ in range(20)] == list(range(20))
        other.end()


def test_hub_thread_serves_if_no_call_waits():
    queue = FIFOQueue(5, "int32", [[]])
    with Other(queue) as one, Other(queue) as two:
        one.ask(lambda q: q.enqueue_many([[1, 2, 3]]))
        assert two.ask(lambda q: q.dequeue_many(3)).tolist() == [1, 2, 3]


def test_waiting_call_notices_new_connection():
    queue = FIFOQueue(5, "int32", [[]])
    found = []
    thread = threading.Thread(target=lambda: found.append(int(queue.dequeue(timeout=DEADLOCK_S))), daemon=True)
    with Other(queue) as other:
        thread.start()
        in_line(queue)
        other.ask(lambda q: q.enqueue(7))
        thread.join(DEADLOCK_S)
    assert found == [7]


def test_elements_for_killed_waiting_process_return():
    queue = FIFOQueue(10, "int32", [[]])
    queue.enqueue_many(np.arange(3))
    with Other(queue) as victim:
        victim.begin(lambda q: q.dequeue_many(5))
        in_line(queue)
        victim.kill()
    queue.enqueue_many(np.arange(3, 6), timeout=DEADLOCK_S)
    assert queue.dequeue_many(6, timeout=DEADLOCK_S).tolist() == list(range(6))


def test_answer_larger_than_socket_buffer_arrives(monkeypatch):
    queue = FIFOQueue(100_000, "int32", [[]])
    with Other(queue) as other:
        other.begin(lambda q: int(q.dequeue_many(90_000).sum()))
        in_line(queue)
        queue.enqueue_many(np.arange(90_000))
        assert other.end() == sum(range(90_000))


def test_process_that_writes_to_answer_socket_is_disconnected(caplog):
    queue = FIFOQueue(10, "int32", [[]])

    def write(queue):
        queue.size()
        queue.queue_ref._own.channel.connection._sock.send(b"a line of a log\n")
        while True:
            queue.size()

    with Other(queue) as other, pytest.raises(CancelledError, match="has exited or closed the connection"):
        other.ask(write)
    assert "it wrote to the socket" in caplog.text
