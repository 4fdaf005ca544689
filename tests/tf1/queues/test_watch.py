"""Who listens while calls wait: one leads, the others sleep, and a thread listens when nobody waits."""

import itertools
import threading
import time

import pytest
from tf1.helpers.calls import DEADLOCK_S

from mpqueue.tf1.queues.machine import Request
from mpqueue.tf1.queues.watch import QueueWatch, Waiter
from mpqueue.transport.poller import close_poller


class Gate:
    """A lock that tells of each wait for it."""

    def __init__(self, lock):
        self._lock, self.timeouts, self.is_waited_for = lock, [], threading.Event()

    def acquire(self, timeout):
        self.timeouts.append(timeout)
        self.is_waited_for.set()
        return self._lock.acquire(timeout=timeout)

    def release(self):
        self._lock.release()


class Call:
    """A call in a thread of its own that waits until it is finished."""

    def __init__(self, watch, timeout=None):
        self.request, self.has_begun, self.outcome = Request(), threading.Event(), None
        self._watch, self._timeout = watch, timeout
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()
        assert self.has_begun.wait(DEADLOCK_S)

    def _wait(self):
        self.waiter = Waiter(self._watch)
        self.gate = self.waiter.gate = Gate(self.waiter.gate)
        self.has_begun.set()
        self.outcome = self.waiter.wait(self.request, self._timeout)

    def finish(self):
        self.request.finished = True
        self.waiter.wake()
        return self.end()

    def end(self):
        self._thread.join(DEADLOCK_S)
        assert not self._thread.is_alive()
        return self.outcome


def until(condition):
    """Wait for what a thread will do."""
    deadline = time.monotonic() + DEADLOCK_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def served():
    return []


@pytest.fixture
def watch(served):
    made = QueueWatch(lambda events: served.append((threading.get_ident(), [made.is_poke(fd) for fd, _ in events])))
    yield made
    made.close()
    ended = threading.Thread(target=made.run)  # it keeps signals out of the thread that it runs in
    ended.start()
    ended.join(DEADLOCK_S)  # it returns at once, and closes what it has
    assert not ended.is_alive()


def leading(watch):
    call = Call(watch)
    until(lambda: watch._leader is call.waiter)
    return call


def following(watch, timeout=None):
    call = Call(watch, timeout)
    assert call.gate.is_waited_for.wait(DEADLOCK_S)
    return call


def test_one_leads_and_the_others_sleep_until_they_are_woken(watch, served):
    leader = leading(watch)
    followers = [following(watch) for _ in range(2)]
    assert [call.finish() for call in followers] == [True, True]
    assert [call.gate.timeouts for call in followers] == [[-1], [-1]]
    assert watch._followers == []
    assert leader.finish()
    assert leader.gate.timeouts == []  # it listens instead


def test_who_listens_serves(watch, served):
    leader = leading(watch)
    watch.poke()
    until(lambda: served)
    leader.finish()
    assert {ident for ident, _ in served} == {leader.waiter.thread_id}
    assert served[0][1] == [True]


def test_a_leader_is_woken_although_another_thread_takes_the_poke(watch, served):
    """As the hub's thread may, which began to serve when nobody led."""
    looks, may_look = threading.Event(), threading.Event()

    class Poller:
        def poll(self, timeout):
            looks.set()
            assert may_look.wait(DEADLOCK_S)
            return poller.poll(timeout)

    poller, watch.poller = watch.poller, Poller()
    try:
        leader = leading(watch)
        assert looks.wait(DEADLOCK_S)
        leader.request.finished = True
        leader.waiter.wake()
        assert [watch.is_poke(fd) for fd, _ in poller.poll(0)] == [True]
        may_look.set()
        assert leader.end() is True
    finally:
        watch.poller = poller


def test_a_leader_that_ends_wakes_a_follower_to_lead(watch):
    leader, first, second = leading(watch), following(watch), following(watch)
    leader.finish()
    until(lambda: watch._leader is first.waiter)
    assert watch._followers == [second.waiter]
    first.finish()
    until(lambda: watch._leader is second.waiter)
    second.finish()
    assert watch._leader is None


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_a_wait_ends_with_its_time(watch, timeout):
    assert Call(watch, timeout).end() is False  # as a leader
    leader = leading(watch)
    assert Call(watch, timeout).end() is False
    assert watch._followers == []
    leader.finish()


def test_a_follower_sleeps_no_longer_than_it_may(watch):
    leader, follower = leading(watch), following(watch, DEADLOCK_S)
    follower.finish()
    assert 0 < follower.gate.timeouts[0] <= DEADLOCK_S
    leader.finish()


def test_a_call_that_has_finished_waits_for_nothing(watch):
    request = Request()
    request.finished = True
    assert Waiter(watch).wait(request, None) is True


@pytest.fixture
def listener(served):
    """A watch whose thread runs."""
    watch = QueueWatch(lambda events: served.append((threading.get_ident(), [watch.is_poke(fd) for fd, _ in events])))
    thread = threading.Thread(target=watch.run)
    thread.start()
    watch.run_by = thread.ident
    yield watch
    watch.close()
    thread.join(DEADLOCK_S)
    assert not thread.is_alive()


def test_the_thread_listens_while_nobody_waits(listener, served):
    listener.poke()
    until(lambda: any(True in pokes for _, pokes in served))
    assert threading.get_ident() not in {ident for ident, _ in served}


def test_the_thread_sleeps_under_a_leader_that_stays_and_listens_when_it_has_left(listener, served):
    leader = leading(listener)
    # The thread was listening, and finds that somebody leads: again and again, since the kernel may wake only one of two
    # threads that wait for the same poke, the leader.
    until(lambda: listener.poke() or listener._thread_sleeps)
    leader.finish()
    served.clear()
    listener.poke()
    until(lambda: served)
    assert {ident for ident, _ in served} == {listener.run_by}


def test_the_thread_leaves_what_comes_to_a_loop_of_calls_and_serves_when_that_has_ended(served):
    class Poller:
        """A call begins while the thread waits for the first time, and the watch is closed at the third."""

        num_polls = 0

        def poll(self, timeout=None):
            self.num_polls += 1
            watch.num_calls += self.num_polls == 1
            if self.num_polls == 3:
                watch.close()
            return [(-self.num_polls, 1)]

        def close(self):
            close_poller(poller)

    watch = QueueWatch(served.append)
    poller, watch.poller = watch.poller, Poller()
    thread = threading.Thread(target=watch.run)
    thread.start()
    thread.join(DEADLOCK_S)
    assert served == [[(-2, 1)], [(-3, 1)]]


def test_the_thread_serves_now_and_then_while_calls_come_without_end_and_none_of_them_listens(served):
    class Busy(QueueWatch):
        """A watch that is called anew each time that its thread looks."""

        num_calls = property(lambda _: next(calls), lambda *_: None)

    calls = itertools.count()
    watch = Busy(served.append)
    watch.poke()
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        until(lambda: any(served))
    finally:
        watch.close()
        thread.join(DEADLOCK_S)


def test_the_thread_ends_while_it_sleeps(listener):
    assert listener._lead(Waiter(listener))  # and does not listen: `close` closes what a leader listens to
    listener.poke()
    until(lambda: listener._thread_sleeps)
    listener.close()
