"""Cancelling a scope ends the calls that are blocked in it."""

import asyncio
import threading

from mpqueue.errors import CancelledError
from mpqueue.tf1.coordination.cancellation import CancellationScope, cancellable

DEADLOCK_S = 60


class Sleeper:
    """A call that blocks until it is woken, with three events."""

    def __init__(self):
        self.asleep, self.woken, self.error = threading.Event(), threading.Event(), None

    def wake(self, error):
        self.error = error
        self.woken.set()

    def sleep(self):
        with cancellable(self.wake):
            self.asleep.set()
            assert self.woken.wait(DEADLOCK_S)

    def start(self, *scopes):
        def body():
            if not scopes:
                return self.sleep()
            with scopes[0].active():
                return Sleeper.start_inner(self, scopes[1:])

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        assert self.asleep.wait(DEADLOCK_S)
        return thread

    def start_inner(self, scopes):
        if not scopes:
            return self.sleep()
        with scopes[0].active():
            return self.start_inner(scopes[1:])


def test_cancel_wakes_each_blocked_thread():
    scope, sleepers = CancellationScope(), [Sleeper(), Sleeper()]
    threads = [sleeper.start(scope) for sleeper in sleepers]
    scope.cancel("session closed")
    for sleeper, thread in zip(sleepers, threads, strict=True):
        thread.join(DEADLOCK_S)
        assert isinstance(sleeper.error, CancelledError)
        assert sleeper.error.message == "session closed"


def test_call_after_cancel_is_woken_at_once():
    scope, sleeper = CancellationScope(), Sleeper()
    scope.cancel()
    sleeper.start(scope).join(DEADLOCK_S)
    assert isinstance(sleeper.error, CancelledError)


def test_each_of_two_nested_scopes_wakes_the_call():
    for which in range(2):
        scopes, sleeper = [CancellationScope(), CancellationScope()], Sleeper()
        thread = sleeper.start(*scopes)
        scopes[which].cancel(f"scope {which}")
        thread.join(DEADLOCK_S)
        assert sleeper.error.message == f"scope {which}"


def test_call_outside_of_scope_is_not_woken():
    scope, inside, outside = CancellationScope(), Sleeper(), Sleeper()
    threads = [inside.start(scope), outside.start()]
    scope.cancel()
    threads[0].join(DEADLOCK_S)
    assert not outside.woken.is_set()
    outside.woken.set()
    threads[1].join(DEADLOCK_S)
    assert outside.error is None


def test_finished_call_is_not_woken():
    scope, calls = CancellationScope(), []
    with scope.active(), cancellable(calls.append):
        assert repr(scope) == "<CancellationScope 1 blocked>"
    scope.cancel()
    assert calls == []
    assert repr(scope) == "<CancellationScope cancelled>"


def test_only_first_cancel_has_effect():
    scope, calls = CancellationScope(), []
    with scope.active(), cancellable(calls.append):
        scope.cancel("first")
        scope.cancel("second")
    assert [error.message for error in calls] == ["first"]


def test_scope_follows_into_asyncio_thread():
    scope, sleeper = CancellationScope(), Sleeper()

    async def main():
        with scope.active():
            call = asyncio.create_task(asyncio.to_thread(sleeper.sleep))
            assert await asyncio.to_thread(sleeper.asleep.wait, DEADLOCK_S)
            scope.cancel()
            await call

    asyncio.run(main())
    assert isinstance(sleeper.error, CancelledError)
