"""Pools that live on between uses, for a while.

A fit loop that stops and starts around every epoch never says that it is over, and TensorFlow keeps whatever it has
iterated over in memory for good. So a pool that such a loop stops keeps its workers, and is *parked* (they end; the
next use gets others) by whichever of these comes first:

- nobody holds it any more: its own finalizer, not this module;
- it was idle for longer than its patience: a minute, or twice the longest time after which it was asked again, so that
  the pool of a validation survives long epochs once it has seen one;
- a new pool of the same source begins, or one too many: the next `fit` has taken the place of the last;
- `mpqueue.shutdown`.

One timer, armed by the first use, sleeps until the earliest moment at which patience can end; nothing is looked at in
between. Parking is always safe: a pool that is in use at that very moment refuses, any other one loses some work done
ahead. An interrupt leaves a pool watched, and no timer that was never started.
"""

import abc
import os
import threading
import time
import weakref
from typing import Any

from mpqueue.system.interrupts import defer_signals
from mpqueue.system.locks import RLock
from mpqueue.workers import launcher

# The compilation of a big model takes half a minute between two batches, and a pool that comes back begins anew.
IDLE_S = 60.0
# Stopped pools beside a new one: a training and its validations.
MAX_STOPPED = 3


class Pool(abc.ABC):
    """Keeps workers between uses, and can get others.

    Args:
        source: What its workers run.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.last_use, self.patience_s = time.monotonic(), IDLE_S

    @abc.abstractmethod
    def is_running(self) -> bool:
        """Return True between a start and a stop."""

    @abc.abstractmethod
    def park(self) -> bool:
        """End the workers until the next use; False if they are in use at this very moment. From any thread."""

    @property
    def patience_ends(self) -> float:
        """By `time.monotonic`."""
        return self.last_use + self.patience_s

    def touch(self) -> None:
        """It is used now."""
        now = time.monotonic()
        self.patience_s = max(self.patience_s, 2 * (now - self.last_use))
        self.last_use = now


class _Watch:
    """All pools of this process that have workers."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing is watched: also in a child that the user forks, which has neither the pools nor the timer."""
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        self._lock = RLock()  # a garbage collection in here may end a pool that nobody holds
        self._timer: threading.Timer | None = None

    def make_room(self, source: Any) -> None:
        """A new pool of this source is about to begin: park what it takes the place of."""
        stopped = sorted((pool for pool in self._all() if not pool.is_running()), key=lambda pool: -pool.last_use)
        others = [pool for pool in stopped if pool.source is not source]
        self._park([pool for pool in stopped if pool.source is source] + others[MAX_STOPPED:])

    def add(self, pool: Pool) -> None:
        """This pool has workers now."""
        with defer_signals(), self._lock:
            self._pools.add(pool)
            if self._timer is None:
                self._arm(IDLE_S)

    def end(self) -> None:
        """Park all pools now, and forget the timer."""
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
                self.add(pool)  # it may have its workers still
                raise
            if not is_parked:
                pool.touch()
                self.add(pool)

    def _arm(self, delay_s: float) -> None:
        self._timer = threading.Timer(delay_s, self._look)
        self._timer.name = "mpqueue-idle"
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        self._park([pool for pool in self._all() if pool.patience_ends <= time.monotonic()])
        with self._lock:
            self._timer = None
            # Once: a look that finds one, and then another, may find none.
            ends = [pool.patience_ends for pool in self._all()]
            if ends:
                self._arm(max(0.0, min(ends) - time.monotonic()))


_watch = _Watch()
watch, make_room = _watch.add, _watch.make_room
launcher.before_shutdown(_watch.end)
os.register_at_fork(after_in_child=_watch.reset)
