"""Waits for conditions without a notification."""

import time

from helpers.deadlock import DEADLOCK_S


def until(condition, what, seconds=DEADLOCK_S):
    """Wait for a condition; only a deadlock takes the whole time.

    Raises:
        AssertionError: The time is over; its message is ``what``.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)
