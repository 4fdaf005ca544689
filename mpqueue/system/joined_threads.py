"""Threads that may be waited for by a main thread whose signal handlers raise, as Ctrl-C's does.

`threading.Thread.join` of Python before 3.13 that is left by such an exception takes the running thread for ended
(since bpo-45274): from then on it returns at once, and whoever frees what the thread uses does so beneath it. Waiting
for an event has no such defect.

These threads keep signals out (see `mpqueue.system.interrupts`). Those of libraries (OpenBLAS has some as soon as NumPy
is imported) let them in, and a signal that one of them takes does not end the wait of the main thread: so that one
looks twice a second.
"""

import errno
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from mpqueue.system import interrupts

_LOOK_S = 0.5


class JoinedThread(threading.Thread):
    """A daemon thread whose `join` can be interrupted, and called again.

    Args:
        target: What it runs.
        name: Of the thread.
    """

    def __init__(self, target: Callable[[], Any], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self._has_run = threading.Event()

    def start(self) -> None:
        """Start the thread.

        Raises:
            OSError: The system has no room for another thread.
            RuntimeError: It was started before, or the interpreter is about to end.
        """
        try:
            super().start()
        except RuntimeError as error:
            if "can't start new thread" not in str(error):
                raise
            raise OSError(errno.EAGAIN, f"{error}; check `ulimit -u` and `ulimit -v`") from error

    def run(self) -> None:
        """Run the target."""
        try:
            interrupts.block_signals()
            super().run()
        finally:
            self._has_run.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, at most so many seconds."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not self._has_run.wait(max(0.0, min(_LOOK_S, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return
        super().join()
