"""The condition: a change ends a wait, and no interrupt leaves it locked."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.injected_exceptions import Struck, each_strike
from helpers.waits import until

from mpqueue.system.signals.condition import Condition

DEADLOCK_S = 60


class Other:
    """A thread that acquires a condition."""

    def __init__(self, condition):
        self.condition, self.has_entered = condition, False
        self.thread = threading.Thread(target=self.enter, daemon=True)
        self.thread.start()

    def enter(self):
        with self.condition:
            self.has_entered = True

    def enters(self):
        """Return whether it can acquire the condition."""
        self.thread.join(DEADLOCK_S)
        return self.has_entered


def test_change_wakes_all_waiters():
    condition, requested, done = Condition(), [], []
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(condition.wait_for, lambda: requested.append(1) or done) for _ in range(3)]
        until(lambda: len(requested) == 3, "no thread waits")
        with condition:  # acquired only while all of them wait
            done.append(True)
            condition.notify_all()
        for each in waiting:
            each.result(DEADLOCK_S)
    assert len(requested) == 6


def wait(condition):
    condition.wait_for(lambda: False, 0.001)


def change(condition):
    with condition:
        condition.notify_all()


@pytest.mark.parametrize("call", [wait, change])
def test_interrupt_at_any_place_leaves_it_unlocked(call):
    for after, strike in each_strike(least=5):
        condition = Condition()
        with contextlib.suppress(Struck), strike:
            call(condition)
        assert Other(condition).enters(), after
