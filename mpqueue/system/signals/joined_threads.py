"""Threads that a main thread can join although its signal handlers raise, as Ctrl-C's does.

If such an exception interrupts `threading.Thread.join` before Python 3.13, the running thread counts as ended
(since bpo-45274): `join` returns at once from then on, and the caller frees resources that the thread uses. Waiting for
an event has no such defect.

These threads block signals (see `mpqueue.system.signals.masks`). Threads of libraries do not (OpenBLAS starts some
when NumPy is imported). A signal that such a thread receives does not end the wait of the main thread, so `join` wakes
up twice a second.
"""

import errno
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from mpqueue.system.signals import masks

_LOOK_S = 0.5


def start_thread(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        OSError: The system cannot start another thread.
        RuntimeError: The thread was started before, or the interpreter is exiting.
    """
    try:
        threading.Thread.start(thread)
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        # The errno of `pthread_create` for a lack of threads or memory; CPython reports only this text.
        raise OSError(errno.EAGAIN, f"{error}; check `ulimit -u` and `ulimit -v`") from error


class JoinedThread(threading.Thread):
    """A daemon thread with a `join` that can be interrupted, and called again.

    Args:
        target: The function to run.
        name: Name of the thread.
    """

    def __init__(self, target: Callable[[], Any], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self._has_run = threading.Event()

    def start(self) -> None:
        """Start the thread.

        Raises:
            OSError: The system cannot start another thread.
            RuntimeError: The thread was started before, or the interpreter is exiting.
        """
        start_thread(self)

    def run(self) -> None:
        """Run the target."""
        try:
            masks.block_signals()
            super().run()
        finally:
            self._has_run.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread ends, or for ``timeout`` seconds."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not self._has_run.wait(max(0.0, min(_LOOK_S, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return
        # The target has returned, so this wait is short.
        super().join()
