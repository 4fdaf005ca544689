"""Waits for conditions without a notification."""

import sys
import threading
import time

from helpers.deadlock import DEADLOCK_S


def comes_true(condition, seconds=DEADLOCK_S):
    """Wait for a condition; return whether it is true before the time is over."""
    end, pause = time.monotonic() + seconds, 0.0001
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)  # no event reports the conditions of this module
        pause = min(2 * pause, 0.01)
    return True


def until(condition, what, seconds=DEADLOCK_S):
    """Wait for a condition; only a deadlock takes the whole time.

    Raises:
        AssertionError: The time is over; its message is ``what``.
    """
    assert comes_true(condition, seconds), what


def settled(read, is_expected, hold_s):
    """Return the value of ``read()`` once it has been an expected one for a time; after a deadlock, its last one."""
    value = since = None

    def has_settled():
        nonlocal value, since
        value, now = read(), time.monotonic()
        since = None if not is_expected(value) else now if since is None else since
        return since is not None and now - since >= hold_s

    comes_true(has_settled)
    return value


def until_main_thread_is_in(function):
    """Wait until the main thread runs the function of this name, or sleeps in it."""
    main = threading.main_thread().ident
    until(lambda: sys._current_frames()[main].f_code.co_name == function, f"the main thread is never in {function}")
