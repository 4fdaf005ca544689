"""The end of an epoch, for sources that have an `on_epoch_end` of their own.

It is due once the epoch's last batch was handed out. It then runs inside the following `next`, or 0.1 s later in a
one-shot thread if neither `next` nor `stop` was called, so that the next epoch is prepared while the trainer validates.
It does not run at once, because programs read the state of the epoch right after its last batch. An exception of the
hook is raised by the following `next`; the `next` after that opens the next epoch without calling the hook again.
"""

import threading
from collections.abc import Callable
from typing import Any

from mpqueue.system.interrupts import defer_signals

EPOCH_END_DELAY_S = 0.1


class EpochEnd:
    """The end of the present epoch: whether it is due, and its hook. The pipeline calls this under its lock.

    Args:
        hook: Called once per epoch; None: there is nothing to call, and nothing is ever due.
        timed: Finish the epoch by itself after a while.

    Attributes:
        is_due: The next epoch is not opened yet.
        is_calling: The user's hook is at work.
    """

    def __init__(self, hook: Callable[[], Any] | None, *, timed: bool) -> None:
        self.is_due = self.is_calling = False
        self._hook, self._timed = hook, timed
        self._hook_is_due = False
        self._timer: threading.Lock | None = None  # of the one-shot thread: it waits for this to be released

    def fall_due(self, finish: Callable[[], Any]) -> bool:
        """Note that an epoch is over, which ``finish`` will end. Returns False if there is no hook to call."""
        if self._hook is None:
            return False
        self._hook_is_due = self.is_due = True
        if self._timed:
            self._timer = timer = threading.Lock()
            timer.acquire()

            def run() -> None:
                if not timer.acquire(timeout=EPOCH_END_DELAY_S):
                    finish()

            # A handler inside of `Thread.start` could leave a thread behind that nobody has noted.
            with defer_signals():
                threading.Thread(target=run, name="mpqueue-epoch-end", daemon=True).start()
        return True

    def run_hook(self) -> None:
        """Call the hook, if it was not called for this epoch.

        Raises:
            Exception: What the hook raised.
        """
        if not self._hook_is_due or self._hook is None:
            return
        self.is_calling = True
        try:
            self._hook()
        finally:
            # Also if it has raised: it is not called twice for one epoch, the next `next` goes on.
            self.is_calling = self._hook_is_due = False

    def cancel_timer(self) -> None:
        """Stop the timer: another call ends the epoch, or the stream has stopped.

        Not that of `threading`, whose `cancel` takes a lock in Python code: an interrupt behind that would leave it
        held, and the next call would wait for ever.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.release()
