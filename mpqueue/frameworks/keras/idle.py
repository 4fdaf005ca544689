"""Worker pools that are kept between uses, for a limited time.

A fit loop that stops and starts around every epoch never reports that it is done, and TensorFlow keeps iterated
datasets in memory forever. So a pool that such a loop stops keeps its workers. It is *parked* (its workers end; the
next use starts others) at the first of these events:

- the last reference to it is deleted: its own finalizer parks it, not this module;
- it was idle longer than its patience: a minute, or twice the longest time between two uses, so that the pool of a
  validation is kept through long epochs after the first;
- a new pool of the same source begins, or there are too many pools: a new `fit` has replaced the previous one;
- `mpqueue.shutdown`.

One timer, started by the first use, sleeps until the earliest end of a pool's patience, without polling.
Parking is always safe: a pool that is in use at that moment refuses, and any other pool only loses work done ahead.
After an interrupt, a pool is still watched, and no timer is recorded that was not started.
"""

import abc
import os
import threading
import time
import weakref
from typing import Any

from mpqueue.backends.start import launcher
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.locks import RLock

# Compiling a large model takes half a minute between two batches, and a parked pool must start again.
IDLE_S = 60.0
# Stopped pools next to a new one: a training and its validations.
MAX_STOPPED = 3


class Pool(abc.ABC):
    """A pool that keeps its workers between uses, and can be parked.

    Args:
        source: The source that its workers run.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.last_use, self.patience_s = time.monotonic(), IDLE_S

    @abc.abstractmethod
    def is_running(self) -> bool:
        """Return True between `start` and `stop`."""

    @abc.abstractmethod
    def park(self) -> bool:
        """End the workers until the next use; return False if they are in use at this moment. From any thread."""

    @property
    def patience_ends(self) -> float:
        """Earliest time at which the pool may be parked, by `time.monotonic`."""
        return self.last_use + self.patience_s

    def touch(self) -> None:
        """Record a use of the pool."""
        now = time.monotonic()
        self.patience_s = max(self.patience_s, 2 * (now - self.last_use))
        self.last_use = now


class _Watch:
    """All pools of this process that have workers."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all pools. Also called in a child that the user forks, which has neither the pools nor the timer."""
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        self._lock = RLock()  # reentrant: a garbage collection in here may end a pool
        self._timer: threading.Timer | None = None

    def make_room(self, source: Any) -> None:
        """Park the pools that a new pool of this source replaces, before it begins."""
        stopped = sorted((pool for pool in self._all() if not pool.is_running()), key=lambda pool: -pool.last_use)
        others = [pool for pool in stopped if pool.source is not source]
        self._park([pool for pool in stopped if pool.source is source] + others[MAX_STOPPED:])

    def add(self, pool: Pool) -> None:
        """Watch a pool that has workers."""
        with defer_signals(), self._lock:
            self._pools.add(pool)
            if self._timer is None:
                self._arm(IDLE_S)

    def end(self) -> None:
        """Park all pools now, and cancel the timer."""
        self._park(self._all())
        with self._lock:
            timer = None if self._pools else self._timer
            if timer is None:
                return
            self._timer = None
        timer.cancel()
        if timer is not threading.current_thread():
            timer.join()

    def _all(self) -> list[Pool]:
        with self._lock:
            return list(self._pools)

    def _park(self, pools: list[Pool]) -> None:
        for pool in pools:
            with self._lock:
                self._pools.discard(pool)
            try:
                is_parked = pool.park()
            except BaseException:
                pool.touch()  # otherwise the timer would try again at once, and endlessly
                self.add(pool)  # it may still have its workers
                raise
            if not is_parked:
                pool.touch()
                self.add(pool)

    def _arm(self, delay_s: float) -> None:
        timer = threading.Timer(delay_s, self._look)
        timer.name = "mpqueue-idle"
        timer.daemon = True
        timer.start()
        self._timer = timer  # only now: a timer that could not be started would prevent all later ones

    def _look(self) -> None:
        try:
            self._park([pool for pool in self._all() if pool.patience_ends <= time.monotonic()])
        finally:  # a pool that cannot be parked must not keep the others from being parked
            with self._lock:
                self._timer = None
                # Read the pools once: a second call may return none, because pools are weakly referenced.
                ends = [pool.patience_ends for pool in self._all()]
                if ends:
                    self._arm(max(0.0, min(ends) - time.monotonic()))


_watch = _Watch()
watch, make_room = _watch.add, _watch.make_room
launcher.before_shutdown(_watch.end)
os.register_at_fork(after_in_child=_watch.reset)
