"""A lock is taken by ``with`` and its block entered, or neither, whatever a signal handler raises meanwhile."""

import signal
import threading

import pytest
from helpers.strikes import Struck

from mpqueue.system.locks import RLock

ROUNDS = 200


def test_a_handler_that_raises_leaves_it_free():
    lock, struck = RLock(), 0

    def raise_struck(*_):
        raise Struck

    def take_again_and_again():
        while True:
            with lock:
                pass

    before = signal.signal(signal.SIGALRM, raise_struck)
    try:
        for number in range(ROUNDS):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + number % 20))
                take_again_and_again()
            except Struck:
                struck += 1
            assert not lock._is_owned(), number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck == ROUNDS


def test_it_is_reentrant_and_other_threads_wait_for_it():
    lock, found = RLock(), []
    with lock, lock:
        other = threading.Thread(target=lambda: found.append(lock.acquire(blocking=False)))
        other.start()
        other.join()
    assert found == [False] and not lock._is_owned()
    with pytest.raises(ZeroDivisionError), lock:
        1 / 0
    assert not lock._is_owned()


def test_a_condition_waits_with_it():
    changed, began = threading.Condition(RLock()), threading.Event()

    def tell():
        began.wait()
        with changed:  # which is free only once the other waits
            changed.notify()

    other = threading.Thread(target=tell)
    other.start()
    with changed:
        began.set()
        assert changed.wait(60)
    other.join()
