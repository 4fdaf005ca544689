"""Calls that block in a queue, each in a thread; a test is notified when a call blocks, without polling."""

import threading
from contextlib import contextmanager

from golden.outcomes import Background
from helpers.deadlock import DEADLOCK_S

from mpqueue.tf1.coordination.cancellation import CancellationScope


class Gate(CancellationScope):
    """A scope with an event that is set when one of its calls is about to block."""

    def __init__(self):
        super().__init__()
        self.asleep = threading.Event()

    @contextmanager
    def registered(self, wake):
        with super().registered(wake):
            self.asleep.set()
            yield


class Call(Background):
    """A call ``function(*args, **kwargs)`` in a thread, and the gate that it passes before it blocks."""

    result = Background.finish

    def __init__(self, function, *args, **kwargs):
        self.gate = Gate()
        super().__init__(self._call, function, args, kwargs)

    def _call(self, function, args, kwargs):
        with self.gate.active():
            return function(*args, **kwargs)


def blocked(function, *args, **kwargs):
    """Start a `Call` and wait until it blocks in a queue."""
    call = Call(function, *args, **kwargs)
    assert call.gate.asleep.wait(DEADLOCK_S), "the call did not block"
    return call
