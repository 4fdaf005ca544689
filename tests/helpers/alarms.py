"""Repeated signals that reliably interrupt a blocking call, and raise where a test expects it.

A single signal may fail to interrupt the main thread: if it arrives just before CPython blocks in a system call, or if
the kernel delivers it to another thread, it is handled only after the call. The position of the main thread when a
timer expires depends on the load of the machine; it may be in the test or in pytest.
"""

import contextlib
import signal
import threading

from helpers.injected_exceptions import StruckByAlarm

AGAIN_S = 0.05


@contextlib.contextmanager
def nudged():
    """Interrupt the main thread repeatedly with no-op signals, so that pending signals are handled."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Alarm(StruckByAlarm):
    """A repeated signal that raises once, in the package's code.

    Args:
        error: The exception to raise.

    Attributes:
        has_struck: An event that is set before the exception is raised.
    """

    def __init__(self, error):
        super().__init__(error)
        self._is_armed, self.has_struck = True, threading.Event()

    def set(self):
        """Start the timer. Any thread may call this method."""
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)

    def _note(self):
        self.has_struck.set()
