"""Exceptions of signal handlers during queue calls: no element is lost or duplicated, and later calls succeed.

The tests interrupt at each place where Python runs signal handlers, and then at random moments with real signals.
"""

import contextlib
import itertools
import multiprocessing
import pickle
import time

import numpy as np
import pytest
from golden.outcomes import Background
from helpers import injected_exceptions
from helpers.injected_exceptions import Alarms, Struck, each_strike
from helpers.waits import until
from helpers.wrapped_functions import wrap

from mpqueue import FIFOQueue, RandomShuffleQueue
from mpqueue.tf1.queues.shortage import Shortage

pytestmark = pytest.mark.sample(2)

RANDOM_S = 0.5
fork = multiprocessing.get_context("fork")


def fifo(capacity=8):
    return FIFOQueue(capacity, "int64", [()])


def shared(queue):
    pickle.dumps(queue)  # other processes may use the queue from here on: the hub serves it
    return queue


KINDS = {
    "local": fifo,
    "shuffled": lambda capacity=8: RandomShuffleQueue(capacity, 0, "int64", [()]),
    "hub": lambda capacity=8: shared(fifo(capacity)),
    "shuffled hub": lambda capacity=8: shared(RandomShuffleQueue(capacity, 0, "int64", [()])),
}


def unless_struck(function, *arguments, **options):
    """Return the result of a call in a list, or an empty list if it was interrupted."""
    try:
        return [function(*arguments, **options)]
    except Struck:
        return []


@contextlib.contextmanager
def forked(function, *arguments):
    """Run a function in a fork of this process, and check at the end of the block that it ends well."""
    process = fork.Process(target=function, args=arguments)
    process.start()
    yield
    process.join(20)
    assert process.exitcode == 0


def numbers_amid(alarms):
    """Yield numbers for a while, and until a signal has arrived."""
    end = time.monotonic() + RANDOM_S
    return itertools.takewhile(lambda _: time.monotonic() < end or not alarms.count, itertools.count())


def everything(queue):
    """Dequeue the remaining elements in order."""
    count = int(queue.size())
    return queue.dequeue_many(count, timeout=20).tolist() if count else []


@pytest.mark.parametrize("dequeue", [lambda queue: queue.dequeue(), lambda queue: queue.dequeue_many(3)])
@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_dequeue_takes_no_element(kind, dequeue):
    for _, strike in each_strike(least=3):
        queue = KINDS[kind]()
        queue.enqueue_many([range(5)])
        with strike:
            got = unless_struck(dequeue, queue)
        left = everything(queue)
        assert sorted([*np.ravel(got).tolist(), *left]) == [0, 1, 2, 3, 4]
        assert kind.startswith("shuffled") or left == sorted(left)


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_enqueue_enqueues_once_or_not_at_all(kind):
    for _, strike in each_strike(least=3):
        queue = KINDS[kind]()
        queue.enqueue(1)
        with strike:
            done = unless_struck(queue.enqueue, 2)
        queue.enqueue(3, timeout=20)
        found = sorted(everything(queue))
        assert found == [1, 2, 3] if done else found in ([1, 2, 3], [1, 3])


def test_interrupted_enqueue_many_enqueues_a_prefix():
    for _, strike in each_strike(least=3):
        queue = fifo()
        with strike:
            done = unless_struck(queue.enqueue_many, [range(5)])
        found = everything(queue)
        assert found == [0, 1, 2, 3, 4][: 5 if done else len(found)]


@pytest.mark.parametrize("cancel", [False, True])
def test_interrupted_close_has_closed_or_not(cancel):
    for _, strike in each_strike(least=3):
        queue = fifo()
        queue.enqueue(1)
        with strike:
            done = unless_struck(queue.close, cancel_pending_enqueues=cancel)
        assert queue.is_closed() or not done
        assert everything(queue) == [1]


def waiting(queue, call, *arguments):
    """Start a call in a thread, and wait until it blocks in the queue."""
    started = Background(call, *arguments)
    until(lambda: queue.queue_ref.num_waiting, "no call waits")
    return started


@pytest.mark.parametrize("kind", ["local", "hub"])
def test_waiting_call_is_served_although_serving_call_is_interrupted(kind):
    for _, strike in each_strike(5, least=3):
        queue = KINDS[kind](1)
        queue.enqueue(1)
        enqueue = waiting(queue, queue.enqueue, 2)
        with strike:
            got = unless_struck(queue.dequeue)
        first = [int(number) for number in got] or [int(queue.dequeue(timeout=20))]
        enqueue.finish()
        assert [*first, int(queue.dequeue(timeout=20))] == [1, 2]
        assert queue.size() == 0


def test_waiting_dequeue_gets_element_although_enqueue_is_interrupted():
    for _, strike in each_strike(3, least=3):
        queue = fifo()
        dequeue = waiting(queue, queue.dequeue)
        with strike:
            unless_struck(queue.enqueue, 1)
        if queue.queue_ref.num_waiting:  # it was interrupted earlier
            queue.enqueue(1, timeout=20)
        assert dequeue.finish() == 1
        assert queue.size() == 0


