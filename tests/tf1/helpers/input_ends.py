"""Two threads share a reader: one returns the last records to it while the other reaches the end of the input."""

import threading

import pytest

from mpqueue.errors import OutOfRangeError
from mpqueue.tf1.queues.core import QueueCore


def event_at_the_end(monkeypatch):
    """Return an event that is set when a thread has reached the end of the files."""
    at_end, dequeue = threading.Event(), QueueCore.dequeue

    def dequeue_and_signal(core, *arguments):
        try:
            return dequeue(core, *arguments)
        except OutOfRangeError:
            at_end.set()
            raise

    monkeypatch.setattr(QueueCore, "dequeue", dequeue_and_signal)
    return at_end


def all_until_the_end(call):
    """Repeat a call until it raises OutOfRangeError, and return its results."""
    results = []
    with pytest.raises(OutOfRangeError):
        while True:
            results.append(call())
    return results


def reach_the_end_during_a_run(monkeypatch, deadlock_s, keeps):
    """Delay the first run of several records until another thread has reached the end of the files.

    Args:
        monkeypatch: The pytest fixture.
        deadlock_s: Maximum seconds to wait.
        keeps: Number of records of that run that the queue has room for, or None for all.
    """
    at_end, calls, delayed = event_at_the_end(monkeypatch), threading.local(), []
    set_aside = QueueCore.set_aside

    def set_aside_late(core, count):
        calls.number = getattr(calls, "number", 0) + 1
        if calls.number % 2 or count == 1 or delayed:  # each run reserves room before and after it reads
            return set_aside(core, count)
        delayed.append(True)
        assert at_end.wait(deadlock_s)
        return set_aside(core, keeps or count)

    monkeypatch.setattr(QueueCore, "set_aside", set_aside_late)
