"""Killed processes: elements are enqueued completely or not at all, and delivered at most once."""

import contextlib
import os
import pickle
import random
import signal
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from golden.outcomes import Background
from helpers import queue_processes
from helpers.gates import Gate, stop_at
from helpers.hub_parts import steps_of, thread_of
from helpers.injected_exceptions import StruckException
from helpers.queue_processes import Other, in_line, shared
from helpers.signal_handlers import handling, raising
from helpers.wrapped_functions import wrap
from tf1.helpers.blocking_calls import Gate as ScopeGate
from tf1.helpers.traced_memory import traced

from mpqueue import FIFOQueue, RandomShuffleQueue
from mpqueue.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    OutOfRangeError,
)
from mpqueue.tf1.queues import blocks
from mpqueue.tf1.queues.remote import Connection, QueueChannel, RemoteQueue

pytestmark = [
    pytest.mark.sample(2),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]

# Steps of an enqueue: where it stops, and whether its element is enqueued by then.
STEPS = [
    (Connection, "block", "before", False),
    (Connection, "block", "after", False),
    (blocks.BlockCodec, "write_one", "after", False),
    (QueueChannel, "enqueue", "before", False),
    (Connection, "call", "after", True),
    (QueueChannel, "enqueue", "after", True),
]


@pytest.mark.parametrize("has_window", [False, True])
@pytest.mark.parametrize(("place", "name", "when", "is_in"), STEPS)
def test_producer_killed_between_any_two_steps_leaves_complete_elements(place, name, when, is_in, has_window):
    queue = FIFOQueue(10, "int64", [[50]])
    with Gate() as gate, Other(queue) as victim, Other(queue) as witness:
        before = 3 if has_window else 1
        for value in range(before):
            victim.ask(lambda q, v: q.enqueue([np.full(50, v)]), value)
            if has_window:
                queue.size()  # reads the records, and opens a window
                queue.enqueue([np.full(50, 7)])
        in_before = queue.size()
        address = gate.address
        victim.begin(lambda q: [stop_at(place, name, when, address), q.enqueue([np.full(50, 99)])])
        arrival = gate.arrival()
        victim.kill()
        arrival.let_go()
        witness.ask(lambda q: q.enqueue([np.full(50, 100)]))
        assert queue.size() == in_before + is_in + 1
        got = queue.dequeue_many(int(queue.size()))
        assert (got == got[:, :1]).all()  # complete
        assert (99 in got) == is_in
        assert got[-1, 0] == 100


def test_killed_producer_releases_its_room_and_memory():
    queue = FIFOQueue(4, "int64", [[50]])
    for _ in range(3):
        with Other(queue) as victim:
            victim.ask(lambda q: q.enqueue([np.zeros(50)]))
            queue.dequeue()
            victim.ask(lambda q: q.enqueue([np.zeros(50)]))
            victim.kill()
        queue.enqueue_many([np.ones((3, 50))], timeout=30)
        assert queue.dequeue_many(4)[:, 0].tolist() == [0, 1, 1, 1]
    hub = queue.queue_ref.driver.hub
    with Other(queue) as other:  # its connection ends after the connections of the others
        other.ask(lambda q: q.size())
        hub.pool.collect()
        assert hub.pool.arena.num_used - hub.pool.num_word_blocks <= 1


@pytest.mark.parametrize("is_noticed", [True, False])
def test_elements_taken_by_killed_waiting_consumer_return_in_order(monkeypatch, is_noticed):
    """Even if the end of its connection has not been noticed yet."""
    queue = FIFOQueue(10, "int32", [[]])
    queue.enqueue_many(np.arange(3))
    with Other(queue) as victim:
        victim.begin(lambda q: q.dequeue_many(5))
        in_line(queue)
        hub = queue.queue_ref.driver.hub
        with monkeypatch.context() as patch:
            if not is_noticed:
                patch.setattr(hub.watch, "_serve", lambda events: None)  # no thread polls
            victim.kill()
            queue.enqueue_many(np.arange(3, 6), timeout=30)
            assert queue.dequeue_many(6, timeout=30).tolist() == list(range(6))
        hub.attend()


