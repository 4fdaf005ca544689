"""Check that no test of queues within one process leaks a thread."""

import threading

import pytest
from tf1.helpers.blocking_calls import DEADLOCK_S


@pytest.fixture(autouse=True)
def no_thread_is_left(request):
    if (
        "shared" in request.path.parts
    ):  # a shared queue's thread exists as long as the queue; the suite's fixture checks it
        yield
        return
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLOCK_S)
        assert not thread.is_alive(), f"{thread} is left"
