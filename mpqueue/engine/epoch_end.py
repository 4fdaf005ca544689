"""The end of an epoch, for sources that have their own `on_epoch_end`.

The epoch end is due once the epoch's last batch is counted, and waits until the user has got that batch. It runs inside
the following `next`. If neither `next` nor `stop` is called within 0.1 s, a one-shot thread runs it, so that the next
epoch is prepared while the trainer validates. It does not run at once, because programs read the state of the epoch
right after its last batch.

If the hook raises, the following `next` raises the exception. The `next` after that opens the next epoch without
calling the hook again.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from mpqueue.system.signals.deferred import defer_signals

EPOCH_END_DELAY_S = 0.1


class EpochEnd:
    """The end of the current epoch: whether it is due, and its hook. The pipeline calls all methods under its lock.

    Args:
        hook: Called once per epoch; None for no hook: an epoch end is never due.
        timed: Run the hook in a one-shot thread after 0.1 s.

    Attributes:
        is_due: The next epoch is not opened yet.
        is_calling: The user's hook is running.
    """

    def __init__(self, hook: Callable[[], Any] | None, *, timed: bool) -> None:
        self.is_due = self.is_calling = False
        self._hook, self._timed = hook, timed
        self._hook_is_due = False
        self._timer: threading.Lock | None = None  # the one-shot thread waits until this lock is released

    def mark_due(self) -> bool:
        """Record that all batches of an epoch are counted. Return False without a hook."""
        if self._hook is None:
            return False
        self._hook_is_due = self.is_due = True
        return True

    def start_timer(self, finish: Callable[[], Any]) -> None:
        """Call ``finish`` in 0.1 s, unless another call ends the epoch before."""
        self.cancel_timer()
        if not self._timed:
            return
        self._timer = timer = threading.Lock()
        timer.acquire()

        def run() -> None:
            # The release of the lock cancels the thread, as `cancel_timer` does.
            if not timer.acquire(timeout=EPOCH_END_DELAY_S):
                finish()

        # A signal handler that raises inside `Thread.start` could leave a running thread that is not recorded.
        # Without a thread ("can't start new thread"), the following `next` runs the hook.
        with defer_signals(), contextlib.suppress(RuntimeError):
            threading.Thread(target=run, name="mpqueue-epoch-end", daemon=True).start()

    def forget(self) -> None:
        """Record that the epoch is not over after all: some of its batches are delivered again."""
        self.cancel_timer()
        self.is_due = self._hook_is_due = False

    def run_hook(self) -> None:
        """Call the hook, unless it was already called for this epoch.

        Raises:
            Exception: The exception that the hook raised.
        """
        if not self._hook_is_due or self._hook is None:
            return
        self.is_calling = True
        try:
            self._hook()
        finally:
            # Also after an exception: the hook runs once per epoch, and the next `next` continues.
            self.is_calling = self._hook_is_due = False

    def cancel_timer(self) -> None:
        """Cancel the timer, because another call ends the epoch or the stream has stopped."""
        # Not `threading.Timer`: its `cancel` takes a lock in Python code. An interrupt right after that would leave
        # the lock held, and the next call would hang.
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.release()
