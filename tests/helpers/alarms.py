"""Signals that end a wait for certain, and raise where a test expects it.

One that is sent once may not end what the main thread waits in: if it comes in the instant before CPython blocks in a
system call, or the kernel gives it to another thread, it is noted, and handled when the call is over. And where the
main thread is when a timer strikes is up to the machine's load: also in a line of the test, or of pytest.
"""

import contextlib
import signal
import threading

from helpers.strikes import StruckByAlarm

AGAIN_S = 0.05


@contextlib.contextmanager
def nudged():
    """Have signals handled that have come: others, that do nothing, end the waits of the main thread again and again."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Alarm(StruckByAlarm):
    """A signal that raises once, in the package's code; until then it comes again and again.

    Args:
        error: What is raised.

    Attributes:
        has_struck: Is set before it is raised.
    """

    def __init__(self, error):
        super().__init__(error)
        self._is_armed, self.has_struck = True, threading.Event()

    def set(self):
        """Have it come from now on; any thread may call this."""
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)

    def _note(self):
        self.has_struck.set()
