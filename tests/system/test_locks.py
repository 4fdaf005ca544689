"""Locks and the condition: no exception of a signal handler leaves one locked."""

import contextlib
import gc
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.deadlock import DEADLOCK_S
from helpers.injected_exceptions import Struck, each_strike
from helpers.waits import until

from mpqueue.system.signals.condition import Condition
from mpqueue.system.signals.locks import Lock, RLock

ROUNDS, AGAIN_S = 200, 0.01


def is_taken(lock):
    """Return whether another thread cannot acquire a lock."""

    def acquire():
        is_free = lock.acquire(blocking=False)
        if is_free:
            lock.release()
        return is_free

    with ThreadPoolExecutor(1) as pool:
        return not pool.submit(acquire).result()


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_handler_that_raises_leaves_lock_free(kind):
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

    gc.disable()  # exceptions of handlers in callbacks of the collector are ignored: the loop would not end
    before = signal.signal(signal.SIGALRM, raise_struck)
    try:
        for number in range(ROUNDS):
            try:
                is_armed = True
                # Until the interrupt: while the main thread waits for a CPU, the kernel may deliver a signal to another
                # thread, such as OpenBLAS's. Python 3.11 then calls no handler before the GIL is acquired again.
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


def test_change_wakes_all_waiters():
    condition, requested, done = Condition(), [], []
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(condition.wait_for, lambda: requested.append(1) or done) for _ in range(3)]
        until(lambda: len(requested) == 3, "no thread waits")
        with condition:  # acquired only while all of them wait
            done.append(True)
            condition.notify_all()
        for each in waiting:
            each.result(DEADLOCK_S)
    assert len(requested) == 6


def wait(condition):
    condition.wait_for(lambda: False, 0.001)


def change(condition):
    with condition:
        condition.notify_all()


@pytest.mark.parametrize("call", [wait, change])
def test_interrupt_at_any_place_leaves_it_unlocked(call):
    for _, strike in each_strike(least=5):
        condition = Condition()
        with contextlib.suppress(Struck), strike:
            call(condition)
        with ThreadPoolExecutor(1) as pool:  # a condition is re-entrant in this thread
            pool.submit(change, condition).result(DEADLOCK_S)
