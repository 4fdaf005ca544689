"""A coordinator remains usable after a signal handler has raised."""

import contextlib
import functools
import time

from golden.outcomes import Background
from helpers.deadlock import DEADLOCK_S
from helpers.injected_exceptions import Alarms, Struck, each_strike

import mpqueue

RANDOM_S = 0.5


def is_free(coord):
    """Return whether another thread can use the coordinator."""
    return not Background(coord.wait_for_stop, 0).is_blocked(DEADLOCK_S)


def test_raising_handler_never_leaves_coordinator_locked():
    coord, end = mpqueue.Coordinator(), time.monotonic() + RANDOM_S

    def calls():
        for _ in range(20):
            coord.wait_for_stop(0)
            coord.request_stop()
            coord.clear_stop()

    with Alarms(7) as alarms:
        while time.monotonic() < end or alarms.count < 10:
            alarms.call(calls)
            assert is_free(coord)


def test_interrupted_stop_has_called_all_callbacks_or_can_be_requested_again():
    for after, strike in each_strike(least=10):
        coord, called = mpqueue.Coordinator(), []
        for number in range(3):
            coord.add_stop_callback(functools.partial(called.append, number))
        with contextlib.suppress(Struck), strike:
            coord.request_stop()
        coord.request_stop()
        assert called == [0, 1, 2], after
