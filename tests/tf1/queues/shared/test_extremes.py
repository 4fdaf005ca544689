"""Failures around queues: foreign bytes in the pipe, thousands of queues, cycles of queues, and killed owners."""

import os
import pickle

import pytest
from helpers import others
from helpers.others import DEADLOCK_S, Other, in_line
from helpers.outside import ran

from mpqueue import FIFOQueue
from mpqueue.errors import CancelledError, DeadlineExceededError

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def write_to_the_pipe(queue, data):
    """Write like a process that uses a closed descriptor: its number belongs to the pipe now."""
    queue.size()
    os.write(queue.queue_ref._own.channel.connection.memory.pipe, data)


@pytest.mark.parametrize("num_bytes", [1, 31, 32, 33, 64, 1000, 4096, 100_000])
def test_foreign_bytes_among_records_are_reported_and_lose_no_element(num_bytes, caplog):
    queue = FIFOQueue(1000, "int32", [[]])
    with Other(queue) as other, Other(queue) as witness:
        for value in range(0, 100, 2):
            other.ask(lambda q, v: q.enqueue(v), value)
            if value % 20 == 0:
                other.ask(write_to_the_pipe, os.urandom(num_bytes))
            witness.ask(lambda q, v: q.enqueue(v), value + 1)
        assert witness.ask(lambda q: q.dequeue_many(50)).tolist() == list(range(50))
        assert queue.dequeue_many(50, timeout=DEADLOCK_S).tolist() == list(range(50, 100))
    assert "a file descriptor that it had closed" in caplog.text


def test_foreign_bytes_do_not_block_a_waiting_call():
    queue = FIFOQueue(10, "int32", [[]])
    with Other(queue) as other, Other(queue) as waiter:
        waiter.begin(lambda q: q.dequeue())
        in_line(queue)
        other.ask(write_to_the_pipe, b"a line of a log\n")
        other.ask(lambda q: q.enqueue(7))
        assert waiter.end() == 7


def test_process_that_writes_to_its_answer_socket_is_disconnected(caplog):
    queue = FIFOQueue(10, "int32", [[]])

    def write_and_call_size(queue):
        os.write(queue.queue_ref._own.channel.connection._sock.fileno(), b"a line of a log\n")
        while True:
            queue.size()

    with Other(queue) as other, Other(queue) as witness:
        other.ask(lambda q: q.enqueue(1))
        queue.size()  # opens a window, so that its next enqueues need no answer
        with pytest.raises(CancelledError, match="has exited or closed the connection"):
            other.ask(write_and_call_size)
        with pytest.raises(CancelledError, match="has exited or closed the connection"):
            other.ask(lambda q: q.enqueue(3))
        witness.ask(lambda q: q.enqueue(2))
        assert queue.dequeue_many(2).tolist() == [1, 2]
    assert "was disconnected" in caplog.text


def test_thousands_of_queues_in_a_worker_use_no_descriptors():
    queues = [FIFOQueue(10, "int32", [[]]) for _ in range(2000)]
    with Other(*queues) as other:
        num_descriptors = len(os.listdir("/proc/self/fd"))

        def use(*queues):
            for place, queue in enumerate(queues):
                queue.enqueue(place)
            return len(os.listdir("/proc/self/fd"))

        assert other.ask(use) < 100
        assert [int(queue.dequeue(timeout=DEADLOCK_S)) for queue in queues] == list(range(2000))
        assert len(os.listdir("/proc/self/fd")) <= num_descriptors + 1


def test_timeout_resolves_deadlock_of_two_queues_feeding_each_other():
    there, back = FIFOQueue(1, "int32", [[]]), FIFOQueue(1, "int32", [[]])
    there.enqueue(1)
    back.enqueue(2)
    with Other(there, back) as one, Other(back, there) as two:
        for process in (one, two):  # each waits for the other one to dequeue
            process.begin(lambda ahead, _behind: ahead.enqueue(3, timeout=2.0))
        in_line(there)
        in_line(back)
        for process in (one, two):
            with pytest.raises(DeadlineExceededError):
                process.end()
        assert one.ask(lambda _ahead, behind: int(behind.dequeue())) == 2
        assert two.ask(lambda _ahead, behind: int(behind.dequeue())) == 1
        assert there.size() == back.size() == 0


def make_and_keep():
    others.kept = FIFOQueue(100, "int32", [[]])
    return pickle.dumps(others.kept)


def wait_for_one(packed):
    others.handle = pickle.loads(packed)
    others.handle.enqueue(1)
    others.handle.dequeue_many(2)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_is_cancelled_permanently_after_owner_was_killed(method):
    with Other() as owner, Other(method=method) as worker:
        worker.begin(wait_for_one, owner.ask(make_and_keep))
        owner.ask(lambda: in_line(others.kept))
        owner.kill()
        with pytest.raises(CancelledError, match="has exited"):
            worker.end()
        for call in ("dequeue", "size", "close"):
            with pytest.raises(CancelledError, match="has exited"):
                worker.ask(lambda call: getattr(others.handle, call)(), call)
        with pytest.raises(CancelledError, match="has exited"):
            worker.ask(lambda: others.handle.enqueue(2))


def test_producer_with_window_notices_killed_owner():
    def enqueue_some(packed):
        others.handle = pickle.loads(packed)
        for value in range(10):
            others.handle.enqueue(value)

    with Other() as owner, Other() as worker:
        worker.ask(enqueue_some, owner.ask(make_and_keep))
        assert owner.ask(lambda: int(others.kept.size())) == 10  # reads all records, and opens a window
        owner.kill()
        with pytest.raises(CancelledError, match="has exited"):
            worker.ask(lambda: others.handle.enqueue(10))


@pytest.mark.slow
def test_queue_uses_no_descriptor_of_a_closed_standard_stream():
    """C code writes its messages to these numbers, and programs replace them with `dup2`."""
    output, _ = ran("""
__import__("warnings").simplefilter("ignore", DeprecationWarning)  # of 3.12, at every fork in a process with threads

def found():
    say(*(os.readlink(link) for link in map("/proc/self/fd/{}".format, range(3)) if os.path.lexists(link)))

for fd in range(3):
    os.close(fd)
queue = mpqueue.FIFOQueue(10, ["int32"], [()])
child = os.fork()
queue.enqueue(1)
found()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
mpqueue.shutdown()
""")
    assert output == ["", ""]
