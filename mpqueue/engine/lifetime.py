"""The life cycle of a pipeline: which thread stops it, and when.

    NEW --start--> RUNNING --stop--> STOPPED --> STOPPING --> ENDED
     |                                  ^------------+  an interrupt, before a worker was notified
     +--stop--> ENDED

The copy of a pipeline in a forked child is FOREIGN, whatever state the parent's pipeline had.

Any thread may call `stop`. It unblocks waiting consumers, takes the pipeline's lock, and then stops the workers. A
second `stop` waits for the first. If a signal handler calls `stop` while its thread holds the pipeline's lock, `stop`
only records the request, and the interrupted step stops the pipeline when it ends: see NOTE [ Interrupts ] in
`mpqueue.engine.pipeline`.
"""

import enum
import os
import threading
from collections.abc import Callable

from mpqueue.system.signals.deferred import allow_signals, defer_signals
from mpqueue.system.signals.locks import RLock, acquire, is_owned


class Life(enum.Enum):
    """The states of a pipeline, as in the module's docstring."""

    NEW, RUNNING, STOPPED, STOPPING, ENDED, FOREIGN = range(6)


class Lifetime:
    """The state of one pipeline, and the order of its stops.

    Args:
        lock: The pipeline's lock.

    Attributes:
        deferred_stop: The timeout of a `stop` that is deferred until the interrupted step ends, as a 1-tuple.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self.state = Life.NEW
        self.deferred_stop: tuple[float | None] | None = None
        self._lock, self._stopping = lock, RLock()
        self._pid = os.getpid()

    @property
    def has_ended(self) -> bool:
        """True if this process no longer holds resources of the stream."""
        return self.state in {Life.ENDED, Life.FOREIGN}

    @property
    def is_inside(self) -> bool:
        """True if the calling thread holds the pipeline's lock."""
        return is_owned(self._lock)

    def disown(self, lock: threading.RLock) -> None:
        """Mark this object as a copy in a forked child: the parent owns the workers, and a lock may be held forever."""
        self._lock, self._stopping = lock, RLock()
        self.state = Life.FOREIGN

    def refusal(self) -> RuntimeError:
        """Return the error that a FOREIGN pipeline raises."""
        return RuntimeError(
            "this process was forked while a loader or an enqueuer was running, and cannot use it: its batches belong "
            f"to process {self._pid}. Create a new loader or enqueuer in this process"
        )

    def check_own(self) -> None:
        """Raise a `RuntimeError` in a forked child, because the parent owns the pipeline. Take no lock."""
        if self.state is Life.FOREIGN:
            raise self.refusal()

    def request_stop(self) -> bool:
        """Record a stop; return whether there is anything to stop."""
        if os.getpid() != self._pid:  # in a forked child, a garbage collection may call this before `disown`
            self.state = Life.FOREIGN
        elif self.state is Life.NEW:
            self.state = Life.ENDED
        elif self.state is Life.RUNNING:
            self.state = Life.STOPPED
        return self.state not in {Life.ENDED, Life.FOREIGN}

    def stop(self, timeout_s: float | None, prepare: Callable[[], None], end: Callable[[float | None], None]) -> None:
        """Stop the pipeline, unless another call has stopped it.

        Args:
            timeout_s: Seconds that the workers have to exit.
            prepare: Called under the lock, before ``end``.
            end: Stops the workers, without the lock.

        Raises:
            StopTimeout: Some workers did not exit in time.
        """
        # A deadlock otherwise: this thread may hold the pipeline's lock, and the thread that stops waits for that lock.
        is_inside = self.is_inside
        if not acquire(self._stopping, blocking=not is_inside):
            return  # another thread is stopping the pipeline, and waits for our lock
        try:
            # Checked under the lock: another stop may have done all the work.
            if self.state is Life.STOPPED:
                self._end(timeout_s, prepare, end)
        finally:
            self._stopping.release()

    def _end(self, timeout_s: float | None, prepare: Callable[[], None], end: Callable[[float | None], None]) -> None:
        def prepare_alone() -> None:
            with self._lock:  # consumers that hold it see the stop and leave
                prepare()

        with defer_signals():
            self.state = Life.STOPPING
            try:
                # A signal handler may raise while we wait for the lock. No worker is notified yet, so the state goes
                # back to STOPPED, and the next stop does everything.
                allow_signals(prepare_alone)
            except BaseException:
                self.state = Life.STOPPED
                raise
            try:
                end(timeout_s)
            finally:
                # Also after a StopTimeout: the state is final, and a second stop has no effect.
                self.state = Life.ENDED

    def run_deferred_stop(self, stop: Callable[[float | None], None]) -> None:
        """Run the `stop` that was deferred while this thread held the lock, if there is one.

        Only the outermost holder of the lock runs it, after the release: inside, `stop` would just set its mark again.
        """
        if self.deferred_stop is not None and not self.is_inside:
            # Cleared first, so that a signal handler during this stop can request a new one.
            (timeout_s,), self.deferred_stop = self.deferred_stop, None
            stop(timeout_s)