def echo(there, back):
    for number in iter(lambda: int(there.dequeue()), -2):
        back.enqueue(number)


@pytest.mark.parametrize("kind", KINDS)
def test_real_signals_at_random_moments_lose_no_element(kind):
    queue, held = KINDS[kind](), set()
    with Alarms(4) as alarms:
        for number in numbers_amid(alarms):
            if alarms.call(queue.enqueue, number) or int(queue.size()) > len(held):
                held.add(number)
            got = alarms.call(queue.dequeue, None) if held else []
            held -= set(map(int, got))
            assert int(queue.size()) == len(held)
            if len(held) == 8:
                assert set(everything(queue)) == held
                held.clear()
    assert set(everything(queue)) == held


def test_real_signals_lose_no_element_on_the_way_through_another_process():
    there, back = fifo(), fifo()
    with forked(echo, there, back):
        with Alarms(5) as alarms:
            for number in numbers_amid(alarms):
                is_in = alarms.call(there.enqueue, number)
                there.enqueue(-1, timeout=20)  # after the others, so that the end is noticed
                came = []
                while -1 not in came:
                    came += map(int, alarms.call(back.dequeue))
                assert came == [number, -1] if is_in else came in ([number, -1], [-1])
        there.enqueue(-2)


def strike_there(there, back, outcome):
    """In another process: pass elements on, with interrupts of both calls."""
    passed, doubtful = [], set()
    with Alarms(6) as alarms:
        while -1 not in (got := [int(each) for each in alarms.call(there.dequeue)]):
            for number in got:
                if not alarms.call(back.enqueue, number):
                    doubtful.add(number)
                passed.append(number)
        outcome.send((passed, doubtful, alarms.count))


def test_real_signals_lose_no_element_in_a_process_that_does_not_own_the_queues():
    there, back = fifo(), fifo(-1)
    mine, theirs = fork.Pipe()
    with forked(strike_there, there, back, theirs):
        end, sent = time.monotonic() + RANDOM_S, 0
        while time.monotonic() < end:
            there.enqueue(sent, timeout=20)
            sent += 1
        there.enqueue(-1, timeout=20)
        assert mine.poll(20)
        passed, doubtful, count = mine.recv()
    assert passed == list(range(sent))
    found = everything(back)
    assert found == sorted(set(found))
    assert set(passed) - doubtful <= set(found)
    assert count


def test_interrupted_remote_call_is_undone():
    queue, (mine, theirs) = fifo(), fork.Pipe()
    queue.enqueue_many([range(5)])

    def strike_each():
        for _, strike in each_strike(7, least=3):
            with strike:
                got = unless_struck(queue.dequeue)
            number = int((got or [queue.dequeue(timeout=20)])[0])
            theirs.send(number)
            queue.enqueue(number + 5, timeout=20)
        theirs.send(None)

    numbers = []
    with forked(strike_each):
        while mine.poll(20) and (number := mine.recv()) is not None:
            numbers.append(number)
    assert numbers == list(range(len(numbers)))
    assert everything(queue) == list(range(len(numbers), len(numbers) + 5))


def test_signal_handlers_see_dequeued_array_unmodified():
    """Views of shared memory, as dequeues return for large elements of other processes."""
    queue = FIFOQueue(4, "int64", [(16384,)])
    with forked(lambda: [queue.enqueue(np.full(16384, number)) for number in range(4)]):
        pass
    for _, strike in each_strike(3, least=3):
        with strike:
            got = unless_struck(queue.dequeue)
        got = got or [queue.dequeue(timeout=20)]
        assert (got[0] == got[0][0]).all()
        queue.enqueue(got[0])
        del got
    assert sorted(int(queue.dequeue(timeout=20)[0]) for _ in range(4)) == [0, 1, 2, 3]


class NeverEmpty(list):
    """A list that seems to contain a waiting call. No Python function tests whether it is empty."""

    def __iter__(self):
        return iter(self[1:])


def test_interrupts_lose_no_element_while_another_process_waits_for_memory(monkeypatch):
    """The polling thread is then woken after the point up to which the element can return."""

    def begin(init, self, *args):
        init(self, *args)
        self.demands = NeverEmpty([None])

    wrap(monkeypatch, Shortage, "__init__", begin)
    # It defers handlers for a finalizer, and must be interrupted, too.
    monkeypatch.setattr(injected_exceptions, "_OF_COLLECTOR", ())
    queue, came, end = FIFOQueue(-1, "int64", [()]), [], time.monotonic() + RANDOM_S
    number = 0
    with Alarms(7) as alarms:
        while time.monotonic() < end or not alarms.count:
            with forked(queue.enqueue_many, [range(number, number + 1000)]):
                number += 1000
            while int(queue.size()):
                came += map(int, alarms.call(queue.dequeue))
    assert came == list(range(number))
    for _, strike in each_strike(least=3):
        queue.enqueue_many([range(2)])
        with strike:
            got = unless_struck(queue.dequeue)
        assert [*map(int, got), *everything(queue)] == [0, 1]
