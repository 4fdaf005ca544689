"""The condition: waits end when something was changed, and no interrupt leaves it locked."""

import contextlib
import itertools
import threading
import time

import pytest
from helpers.strikes import Strike, Struck

from mpqueue.system.condition import Condition

DEADLOCK_S = 60
RANDOM_S = 1.0


def is_free(condition):
    """Whether another thread can take it."""
    found = []

    def look():
        found.append(condition._lock.acquire(blocking=False))
        if found[0]:
            condition._lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


def test_all_that_wait_are_woken_by_a_change():
    condition, done = Condition(), []
    waiting = [threading.Thread(target=lambda: condition.wait_for(lambda: done)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    while len(condition._gates) < 3:
        time.sleep(0.001)
    with condition:
        done.append(True)
        condition.notify_all()
    for thread in waiting:
        thread.join(DEADLOCK_S)
        assert not thread.is_alive()
    assert condition._gates == []


def test_a_wait_goes_on_where_a_change_was_another():
    condition, asked, done = Condition(), [], []
    thread = threading.Thread(target=lambda: condition.wait_for(lambda: asked.append(1) or done))
    thread.start()
    for number in range(1, 4):
        while len(asked) < number or not condition._gates:
            time.sleep(0.001)
        with condition:
            condition.notify_all()
    while len(asked) < 4:
        time.sleep(0.001)
    with condition:
        done.append(True)
        condition.notify_all()
    thread.join(DEADLOCK_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
def test_a_wait_that_was_in_vain_leaves_nothing(timeout):
    condition = Condition()
    assert condition.wait_for(lambda: False, timeout) is False
    assert condition.wait_for(lambda: True, timeout) is True
    assert condition._gates == []


def test_who_has_it_may_take_it_again():
    condition = Condition()
    with condition, condition:
        assert not is_free(condition)
    assert is_free(condition)


def wait(condition):
    condition.wait_for(lambda: False, 0.001)


def change(condition):
    with condition:
        condition.notify_all()


@pytest.mark.parametrize("call", [wait, change])
def test_no_place_at_which_an_interrupt_strikes_leaves_it_locked(call):
    for after in itertools.count(1):
        condition = Condition()
        with contextlib.suppress(Struck), Strike(after) as strike:
            call(condition)
        assert is_free(condition), after
        assert len(condition._gates) <= 1  # of a strike in the clean-up: the next change opens it
        if strike.left > 0:
            break
    assert after > 5
