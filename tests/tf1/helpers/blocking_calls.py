"""Calls that block in a queue, each in a thread; a test is notified when a call blocks, without polling."""

import threading
from contextlib import contextmanager

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


class Call:
    """A call ``function(*args, **kwargs)`` in a thread."""

    def __init__(self, function, *args, **kwargs):
        self.gate, self._value, self._error = Gate(), None, None
        self.thread = threading.Thread(target=self._run, args=(function, args, kwargs), daemon=True)
        self.thread.start()

    def _run(self, function, args, kwargs):
        try:
            with self.gate.active():
                self._value = function(*args, **kwargs)
        except BaseException as error:
            self._error = error

    def result(self):
        """Return the result of the call, or raise its exception."""
        self.thread.join(DEADLOCK_S)
        assert not self.thread.is_alive(), "the call is still blocked"
        if self._error is not None:
            raise self._error
        return self._value


def blocked(function, *args, **kwargs):
    """Start a `Call` and wait until it blocks in a queue."""
    call = Call(function, *args, **kwargs)
    assert call.gate.asleep.wait(DEADLOCK_S), "the call did not block"
    return call
