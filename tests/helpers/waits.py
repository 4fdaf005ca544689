"""Waits for conditions without a notification."""

import sys
import threading
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


def until_main_thread_is_in(function):
    """Wait until the main thread runs the function of this name, or sleeps in it."""
    main = threading.main_thread().ident
    until(lambda: sys._current_frames()[main].f_code.co_name == function, f"the main thread is never in {function}")
