"""Failures around queues: foreign bytes in the pipe, thousands of queues, cycles of queues, and killed owners."""

import contextlib
import gc
import os
import pickle
import resource

import pytest
from helpers import queue_processes
from helpers.forked_calls import status_of_fork
from helpers.queue_processes import DEADLOCK_S, Other, in_line, shared
from helpers.trainer_processes import ran
from tf1.helpers.stray_writes import be_disconnected, write_to_the_pipe

from mpqueue import Coordinator, FIFOQueue
from mpqueue.errors import CancelledError, DataLossError, FailedPreconditionError
from mpqueue.tf1.queues.arena import offset_of

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.mark.parametrize("num_bytes", [33, 100_000])
def test_foreign_bytes_among_records_are_reported_and_lose_no_element(num_bytes, caplog):
    with shared(FIFOQueue(1000, "int32", [[]]), 2) as (queue, other, witness):
        for value in range(0, 100, 2):
            other.ask(lambda q, v: q.enqueue(v), value)
            if value % 20 == 0:
                other.ask(write_to_the_pipe, os.urandom(num_bytes))
            witness.ask(lambda q, v: q.enqueue(v), value + 1)
        assert witness.ask(lambda q: q.dequeue_many(50)).tolist() == list(range(50))
        assert queue.dequeue_many(50, timeout=DEADLOCK_S).tolist() == list(range(50, 100))
    assert "a file descriptor that it had closed" in caplog.text


def test_foreign_bytes_do_not_block_a_waiting_call():
    with shared(FIFOQueue(10, "int32", [[]]), 2) as (queue, other, waiter):
        waiter.begin(lambda q: q.dequeue())
        in_line(queue)
        other.ask(write_to_the_pipe)
        other.ask(lambda q: q.enqueue(7))
        assert waiter.end() == 7


def test_process_that_writes_to_its_answer_socket_is_disconnected(caplog):
    with shared(FIFOQueue(10, "int32", [[]]), 2) as (queue, other, witness):
        other.ask(lambda q: q.enqueue(1))
        queue.size()  # opens a window, so that its next enqueues need no answer
        with pytest.raises(CancelledError, match="has exited or closed the connection"):
            other.ask(be_disconnected)
        with pytest.raises(CancelledError, match="has exited or closed the connection"):
            other.ask(lambda q: q.enqueue(3))
        witness.ask(lambda q: q.enqueue(2))
        assert queue.dequeue_many(2).tolist() == [1, 2]
    assert "was disconnected" in caplog.text


def test_thousands_of_queues_in_a_worker_use_no_descriptors():
    queues = [FIFOQueue(10, "int32", [[]]) for _ in range(500)]
    with Other(*queues) as other:
        before = num_descriptors()

        def use(*queues):
            for place, queue in enumerate(queues):
                queue.enqueue(place)
            return num_descriptors()

        assert other.ask(use) < 100
        assert [int(queue.dequeue(timeout=DEADLOCK_S)) for queue in queues] == list(range(500))
        assert num_descriptors() <= before + 1


def make_and_keep():
    queue_processes.kept = FIFOQueue(100, "int32", [[]])
    return pickle.dumps(queue_processes.kept)


def test_producer_with_window_notices_killed_owner():
    def enqueue_some(packed):
        queue_processes.handle = pickle.loads(packed)
        for value in range(10):
            queue_processes.handle.enqueue(value)

    with Other() as owner, Other() as worker:
        worker.ask(enqueue_some, owner.ask(make_and_keep))
        assert owner.ask(lambda: int(queue_processes.kept.size())) == 10  # reads all records, and opens a window
        owner.kill()
        with pytest.raises(CancelledError, match="has exited"):
            worker.ask(lambda: queue_processes.handle.enqueue(10))


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


def overwrite_first_element(queue):
    """Overwrite the sizes of the oldest element, as a faulty process could."""
    core = queue.queue_ref
    (token, *_) = core.machine.held()
    at = offset_of(token)
    core.driver.hub.pool.arena.segment.memory[at : at + 8] = b"\x7f" * 8


@pytest.mark.parametrize("is_consumed_here", [True, False])
def test_corrupt_element_raises_data_loss_once_and_leaves_the_queue(is_consumed_here):
    with shared(FIFOQueue(5, "string", [[]])) as (queue, other):
        other.ask(lambda q: [q.enqueue(each) for each in ("one", "two")] and None)
        assert queue.size() == 2
        overwrite_first_element(queue)

        def dequeue(q):
            return q.dequeue(timeout=DEADLOCK_S)

        with pytest.raises(DataLossError, match="corrupt"):
            dequeue(queue) if is_consumed_here else other.ask(dequeue)
        assert queue.dequeue(timeout=DEADLOCK_S) == b"two"
        assert queue.size() == 0


def num_descriptors():
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def limited(kind, soft):
    """Limit a resource of this process until the block ends."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@contextlib.contextmanager
def free_descriptors(count):
    """Leave this number of free descriptors."""
    taken, last = [], max(map(int, os.listdir("/proc/self/fd")))
    try:
        with limited(resource.RLIMIT_NOFILE, last + count + 1):
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            for _ in range(count):
                os.close(taken.pop())
            yield
    finally:
        for fd in taken:
            os.close(fd)


@pytest.mark.parametrize("make", [lambda: FIFOQueue(1, "int32", [[]]), Coordinator])
def test_sharing_without_descriptors_leaves_none_open(make):
    shared, before, num_failures = make(), num_descriptors(), 0
    for count in range(4):
        with free_descriptors(count):
            try:
                pickle.dumps(shared)
            except OSError:
                num_failures += 1
        assert num_descriptors() == before
    assert num_failures == 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_queue_that_could_not_be_shared_before_a_fork_raises_in_the_child():
    """Its copy would take elements that the parent never gets."""
    queue = FIFOQueue(5, "int32", [[]])

    def is_refused():
        with pytest.raises(FailedPreconditionError):
            queue.enqueue(1, timeout=DEADLOCK_S)
        return True

    with free_descriptors(2):
        assert status_of_fork(is_refused) == 1
    queue.enqueue(2)
    assert queue.dequeue() == 2


def use_with_little_address_space(queue):
    before = num_descriptors()
    with limited(resource.RLIMIT_AS, 1 << 30), pytest.raises(OSError, match="memory"):
        queue.size()
    gc.collect()
    assert num_descriptors() == before
    return queue.size()


def test_process_that_cannot_map_the_memory_leaves_no_descriptor_open():
    queue = FIFOQueue(5, "int32", [[]])
    queue.enqueue(1)
    with Other(queue) as other:
        assert other.ask(use_with_little_address_space) == 1