@pytest.mark.parametrize("kind", [DeadlineExceededError, CancelledError, KeyboardInterrupt])
def test_any_exception_of_handler_during_dequeue_takes_no_element(kind):
    """Including an error that the queue's owner might have sent."""
    queue = FIFOQueue(10, "int32", [[]])
    queue.enqueue_many(np.arange(4))

    def dequeue_amid_a_signal(q):
        with pytest.raises(kind):
            q.queue_ref.dequeue(30, raising(kind(None, None, "from a handler")))

    with Other(queue) as other:
        other.ask(dequeue_amid_a_signal)
        assert queue.size() == 4
        assert other.ask(lambda q: q.dequeue_many(2).tolist()) == [0, 1]
        assert queue.dequeue_many(2).tolist() == [2, 3]


def test_killed_consumer_loses_only_its_last_dequeue():
    queue = FIFOQueue(10, "int32", [[]])
    queue.enqueue_many(np.arange(6))
    with Gate() as gate, Other(queue) as victim:
        address = gate.address
        victim.begin(lambda q: [stop_at(Connection, "answer_within", "after", address), q.dequeue_many(2)])
        gate.arrival().let_go()  # it has attached
        arrival = gate.arrival()  # it has received the blocks, and has copied no element yet
        victim.kill()
        arrival.let_go()
    assert queue.dequeue_many(4, timeout=30).tolist() == [2, 3, 4, 5]


def make_and_keep():
    queue_processes.kept = FIFOQueue(5, "int32", [[]])
    return pickle.dumps(queue_processes.kept)


def is_without_owner(handle):
    """Check that every call of a handle raises the error for an owner that has exited."""
    for call in (handle.dequeue, handle.size, handle.close, lambda: handle.enqueue(3)):
        with pytest.raises(CancelledError, match="has exited"):
            call()
    return True


def test_killed_owner_cancels_waiting_and_later_calls_before_it_is_reaped():
    with Other() as owner:
        handle = pickle.loads(owner.ask(make_and_keep))
        handle.enqueue(1)
        assert handle.size() == 1
        waiting = Background(handle.dequeue_many, 2)
        owner.ask(lambda: in_line(queue_processes.kept))
        os.kill(owner.pid, signal.SIGKILL)
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(CancelledError, match="has exited"):
            waiting.finish()
        assert is_without_owner(handle)
        with pytest.raises(CancelledError, match="has exited"):
            pickle.loads(pickle.dumps(handle)).size()


def test_scope_cancels_all_calls_although_the_owner_of_one_queue_has_exited(monkeypatch):
    local, owner_is_gone, calls = FIFOQueue(1, "int32", [[]]), threading.Event(), []
    wait, scope = Connection.answer_within, ScopeGate()

    def wait_late(*args):
        assert owner_is_gone.wait(60)
        return wait(*args)

    def block_in(queue):
        with scope.active():
            queue.dequeue()

    def finish_late(finish, queue, channel, *args):
        monkeypatch.setattr(channel.connection, "answer_within", partial(wait_late, channel.connection))
        return finish(queue, channel, *args)

    wrap(monkeypatch, RemoteQueue, "_finish", finish_late)
    with Other() as owner:
        handle = pickle.loads(owner.ask(make_and_keep))
        for queue in (local, handle):
            scope.asleep.clear()
            calls.append(Background(block_in, queue))
            assert scope.asleep.wait(60)
        owner.kill()
        scope.cancel()  # before the remote call notices that its owner has exited
        owner_is_gone.set()
        for call in calls:
            with pytest.raises(CancelledError):
                call.finish()


def test_queue_deleted_by_owner_cancels_calls():
    def make():
        return pickle.dumps(FIFOQueue(5, "int32", [[]]))

    with Other() as owner:
        handle = pickle.loads(owner.ask(make))
        with pytest.raises((CancelledError, FailedPreconditionError), match=r"was deleted|has exited|cannot connect"):
            handle.size()


