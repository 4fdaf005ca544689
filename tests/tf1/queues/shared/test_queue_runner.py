"""A queue runner whose ops run in worker processes."""

import os
import signal

import numpy as np
import pytest
from helpers.gates import Gate, pass_gate

from mpqueue import FIFOQueue, Session, Source
from mpqueue.errors import CancelledError, OutOfRangeError, WorkerDied
from mpqueue.train import Coordinator, QueueRunner

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


class Count:
    """Gives 0, 1, 2, ..., with the id of its process; can say where it is."""

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


def drain(queue):
    got = []
    while True:
        try:
            got.append(queue.dequeue(timeout=60))
        except OutOfRangeError:
            return got


def test_each_op_runs_in_a_process_of_its_own_and_the_last_one_closes_the_queue():
    queue = FIFOQueue(10, "int64", [[2]])
    ops = [queue.enqueue_op(Source(Count(30))) for _ in range(2)]
    coord = Coordinator()
    QueueRunner(queue, ops, workers="process").create_threads(coord=coord, start=True)
    got = drain(queue)
    assert sorted(int(number) for number, _ in got) == sorted([*range(30), *range(30)])
    pids = {int(pid) for _, pid in got}
    assert len(pids) == 2
    assert os.getpid() not in pids
    coord.request_stop()
    coord.join()


def test_an_ops_exception_reaches_the_coordinator_as_its_own_type():
    class Broken(Exception):
        pass

    def fail():
        raise Broken("no more")

    queue = FIFOQueue(10, "int64", [[]])
    coord = Coordinator()
    QueueRunner(queue, [queue.enqueue_op(fail)], workers="process").create_threads(coord=coord, start=True)
    assert coord.wait_for_stop(60)
    with pytest.raises(Exception, match="no more") as caught:
        coord.join()
    assert type(caught.value).__name__ == "Broken"
    assert "in fail" in str(caught.value.__cause__)


def test_a_stop_frees_an_op_that_is_blocked_in_the_queue():
    queue = FIFOQueue(1, "int64", [[2]])
    coord = Coordinator()
    QueueRunner(queue, [queue.enqueue_op(Count(-1))], workers="process").create_threads(coord=coord, start=True)
    queue.dequeue()
    coord.request_stop()
    coord.join()


def test_closing_the_session_ends_an_op():
    queue = FIFOQueue(1, "int64", [[2]])
    session = Session()
    runner = QueueRunner(
        queue, [queue.enqueue_op(Count(-1))], workers="process", queue_closed_exception_types=(CancelledError,)
    )
    threads = runner.create_threads(sess=session, start=True)
    queue.dequeue()
    session.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("many", [False, True])
def test_an_op_whose_process_dies_goes_on_where_it_was_if_its_source_can_say_where(many):
    queue = FIFOQueue(5, "int64", [[2]])
    with Gate() as gate:
        source = Source(Resumable(40, gate.address, 20))
        if many:
            resumable = Resumable(40, gate.address, 20)
            source = Source(Rows(resumable))
        op = queue.enqueue_many_op(source) if many else queue.enqueue_op(source)
        coord = Coordinator()
        QueueRunner(queue, [op], workers="process").create_threads(coord=coord, start=True)
        got = [int(queue.dequeue()[0]) for _ in range(18)]
        arrival = gate.arrival()
        os.kill(arrival.pid, signal.SIGKILL)
        arrival.let_go()
        second = gate.arrival()  # its replacement comes by, too
        assert second.pid != arrival.pid
        second.let_go()
        got += [int(number) for number, _ in drain(queue)]
    assert got == list(range(40))
    coord.request_stop()
    coord.join()


class Watched(Resumable):
    """Passes the gate before each number but the first, with that number."""

    def __call__(self):
        if 0 < self.next < self.end:
            pass_gate(self.gate, self.next)
        return super().__call__()


def test_what_was_enqueued_is_progress_however_often_a_process_dies_between_two_checkpoints():
    queue = FIFOQueue(20, "int64", [[2]])
    coord = Coordinator()
    last_killed = 0
    with Gate() as gate:
        op = queue.enqueue_op(Source(Watched(8, gate.address)))
        QueueRunner(queue, [op], workers="process").create_threads(coord=coord, start=True)
        number = 0
        while number < 7:
            arrival = gate.arrival()
            number = arrival.tag
            if last_killed < number < 7:  # each process but the last one dies after one new element
                last_killed = number
                os.kill(arrival.pid, signal.SIGKILL)
            arrival.let_go()
        got = [int(number) for number, _ in drain(queue)]
    assert got == list(range(8))
    coord.request_stop()
    coord.join()


def test_a_process_that_dies_again_and_again_without_enqueueing_is_given_up():
    queue = FIFOQueue(20, "int64", [[2]])
    coord = Coordinator()
    deaths = 0
    with Gate() as gate:
        op = queue.enqueue_op(Source(Watched(8, gate.address)))
        QueueRunner(queue, [op], workers="process").create_threads(coord=coord, start=True)
        while deaths < 4:
            arrival = gate.arrival()
            deaths += 1
            os.kill(arrival.pid, signal.SIGKILL)
            arrival.let_go()
        assert coord.wait_for_stop(60)
    with pytest.raises(WorkerDied):
        coord.join()


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


def test_the_rows_of_a_batch_that_was_in_by_half_come_once():
    queue = FIFOQueue(6, "int64", [[2]])
    op = queue.enqueue_many_op(Source(Rows(Resumable(20))))
    coord = Coordinator()
    QueueRunner(queue, [op], workers="process").create_threads(coord=coord, start=True)
    first, pid = queue.dequeue()
    while queue.queue_ref.num_waiting == 0:  # full: its second or third batch is in by half
        queue.size()
    os.kill(int(pid), signal.SIGKILL)
    got = [int(first)] + [int(number) for number, _ in drain(queue)]
    assert got == list(range(20))
    coord.request_stop()
    coord.join()


def test_an_op_that_cannot_be_resumed_is_reported():
    queue = FIFOQueue(5, "int64", [[2]])
    with Gate() as gate:
        coord = Coordinator()
        op = queue.enqueue_op(Count(40, gate.address, 3))
        QueueRunner(queue, [op], workers="process").create_threads(coord=coord, start=True)
        arrival = gate.arrival()
        os.kill(arrival.pid, signal.SIGKILL)
        arrival.let_go()
        assert coord.wait_for_stop(60)
    with pytest.raises(WorkerDied):
        coord.join()


def test_a_worker_can_ask_its_coordinator_whether_to_stop():
    queue = FIFOQueue(100, "int64", [[]])
    coord = Coordinator()

    def until_stop():
        if coord.should_stop():
            raise OutOfRangeError(None, None, "told to stop")
        return 1

    QueueRunner(queue, [queue.enqueue_op(until_stop)], workers="process").create_threads(coord=coord, start=True)
    queue.dequeue()
    coord.request_stop()
    coord.join()


def test_other_ops_run_in_their_threads():
    queue = FIFOQueue(10, "int64", [[]])
    left = [3, 2, 1]

    def op():
        if not left:
            raise OutOfRangeError(None, None, "the end")
        queue.enqueue(left.pop())

    threads = QueueRunner(queue, [op], workers="process").create_threads(start=True)
    assert [int(value) for value in drain(queue)] == [1, 2, 3]
    [thread.join() for thread in threads]


def test_workers_are_threads_or_processes():
    queue = FIFOQueue(10, "int64", [[]])
    with pytest.raises(ValueError, match="got 'fibre'"):
        QueueRunner(queue, [queue.close], workers="fibre")
