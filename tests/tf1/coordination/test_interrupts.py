"""Signals whose handler raises leave a coordinator usable."""

import contextlib
import functools
import itertools
import threading
import time

from helpers.strikes import Alarms, Strike, Struck

import mpqueue

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


def test_no_moment_at_which_a_signal_comes_leaves_a_coordinator_locked():
    coord, end = mpqueue.Coordinator(), time.monotonic() + RANDOM_S

    def calls():
        for _ in range(20):
            coord.wait_for_stop(0)
            coord.request_stop()
            coord.clear_stop()

    with Alarms(7) as alarms:
        while time.monotonic() < end:
            alarms.call(calls)
            assert is_free(coord._changed)
        assert alarms.count > 10


def test_a_stop_that_an_interrupt_strikes_has_called_all_or_can_be_asked_for_again():
    for after in itertools.count(1):
        coord, called = mpqueue.Coordinator(), []
        for number in range(3):
            coord.add_stop_callback(functools.partial(called.append, number))
        with contextlib.suppress(Struck), Strike(after) as strike:
            coord.request_stop()
        coord.request_stop()
        assert called == [0, 1, 2], after
        if strike.left > 0:
            break
    assert after > 10