def test_small_elements_use_little_more_shared_memory_than_their_bytes():
    with shared(FIFOQueue(50_000, "float32", [[16]])) as (queue, other):
        other.ask(lambda q: q.enqueue(np.zeros(16, np.float32)))
        with traced() as memory:
            other.ask(lambda q: [q.enqueue_many(np.zeros((1000, 16), np.float32)) for _ in range(49)] and None)
            assert queue.size() == 49_001
            private, _ = memory()
        assert queue.queue_ref.driver.hub.pool.arena.num_reserved_bytes < 1.2 * 49_001 * 64
        assert private < 60 * 49_001


def produce(queue, producer, count, seed):
    """Enqueue (producer, number) in chunks of random sizes."""
    rng, number = random.Random(seed), 0
    while number < count:
        size = rng.choice([1, 1, 2, 7, 40])
        rows = np.array([[producer, number + i] * 8 for i in range(size)])
        queue.enqueue(rows[0]) if size == 1 else queue.enqueue_many(rows)
        number += size


def consume(queue, address, seed):
    """Dequeue in chunks of random sizes, and report each chunk at a gate."""
    rng = random.Random(seed)
    with socket.socket(socket.AF_UNIX) as line, contextlib.suppress(OutOfRangeError):
        line.connect(address)
        while True:
            line.sendall(pickle.dumps(queue.dequeue_up_to(rng.choice([1, 3, 16, 64]))[:, :2].tolist()) + b"END!")


@pytest.mark.parametrize(("kind", "seed"), [("fifo", 1), ("shuffle", 2)])
def test_each_element_is_delivered_once_whichever_process_is_killed(kind, seed):
    """4 producers, 4 consumers. Two of each are killed at a random point."""
    queue = FIFOQueue(60, "int64", [[16]]) if kind == "fifo" else RandomShuffleQueue(60, 10, "int64", [[16]], seed=seed)
    rng = random.Random(seed)
    per_producer, address = 1500, f"\0line-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        producers = [Other(queue) for _ in range(4)]
        consumers = [Other(queue) for _ in range(4)]
        pieces: list[list[bytes]] = [[] for _ in consumers]
        lines, total, arrived = [], 0, threading.Condition()

        def listen(line, place):
            nonlocal total
            while chunk := line.recv(1 << 16):
                with arrived:
                    pieces[place].append(chunk)
                    total += chunk.count(b"END!")
                    arrived.notify_all()

        for place, consumer in enumerate(consumers):
            consumer.begin(consume, address, seed + place)
            line, _ = listener.accept()
            lines.append((line, Background(listen, line, place)))
        for place, producer in enumerate(producers):  # the first two would continue forever
            producer.begin(produce, place, per_producer if place >= 2 else 1 << 40, seed + place)
        for victim in [consumers[0], producers[0], consumers[1], producers[1]]:
            until = total + rng.randrange(2, 12)
            with arrived:
                assert arrived.wait_for(lambda n=until: total >= n, 60)
            victim.kill()
        for producer in producers[2:]:
            producer.end()
        queue.close()
        for consumer in consumers[2:]:
            consumer.end()
        for line, listening in lines:
            listening.finish()
            line.close()
        for other in producers + consumers:
            other.close()
    got = Counter(
        tuple(pair)
        for chunks in pieces
        for piece in b"".join(chunks).split(b"END!")[:-1]
        for pair in pickle.loads(piece)
    )
    assert max(got.values()) == 1  # no element is delivered twice
    missing = 0
    for place in range(4):
        numbers = sorted(number for producer, number in got if producer == place)
        end = max([0 if place < 2 else per_producer, *(number + 1 for number in numbers[-1:])])
        missing += end - len(numbers)  # all elements before the last delivered one must have been delivered
    assert missing <= 2 * 64  # each killed consumer loses at most its last chunk


