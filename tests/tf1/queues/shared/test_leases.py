"""Leases: repeated dequeues need no answers, and each element is delivered once and in order."""

import contextlib
import itertools
import multiprocessing

import numpy as np
import pytest
from helpers.forked_calls import status_of_fork
from helpers.gates import Gate, stop_at
from helpers.injected_exceptions import Strike, Struck
from helpers.queue_processes import Other, in_line, shared

from mpqueue import FIFOQueue, RandomShuffleQueue
from mpqueue.errors import CancelledError, OutOfRangeError
from mpqueue.tf1.queues import client
from mpqueue.tf1.queues.remote import Connection, connection
from mpqueue.tf1.queues.wire import Up

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def _leases_are_given_on_any_processor(monkeypatch):
    monkeypatch.setattr(client, "IS_STRONGLY_ORDERED", True)


def fill(other, numbers):
    """Enqueue in another process, because elements of the owner's threads are never leased."""
    other.ask(lambda q, some: q.enqueue_many([some]), np.array(numbers))


def take(other, count=1):
    return other.ask(lambda q, n: q.dequeue_many(n).tolist(), count)


def lent(queue):
    queue.size()  # reads the records of other processes
    return list(queue.queue_ref.machine.lent)


def holder_of(queue, numbers=range(20)):
    """Return a process that has taken the first two elements and leased the others."""
    other = Other(queue)
    fill(other, numbers)
    assert take(other) + take(other) == list(numbers)[:2]
    assert len(lent(queue)) == len(numbers) - 2
    return other


@contextlib.contextmanager
def lending():
    """Yield a queue with 18 elements, and the process that has leased them."""
    queue = FIFOQueue(50, "int64", [()])
    with holder_of(queue) as other:
        yield queue, other


def test_repeated_dequeues_take_next_elements_without_answers():
    with lending() as (queue, other):
        for number in range(2, 20):
            assert take(other) == [number]
            assert (queue.size(), len(lent(queue))) == (19 - number, 19 - number)


def test_chunks_are_taken_from_lease_and_requested_if_it_is_too_short():
    with shared(FIFOQueue(500, "int64", [()])) as (queue, other):
        fill(other, range(50))
        assert take(other, 10) + take(other, 10) + take(other, 10) == list(range(30))
        assert len(lent(queue)) == 20
        assert take(other, 15) == list(range(30, 45))
        fill(other, range(50, 80))
        assert len(lent(queue)) == 5
        assert take(other, 12) == list(range(45, 57))  # 5 are leased
        assert take(other, 3) == [57, 58, 59]


def test_leased_element_uses_capacity_until_taken():
    queue = FIFOQueue(20, "int64", [()])
    with holder_of(queue) as other, Other(queue) as producer:
        fill(producer, [20, 21])
        assert queue.size() == 20
        producer.begin(lambda q: q.enqueue(22))
        in_line(queue)
        assert len(lent(queue)) == 18
        assert take(other) == [2]
        producer.end()
        assert queue.size() == 20


@pytest.mark.parametrize("taker", ["owner", "another"])
def test_second_consumer_gets_next_element_and_holder_gets_later_ones(taker):
    with lending() as (queue, other), Other(queue) as another:
        for number in range(2, 16, 2):
            assert (queue.dequeue() if taker == "owner" else another.ask(lambda q: q.dequeue())) == number
            assert not lent(queue)
            assert take(other) == [number + 1]
        assert take(other) == [16]
        assert len(lent(queue)) == 3


def test_closed_queue_is_read_to_its_end():
    with lending() as (queue, other):
        queue.close()
        assert take(other, 17) == list(range(2, 19))
        assert other.ask(lambda q: q.dequeue_up_to(5).tolist()) == [19]
        with pytest.raises(OutOfRangeError):
            take(other)


def test_untaken_elements_of_killed_holder_are_next():
    with lending() as (queue, other):
        assert take(other, 3) == [2, 3, 4]
        other.kill()
        assert queue.dequeue_many(15, timeout=30).tolist() == list(range(5, 20))
    hub = queue.queue_ref.driver.hub
    hub.attend()
    hub.pool.collect()
    assert hub.pool.arena.num_used == hub.pool.num_word_blocks


