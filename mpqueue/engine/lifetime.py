"""The life of a pipeline: from its start to the end of its workers, whoever ends it, and when.

    NEW --start--> RUNNING --stop--> STOPPED --> STOPPING --> ENDED
     |                                  ^------------+  an interrupt, before a worker was notified
     +--stop--> ENDED

A forked child's copy is FOREIGN, whatever it was in the parent.

A `stop` may come from any thread. It frees whoever waits, waits for the lock of the pipeline, and then ends the
workers; a second one waits for the first. One from a signal handler in the middle of our own work (this very thread
holds the lock) only sets a mark, and the work itself stops at its end: see NOTE [ Interrupts ] in
`mpqueue.engine.pipeline`.
"""

import enum
import os
import threading
from collections.abc import Callable

from mpqueue.system.interrupts import allow_signals, defer_signals
from mpqueue.system.locks import RLock


class Life(enum.Enum):
    """The states of the module's head."""

    NEW, RUNNING, STOPPED, STOPPING, ENDED, FOREIGN = range(6)


class Lifetime:
    """The state of one pipeline's life, and the order of its stops.

    Args:
        lock: Of the pipeline.

    Attributes:
        late_stop: The time-out of a `stop` that waits for the end of our own work.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self.state = Life.NEW
        self.late_stop: tuple[float | None] | None = None
        self._lock, self._stopping = lock, RLock()
        self._pid = os.getpid()

    @property
    def is_inside(self) -> bool:
        """True if this very thread holds the pipeline's lock."""
        return self._lock._is_owned()  # type: ignore[attr-defined,no-any-return]  # as threading.Condition does

    def disown(self, lock: threading.RLock) -> None:
        """This is a copy in a forked child: the workers are the parent's, and a lock may be held for ever."""
        self._lock, self._stopping = lock, RLock()
        self.state = Life.FOREIGN

    def refusal(self) -> RuntimeError:
        """Return what a FOREIGN pipeline raises."""
        return RuntimeError(
            "this process was forked while a loader or an enqueuer ran, and cannot use it: its batches belong to "
            f"process {self._pid}. Make a new loader or enqueuer in this process"
        )

    def check_own(self) -> None:
        """Raise a `RuntimeError` in a forked child: the pipeline belongs to its parent. Take no lock."""
        if self.state is Life.FOREIGN:
            raise self.refusal()

    def ask_to_stop(self) -> bool:
        """Note that a stop has come; return whether there is anything to be ended."""
        if os.getpid() != self._pid:  # in a forked child a garbage collection may come before `disown`
            self.state = Life.FOREIGN
        elif self.state is Life.NEW:
            self.state = Life.ENDED
        elif self.state is Life.RUNNING:
            self.state = Life.STOPPED
        return self.state not in {Life.ENDED, Life.FOREIGN}

    def stop(self, timeout_s: float | None, wind_up: Callable[[], None], end: Callable[[float | None], None]) -> None:
        """Stop, now or late.

        Args:
            timeout_s: Seconds that the workers get.
            wind_up: Called under the lock, before the end.
            end: Ends the workers, without the lock.

        Raises:
            StopTimeout: Workers outlived the deadline.
        """
        # Who holds the pipeline's lock must not wait for a stop that waits for this lock.
        is_inside = self.is_inside
        if not self._stopping.acquire(blocking=not is_inside):
            return  # another thread is at it, and waits for our lock
        try:
            # Asked under the lock: a stop that has waited for another one finds nothing left to do.
            if self.state is Life.STOPPED:
                self._end(timeout_s, wind_up, end)
        finally:
            self._stopping.release()

    def _end(self, timeout_s: float | None, wind_up: Callable[[], None], end: Callable[[float | None], None]) -> None:
        def wind_up_alone() -> None:
            with self._lock:  # those who hold it see that they are to leave
                wind_up()

        with defer_signals():
            self.state = Life.STOPPING
            try:
                # A handler may strike in the wait for the lock, where nothing is done yet: then the state goes back,
                # and the next stop does all of it.
                allow_signals(wind_up_alone)
            except BaseException:
                self.state = Life.STOPPED
                raise
            try:
                end(timeout_s)
            finally:
                self.state = Life.ENDED

    def stop_late(self, stop: Callable[[float | None], None]) -> None:
        """Do what a `stop` in the middle of our own work has left to be done."""
        if self.late_stop is not None:
            # Taken out first, so that a handler in the middle of this stop may ask for another.
            (timeout_s,), self.late_stop = self.late_stop, None
            stop(timeout_s)
