"""The polling thread while calls wait: one call leads, others sleep, and the hub's thread polls if no call waits."""

import itertools
import threading
from types import SimpleNamespace

import pytest
from golden.outcomes import Background
from helpers.hub_parts import close, is_asleep, serve
from helpers.waits import until
from tf1.helpers.blocking_calls import DEADLOCK_S

from mpqueue.tf1.queues.hub import Hub
from mpqueue.tf1.queues.machine import Request
from mpqueue.tf1.queues.watch import QueueWatch, Waiter


class Gate:
    """A lock that records each wait for it."""

    def __init__(self, lock):
        self._lock, self.timeouts, self.is_waited_for = lock, [], threading.Event()

    def acquire(self, timeout):
        self.timeouts.append(timeout)
        self.is_waited_for.set()
        return self._lock.acquire(timeout=timeout)

    def release(self):
        self._lock.release()


class FinishedOnceChecked(Request):
    """A request that another thread finishes right after the first check whether it has finished."""

    finish, is_over = staticmethod(lambda: None), False

    @property
    def finished(self):
        if self.is_over:
            return True
        self.is_over = True
        self.finish()
        return False


class Call(Background):
    """A call in a separate thread that waits until its request is finished."""

    end = Background.finish

    def __init__(self, watch, timeout=None, request=None):
        self.request, self.has_begun = request or Request(), threading.Event()
        self.watch, self._timeout = watch, timeout
        super().__init__(self._wait)
        assert self.has_begun.wait(DEADLOCK_S)

    def _wait(self):
        self.waiter = Waiter(self.watch)
        self.gate = self.waiter.gate = Gate(self.waiter.gate)
        self.request.finish = self.waiter.wake
        self.has_begun.set()
        return self.waiter.wait(self.request, self._timeout)

    def wake(self):
        """Finish the request, and return the result of the wait for it."""
        self.request.finished = True
        self.waiter.wake()
        return self.end()


@pytest.fixture
def served():
    return []


def recording(served):
    """Return a watch that records the thread of each call that serves, and whether its events are pokes."""
    watch = QueueWatch(lambda events: served.append((threading.get_ident(), [watch.is_poke(fd) for fd, _ in events])))
    return watch


@pytest.fixture
def watch(served):
    made = recording(served)
    yield made
    made.close()
    Background(made.run).finish()  # in a thread that blocks signals, it returns at once and closes its resources


def leads(call, served):
    """Return whether the thread of a call polls, which serves a poke then."""
    return call.watch.poke() or call.waiter.thread_id in {ident for ident, _ in served}


def leading(watch, served):
    call = Call(watch)
    until(lambda: leads(call, served), "the call does not lead")
    return call


def following(watch, timeout=None):
    call = Call(watch, timeout)
    assert call.gate.is_waited_for.wait(DEADLOCK_S)
    return call


def test_one_call_polls_and_serves_while_others_sleep_until_woken(watch, served):
    leader = leading(watch, served)
    followers = [following(watch) for _ in range(2)]
    assert [call.wake() for call in followers] == [True, True]
    assert [call.gate.timeouts for call in followers] == [[-1], [-1]]
    assert leader.wake()
    assert leader.gate.timeouts == []  # it polls instead
    assert {ident for ident, _ in served} == {leader.waiter.thread_id}
    assert served[0][1] == [True]


def test_leader_is_woken_although_another_thread_reads_the_poke(watch, served):
    """The hub's thread may read the poke if it started to serve without a leader."""
    looks, may_look = threading.Event(), threading.Event()

    class Poller:
        def poll(self, timeout):
            looks.set()
            assert may_look.wait(DEADLOCK_S)
            return poller.poll(timeout)

    poller, watch.poller = watch.poller, Poller()
    try:
        leader = Call(watch)
        assert looks.wait(DEADLOCK_S)
        leader.request.finished = True
        leader.waiter.wake()
        assert [watch.is_poke(fd) for fd, _ in poller.poll(0)] == [True]
        may_look.set()
        assert leader.end() is True
    finally:
        watch.poller = poller


def test_finished_leader_wakes_follower_to_lead(watch, served):
    leader, first, second = leading(watch, served), following(watch), following(watch)
    leader.wake()
    until(lambda: leads(first, served), "the call does not lead")
    assert not leads(second, served)
    first.wake()
    until(lambda: leads(second, served), "the call does not lead")
    second.wake()


@pytest.mark.parametrize("has_leader", [True, False])
def test_wait_ends_if_request_finishes_before_it_is_registered(watch, served, has_leader):
    leader = leading(watch, served) if has_leader else None
    call = Call(watch, request=FinishedOnceChecked())
    try:
        assert call.end() is True
    finally:
        if leader is not None:
            leader.wake()


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_wait_ends_at_timeout(watch, served, timeout):
    assert Call(watch, timeout).end() is False  # as a leader
    leader = leading(watch, served)
    assert Call(watch, timeout).end() is False
    leader.wake()


@pytest.fixture
def listener(served):
    """A watch with a running thread."""
    watch = recording(served)
    running = Background(watch.run)
    watch.run_by = running.thread.ident
    yield watch
    watch.close()
    running.finish()


def test_thread_polls_while_no_call_waits(listener, served):
    listener.poke()
    until(lambda: any(True in pokes for _, pokes in served), "no call was poked")
    assert threading.get_ident() not in {ident for ident, _ in served}


def test_thread_sleeps_under_permanent_leader_and_polls_after_it_left(listener, served):
    leader = leading(listener, served)
    # The thread was polling and finds a leader. Repeated, because the kernel may wake only the leader of the two threads
    # that wait for the same poke.
    until(lambda: listener.poke() or is_asleep(listener), "the thread does not sleep")
    leader.wake()
    served.clear()
    listener.poke()
    until(lambda: served, "nobody was served")
    assert {ident for ident, _ in served} == {listener.run_by}


def test_thread_serves_occasionally_during_endless_calls_that_do_not_poll(served):
    class Busy(QueueWatch):
        """A watch that counts a new call each time its thread checks."""

        num_calls = property(lambda _: next(calls), lambda *_: None)

    calls = itertools.count()
    watch = Busy(served.append)
    watch.poke()
    running = Background(watch.run)
    try:
        until(lambda: any(served), "nobody was served")
    finally:
        watch.close()
        running.finish()


def test_step_that_is_deferred_while_a_connection_ends_is_taken_although_a_poke_is_read_then(monkeypatch):
    hub, taken = Hub(lambda _description: 0), []
    try:
        hub.watch.poke()
        ((poke, event),) = hub.watch.poller.poll(0)
        with monkeypatch.context() as patch:
            patch.setattr(hub, "_listener", SimpleNamespace(attend=lambda *_: "client"))
            patch.setattr(hub, "_remove", lambda client: hub.recalls.defer_and_poke(lambda: taken.append(client)))
            serve(hub, [(-1, event), (poke, event)])  # the connection is reported before the poke
            assert taken == []
            events = hub.watch.poller.poll(0)
            assert events  # otherwise the polling thread would sleep until another process sends a record
            serve(hub, events)
            assert taken == ["client"]
    finally:
        close(hub)
        hub.watch.end()
