"""A lock is taken by ``with`` and its block entered, or neither, whatever a signal handler raises meanwhile."""

import gc
import signal
import threading

import pytest
from helpers.strikes import Struck

from mpqueue.system.locks import Lock, RLock

ROUNDS, AGAIN_S = 200, 0.01


def is_taken(lock):
    return lock._is_owned() if hasattr(lock, "_is_owned") else lock.locked()


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_a_handler_that_raises_leaves_it_free(kind):
    lock, struck, is_armed = kind(), 0, False

    def raise_struck(*_):
        nonlocal is_armed
        if is_armed:
            is_armed = False
            raise Struck

    def take_again_and_again():
        while True:
            with lock:
                pass

    gc.disable()  # what a handler raises in a callback of the collector is ignored, and the loop would never end
    before = signal.signal(signal.SIGALRM, raise_struck)
    try:
        for number in range(ROUNDS):
            try:
                is_armed = True
                # Until it has struck: while the main thread waits for a CPU, the kernel may give a signal to another one,
                # such as OpenBLAS's. Python 3.11 then calls no handler before the interpreter's lock is taken anew.
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + number % 20), AGAIN_S)
                take_again_and_again()
            except Struck:
                struck += 1
            assert not is_taken(lock), number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
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


def test_threads_wait_for_one_that_is_not_reentrant():
    lock, found = Lock(), []
    with lock:
        assert not lock.acquire(blocking=False)
        other = threading.Thread(target=lambda: found.append(lock.acquire(timeout=60)))
        other.start()
        assert lock.locked() and not found
    other.join()
    assert found == [True]
    lock.release()
    assert not lock.locked()


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_a_condition_waits_with_it(kind):
    changed, began = threading.Condition(kind()), threading.Event()

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
