"""A lock that threads take again and again does not pass to one that cannot run yet."""

import gc
import signal
import sys
import threading

import pytest
from helpers.strikes import Struck
from tf1.helpers.calls import DEADLOCK_S

from mpqueue.tf1.queues.barging_lock import BargingLock


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
        with lock.waking, lock:
            done.append(threading.current_thread())

    begins, take_one = threading.Event(), lock._released.get

    class Released:
        empty, put = lock._released.empty, lock._released.put

        def get(self, timeout):
            begins.set()
            return take_one(timeout=timeout)

    lock._released = Released()
    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    assert begins.wait(DEADLOCK_S)
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
            with lock.waking, lock:
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


def test_a_thread_whose_time_is_over_is_not_woken():
    lock, done = BargingLock(), []
    assert lock.acquire()
    assert not lock.acquire(timeout=0.001)
    thread = sleeper(lock, done)
    assert not lock.acquire(timeout=0)
    lock.release()
    thread.join(DEADLOCK_S)
    assert done == [thread]


def test_a_woken_thread_that_leaves_without_the_lock_wakes_the_next():
    lock, done = BargingLock(), []
    assert lock.acquire()
    thread = sleeper(lock, done)
    lock._lock.release()
    with pytest.raises(Struck), lock.waking:
        raise Struck  # as Ctrl-C in place of the lock
    thread.join(DEADLOCK_S)
    assert done == [thread]


def test_releases_for_which_nobody_sleeps_do_not_add_up():
    lock = BargingLock()
    for _ in range(100):
        with lock.waking, lock:
            pass
    assert lock._released.qsize() == 1


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "contended"])
def test_a_handler_that_raises_leaves_it_free(is_alone):
    """And the other thread gets it: neither a release nor the waking is lost."""
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
    before = signal.signal(signal.SIGALRM, raise_struck)
    other = threading.Thread(target=take_until_the_end, daemon=True)
    try:
        if not is_alone:
            other.start()
        for number in range(300):
            try:
                is_armed = True
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + number % 20), 0.01)
                take_again_and_again()
            except Struck:
                pass
            assert lock.acquire(timeout=DEADLOCK_S), number
            lock.release()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
        is_over = True
    if not is_alone:
        other.join(DEADLOCK_S)
        assert not other.is_alive()
        assert count > 0
