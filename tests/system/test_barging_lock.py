"""A lock that threads take again and again does not pass to one that cannot run yet."""

import sys
import threading

import pytest
from helpers.calls import DEADLOCK_S

from mpqueue.system.barging_lock import BargingLock


@pytest.fixture
def no_switch():
    """The thread that runs goes on until it sleeps."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(DEADLOCK_S)
    yield
    sys.setswitchinterval(interval)


def sleeper(lock, done):
    """A thread that sleeps before the lock."""

    def take():
        with lock:
            done.append(threading.current_thread())

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    while not lock._waiting:
        threading.Event().wait(0.001)
    return thread


def test_a_woken_thread_does_not_hold_the_lock_before_it_runs(no_switch):
    lock, done = BargingLock(), []
    assert lock.acquire()
    thread = sleeper(lock, done)
    lock.release()
    sum(range(3_000_000))  # time enough for it to wake, and to get a lock that is given to sleeping threads
    assert lock.acquire(timeout=0)
    lock.release()
    thread.join(DEADLOCK_S)
    assert done == [thread]


def test_threads_exclude_each_other_and_none_sleeps_for_ever():
    lock, inside, seen = BargingLock(), [], []

    def work(number):
        for _ in range(300):
            with lock:
                inside.append(number)
                sum(range(200))
                seen.append(inside == [number])
                inside.clear()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLOCK_S)
    finally:
        sys.setswitchinterval(interval)
    assert (len(seen), all(seen), any(thread.is_alive() for thread in threads)) == (1800, True, False)


def test_a_thread_whose_time_is_over_leaves_the_line():
    lock, done = BargingLock(), []
    assert lock.acquire()
    assert not lock.acquire(timeout=0.001)
    thread = sleeper(lock, done)
    assert not lock.acquire(timeout=0)
    assert len(lock._waiting) == 1
    lock.release()
    thread.join(DEADLOCK_S)
    assert done == [thread]


def test_a_woken_thread_that_leaves_without_the_lock_wakes_the_next():
    lock, done = BargingLock(), []
    assert lock.acquire()
    thread = sleeper(lock, done)
    gate = threading.Lock()
    gate.acquire()
    lock._waiting.appendleft(gate)
    lock.release()
    assert (gate.locked(), len(lock._waiting)) == (False, 1)
    lock._leave(gate, has_lock=False)  # as after Ctrl-C
    thread.join(DEADLOCK_S)
    assert done == [thread]
