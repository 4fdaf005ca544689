"""Fake queues for readers."""

import threading

from mpqueue.errors import DeadlineExceededError, OutOfRangeError


class FakeQueue:
    """A queue of work units in one process, with the methods that a reader uses."""

    def __init__(self, *units, is_open=False):
        self.units, self.is_open = list(units), is_open
        self.changed = threading.Condition()
        self.num_waiting = 0

    def enqueue(self, unit):
        with self.changed:
            self.units.append(unit)
            self.changed.notify()

    def close(self):
        with self.changed:
            self.is_open = False
            self.changed.notify_all()

    def dequeue(self, *, timeout=None):
        with self.changed:
            self.num_waiting += 1
            self.changed.notify_all()
            ready = self.changed.wait_for(lambda: self.units or not self.is_open, timeout)
            self.num_waiting -= 1
            if not ready:
                raise DeadlineExceededError(None, None, "too late")
            if not self.units:
                raise OutOfRangeError(None, None, "closed and empty")
            return self.units.pop(0)

    def wait_until_blocked(self):
        with self.changed:
            assert self.changed.wait_for(lambda: self.num_waiting, 30)

    def size(self):
        return len(self.units)
