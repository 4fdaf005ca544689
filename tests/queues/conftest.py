"""Every test of queues proves that it left no thread behind."""

import threading

import pytest
from helpers.calls import DEADLOCK_S


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLOCK_S)
        assert not thread.is_alive(), f"{thread} is left"
