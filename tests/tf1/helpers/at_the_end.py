"""Two threads that share a reader: one has read the last records, and does not keep them, when the other finds the end."""

import threading

from mpqueue.errors import OutOfRangeError
from mpqueue.tf1.queues.core import QueueCore


def meet_the_end_amid_a_run(monkeypatch, deadlock_s, keeps):
    """Have the first run of more than one record go on when another thread has found no further file.

    Args:
        monkeypatch: Pytest's.
        deadlock_s: A bound of the wait.
        keeps: For how many records of that run there is still room; None: for all.
    """
    at_end, calls, held_up = threading.Event(), threading.local(), []
    dequeue, set_aside = QueueCore.dequeue, QueueCore.set_aside

    def dequeue_and_tell(core, *arguments):
        try:
            return dequeue(core, *arguments)
        except OutOfRangeError:
            at_end.set()
            raise

    def set_aside_late(core, count):
        calls.number = getattr(calls, "number", 0) + 1
        if calls.number % 2 or count == 1 or held_up:  # each run asks before it reads, and once more behind that
            return set_aside(core, count)
        held_up.append(True)
        assert at_end.wait(deadlock_s)
        return set_aside(core, keeps or count)

    monkeypatch.setattr(QueueCore, "dequeue", dequeue_and_tell)
    monkeypatch.setattr(QueueCore, "set_aside", set_aside_late)