@pytest.mark.parametrize(("when", "first"), [("before", 2), ("after", 3)])
def test_holder_killed_during_a_take_has_taken_the_element_or_not(when, first):
    with Gate() as gate, lending() as (queue, victim):
        address = gate.address
        victim.begin(lambda q: [stop_at(Connection, "send_last", when, address, once=True), q.dequeue()])
        arrival = gate.arrival()
        victim.kill()
        arrival.let_go()
        assert queue.dequeue_many(20 - first, timeout=30).tolist() == list(range(first, 20))


@pytest.mark.parametrize(
    ("when", "mine", "theirs"), [("before", 2, 3), ("after", 3, 2)], ids=["too late", "just in time"]
)
def test_recall_during_take_delivers_element_to_exactly_one_consumer(when, mine, theirs):
    with Gate() as gate, lending() as (queue, other):
        address = gate.address
        other.begin(lambda q: [stop_at(Connection, "send_last", when, address, once=True), int(q.dequeue())])
        arrival = gate.arrival()
        assert queue.dequeue(timeout=30) == mine
        arrival.let_go()
        assert other.end()[1] == theirs
        assert take(other, 3) == [4, 5, 6]
        assert queue.dequeue_many(13, timeout=30).tolist() == list(range(7, 20))


def test_elements_that_cannot_be_leased_are_requested_singly():
    queues = [
        RandomShuffleQueue(50, 0, "int64", [()]),
        FIFOQueue(50, "int64"),
        FIFOQueue(50, "string", [()]),
        FIFOQueue(50, "int64", [()]),
    ]
    with Other(*queues) as other:
        for place, queue in enumerate(queues):
            if place == 3:  # an element of the owner's threads
                queue.enqueue(1)
            other.ask(lambda *qs, at=place: [qs[at].enqueue("1" if at == 2 else 1) for _ in range(9)] and None)
            other.ask(lambda *qs, at=place: [qs[at].dequeue() for _ in range(5)] and None)
            assert not lent(queue)


def test_weakly_ordered_processors_get_no_leases(monkeypatch):
    monkeypatch.setattr(client, "IS_STRONGLY_ORDERED", False)
    with shared(FIFOQueue(50, "int64", [()])) as (queue, other):
        fill(other, range(9))
        assert take(other) + take(other) + take(other) == [0, 1, 2]
        assert not lent(queue)


def test_client_that_takes_more_than_leased_is_disconnected(caplog):
    with lending() as (queue, other):
        other.ask(lambda q: connection(q.queue_ref.place).send(Up.TAKE, q.queue_ref.place.number, 9, 19))
        assert queue.dequeue_many(18, timeout=30).tolist() == list(range(2, 20))
        assert "took 19 elements from a lease of 18" in caplog.text
        with pytest.raises(CancelledError):
            take(other)


@pytest.mark.parametrize("is_recalled", [False, True])
def test_interrupted_take_takes_no_element(is_recalled):
    """At each place where a handler may run, also while the holder waits for the answer to its CONFIRM."""
    queue, (mine, theirs) = FIFOQueue(50, "int64", [()]), multiprocessing.Pipe()
    queue.size()

    def strike_each():
        for after in itertools.count(1):
            queue.enqueue_many([range(8)])
            got = [int(queue.dequeue()) for _ in range(3)]
            if is_recalled:
                theirs.send("recall")
                got.append(theirs.recv())
            with (strike := Strike(after)):
                try:
                    got.append(int(queue.dequeue()))
                except Struck:
                    got.append("struck")
            theirs.send([*got, *queue.dequeue_many(8 - len(got) + ("struck" in got)).tolist()])
            if strike.left > 0:
                theirs.send(None)
                return

    process = multiprocessing.get_context("fork").Process(target=strike_each)
    process.start()
    num_struck = 0
    while mine.poll(60) and (got := mine.recv()) is not None:
        if got == "recall":
            assert len(lent(queue)) == 5
            mine.send(int(queue.dequeue(timeout=60)))
            continue
        num_struck += "struck" in got
        assert [number for number in got if number != "struck"] == list(range(8))
    process.join(60)
    assert process.exitcode == 0
    assert num_struck > 5


def test_channel_of_fork_does_not_share_the_lease():
    with lending() as (_, other):
        assert other.ask(lambda q: status_of_fork(q.dequeue)) == 2
        assert take(other) == [3]


def test_ended_lease_is_not_used_after_failed_call():
    with lending() as (_, other):
        with pytest.raises(Exception, match="did not finish"):
            other.ask(lambda q: q.dequeue_many(40, timeout=0.01))
        assert take(other, 18) == list(range(2, 20))
