"""Calls that block in a queue, in threads of their own; a test knows when one is asleep, and waits by no clock."""

import threading
from contextlib import contextmanager

from helpers.deadlock import DEADLOCK_S

from mpqueue.tf1.coordination.cancellation import CancellationScope


class Gate(CancellationScope):
    """A scope that tells when a call of it stands in line and goes to sleep."""

    def __init__(self):
        super().__init__()
        self.asleep = threading.Event()

    @contextmanager
    def registered(self, wake):
        with super().registered(wake):
            self.asleep.set()
            yield


class Call:
    """``function(*args, **kwargs)`` in a thread."""

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
        """What it returned, or raised."""
        self.thread.join(DEADLOCK_S)
        assert not self.thread.is_alive(), "the call is still blocked"
        if self._error is not None:
            raise self._error
        return self._value


def blocked(function, *args, **kwargs):
    """A `Call` that is asleep in a queue."""
    call = Call(function, *args, **kwargs)
    assert call.gate.asleep.wait(DEADLOCK_S), "the call did not block"
    return call