def test_queue_deleted_while_last_one_closes_the_hub_does_not_poke():
    """The deletion lists the queue's number. The hub's thread may exit, and its pipe be reused, before the poke."""
    one, two = FIFOQueue(1, "int64", [[]]), FIFOQueue(1, "int64", [[]])
    pickle.dumps([one, two])
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "mpqueue-queues"]
    hub = one.queue_ref.driver.hub
    first, second = (each.queue_ref.driver.number for each in (one, two))
    del one, two
    thread.join(60)
    reused = [end for _ in range(5) for end in os.pipe2(os.O_NONBLOCK)]
    try:
        hub.drop(first)
        hub.drop(second)
        for read_end in reused[::2]:
            with pytest.raises(BlockingIOError):
                os.read(read_end, 1)
    finally:
        for end in reused:
            os.close(end)


CALLS = [
    lambda queue: queue.enqueue(1, timeout=0.01),
    lambda queue: queue.enqueue_many([[1]], timeout=0.01),
    lambda queue: queue.dequeue(timeout=0.01),
    lambda queue: queue.dequeue_many(2, timeout=0.01),
    lambda queue: queue.close(timeout=0.01),
]


def make_queue_with_3():
    queue_processes.kept = queue = FIFOQueue(10, "int32", [()])
    queue.enqueue(3)
    return queue


@contextlib.contextmanager
def stopped_owner():
    """Yield a queue of another process, which is stopped during the block, and check that no element is lost."""
    with Other() as owner:
        queue = owner.ask(make_queue_with_3)
        os.kill(owner.pid, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(owner.pid, os.WUNTRACED)[1])  # its threads run on for a moment
        try:
            yield queue
        finally:
            os.kill(owner.pid, signal.SIGCONT)
        assert queue.dequeue() == 3
        assert queue.size() == 0


@pytest.mark.parametrize("call", CALLS)
def test_first_call_to_a_stopped_owner_ends_at_its_timeout(call):
    answer = pytest.raises(DeadlineExceededError, match=r"did not answer within 0\.01 s: it is busy, or stopped")
    with stopped_owner() as queue, answer:
        call(queue)


def test_signal_handler_ends_the_first_call_to_a_stopped_owner():
    with handling(raising(StruckException), signal.SIGALRM), stopped_owner() as queue, pytest.raises(StruckException):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        queue.dequeue()


@pytest.mark.parametrize("in_a_call", [False, True])
def test_error_in_a_step_of_the_owner_fails_the_calls_of_all_processes(in_a_call, monkeypatch):
    """It is raised in the owner's thread for queues, or in a waiting call of the owner, which serves the others."""
    unhandled = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: unhandled.append(raised.exc_type))
    full, empty = FIFOQueue(1, "int64", [[]]), FIFOQueue(1, "int64", [[]])
    full.enqueue([1])
    with Other(full, empty) as waiting, Other(full, empty) as failing:
        waiting.begin(lambda full, _: full.enqueue([2]))
        in_line(full)
        failing.ask(lambda full, _: full.size())
        hub = full.queue_ref.driver.hub
        with ThreadPoolExecutor(1) as pool:
            if in_a_call:
                leading = pool.submit(empty.dequeue)
                in_line(empty)
            monkeypatch.setattr(steps_of(hub), "take", raising(MemoryError))
            failing.begin(lambda full, _: full.size())
            with pytest.raises(InternalError, match="have failed: MemoryError in a step"):
                waiting.end()
            with pytest.raises(CancelledError):
                failing.end()
            if in_a_call:
                assert type(leading.exception(60)) in {MemoryError, InternalError}
        thread_of(hub).join(60)
        assert unhandled in ([MemoryError], [])
        for call in (lambda: full.enqueue([3]), full.dequeue, empty.dequeue):
            with pytest.raises(InternalError, match="MemoryError"):
                call()
        full.close(cancel_pending_enqueues=True)
        other = FIFOQueue(1, "int64", [[]])  # of a different hub
        with Other(other) as served:
            served.ask(lambda queue: queue.enqueue([5]))
            assert other.dequeue() == 5
