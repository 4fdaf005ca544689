"""A lock that threads take frequently does not pass to a thread that cannot run yet."""

import contextlib
import gc
import signal
import sys
import threading
from pathlib import Path

import pytest
from golden.outcomes import Background
from helpers.injected_exceptions import Struck
from helpers.signal_handlers import handling
from helpers.waits import until
from tf1.helpers.blocking_calls import DEADLOCK_S

from mpqueue.tf1.queues.barging_lock import BargingLock


@pytest.fixture
def no_switch():
    """Keep the running thread running until it sleeps."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(DEADLOCK_S)
    yield
    sys.setswitchinterval(interval)


def sleeper(lock, done):
    """Return a thread that sleeps in the lock."""

    def take():
        with lock.waking, lock:
            done.append(threading.current_thread())

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    status = Path(f"/proc/self/task/{thread.native_id}/status")
    # It waits for the lock, or in rare cases for the interpreter lock.
    until(lambda: "State:\tS" in status.read_text(), "the thread does not sleep")
    return thread


def test_woken_thread_does_not_hold_lock_before_it_runs(no_switch):
    lock, done = BargingLock(), []
    assert lock.acquire()
    thread = sleeper(lock, done)
    lock.release()
    sum(range(3_000_000))  # time enough to wake up, and to receive a lock that passes to sleeping threads
    assert lock.acquire(timeout=0)
    lock.release()
    thread.join(DEADLOCK_S)
    assert done == [thread]


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "contended"])
def test_raising_handler_leaves_lock_free(is_alone):
    """The other thread gets the lock: neither the release nor the wake is lost."""
    lock, is_armed, is_over, count = BargingLock(), False, False, 0

    def raise_struck(*_):
        nonlocal is_armed
        if is_armed:
            is_armed = False
            raise Struck

    def take_again_and_again():
        while True:
            with lock.waking, lock:
                pass

    def take_until_the_end():
        nonlocal count
        while not is_over:
            with lock.waking, lock:
                count += 1

    gc.disable()  # see the test of the locks
    other = None if is_alone else Background(take_until_the_end)
    with handling(raise_struck, signal.SIGALRM):
        try:
            for number in range(300):
                with contextlib.suppress(Struck):
                    is_armed = True
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + number % 20), 0.01)
                    take_again_and_again()
                assert lock.acquire(timeout=DEADLOCK_S), number
                lock.release()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            gc.enable()
            is_over = True
    if other is not None:
        other.finish()
        assert count > 0
