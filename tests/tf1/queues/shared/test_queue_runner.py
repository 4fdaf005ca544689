"""A queue runner with ops in worker processes."""

import contextlib
import os
import signal

import numpy as np
import pytest
from golden.outcomes import ended
from helpers.gates import Gate, pass_gate
from tf1.helpers.input_ends import all_until_the_end

from mpqueue import FIFOQueue, Session, Source
from mpqueue.errors import CancelledError, OutOfRangeError, WorkerDied
from mpqueue.train import Coordinator, QueueBase, QueueRunner

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


class Count:
    """Yields 0, 1, 2, ..., with the id of its process."""

    def __init__(self, end, gate=None, stop_at=-1):
        self.next, self.end, self.gate, self.stop_at = 0, end, gate, stop_at

    def __call__(self):
        if self.next == self.end:
            raise OutOfRangeError(None, None, "the end")
        if self.next == self.stop_at:
            pass_gate(self.gate, self.next)
        self.next += 1
        return np.array([self.next - 1, os.getpid()])


class Resumable(Count):
    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


@contextlib.contextmanager
def started(queue, *ops):
    """Run ops in worker processes until the end of the block."""
    coord = Coordinator()
    QueueRunner(queue, ops, workers="process").create_threads(coord=coord, start=True)
    yield coord
    coord.request_stop()
    coord.join()


def drain(queue):
    """Return all elements of a queue."""
    return all_until_the_end(lambda: queue.dequeue(timeout=60).tolist())


def numbers_of(queue):
    return [number for number, _ in drain(queue)]


def test_each_op_runs_in_a_process_and_the_last_one_closes_the_queue():
    queue = FIFOQueue(10, "int64", [[2]])
    with started(queue, *[queue.enqueue_op(Source(Count(30))) for _ in range(2)]):
        numbers, pids = zip(*drain(queue), strict=True)
    assert sorted(numbers) == sorted([*range(30), *range(30)])
    assert len({*pids}) == 2
    assert os.getpid() not in pids


def test_closing_session_ends_op():
    queue = FIFOQueue(1, "int64", [[2]])
    session = Session()
    runner = QueueRunner(
        queue, [queue.enqueue_op(Count(-1))], workers="process", queue_closed_exception_types=(CancelledError,)
    )
    threads = runner.create_threads(sess=session, start=True)
    queue.dequeue()
    session.close()
    assert ended(*threads)


@pytest.mark.parametrize("many", [False, True])
def test_op_with_resumable_source_continues_after_process_crash(many):
    queue = FIFOQueue(5, "int64", [[2]])
    with Gate() as gate:
        source = Resumable(40, gate.address, 20)
        op = queue.enqueue_many_op(Source(Rows(source))) if many else queue.enqueue_op(Source(source))
        with started(queue, op):
            got = [int(queue.dequeue()[0]) for _ in range(18)]
            arrival = gate.arrival()
            arrival.kill()
            second = gate.arrival()  # its replacement passes the gate, too
            assert second.pid != arrival.pid
            second.let_go()
            got += numbers_of(queue)
    assert got == list(range(40))


class Watched(Resumable):
    """Passes the gate before each number except the first, with that number."""

    def __call__(self):
        if 0 < self.next < self.end:
            pass_gate(self.gate, self.next)
        return super().__call__()


@contextlib.contextmanager
def watched(queue):
    """Yield the gate of an op that enqueues 8 numbers in a process, and its coordinator."""
    with Gate() as gate, started(queue, queue.enqueue_op(Source(Watched(8, gate.address)))) as coord:
        yield gate, coord


def test_enqueued_elements_count_as_progress_after_repeated_crashes():
    queue = FIFOQueue(20, "int64", [[2]])
    last_killed = number = 0
    with watched(queue) as (gate, _):
        while number < 7:
            arrival = gate.arrival()
            number = arrival.tag
            if last_killed < number < 7:  # each process except the last one is killed after one new element
                last_killed = number
                arrival.kill()
            else:
                arrival.let_go()
        assert numbers_of(queue) == list(range(8))


def test_process_that_crashes_repeatedly_without_enqueueing_is_given_up():
    with pytest.raises(WorkerDied), watched(FIFOQueue(20, "int64", [[2]])) as (gate, coord):
        for _ in range(4):
            gate.arrival().kill()
        assert coord.wait_for_stop(60)


def test_crashed_process_is_not_replaced_if_no_process_counts_its_elements():
    selected = QueueBase.from_list(0, [FIFOQueue(20, "int64", [[2]])])
    with pytest.raises(WorkerDied, match="not retried"), watched(selected) as (gate, coord):
        gate.arrival().kill()
        assert coord.wait_for_stop(60)


class Rows:
    """Batches of four."""

    def __init__(self, count):
        self.count = count

    def __call__(self):
        return np.stack([self.count() for _ in range(4)])

    def state_dict(self):
        return self.count.state_dict()

    def load_state_dict(self, state):
        self.count.load_state_dict(state)


def test_rows_of_partially_enqueued_batch_are_delivered_once():
    queue = FIFOQueue(6, "int64", [[2]])
    op = queue.enqueue_many_op(Source(Rows(Resumable(20))))
    with started(queue, op):
        first, pid = queue.dequeue().tolist()
        while queue.queue_ref.num_waiting == 0:  # full: its second or third batch is partially enqueued
            queue.size()
        os.kill(pid, signal.SIGKILL)
        assert [first, *numbers_of(queue)] == list(range(20))


def test_other_ops_run_in_threads():
    queue, source = FIFOQueue(10, "int64", [[]]), Source(iter([1, 2, 3]).__next__)
    threads = QueueRunner(queue, [lambda: queue.enqueue(source())], workers="process").create_threads(start=True)
    assert drain(queue) == [1, 2, 3]
    assert ended(*threads)
