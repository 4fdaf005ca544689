"""The consumers that wait for batches of worker threads: each releases the pipeline's lock and sleeps."""

import contextlib
import threading
from itertools import starmap
from typing import Any

from mpqueue.engine.ledger import Ledger


class WaitingConsumers:
    """The threads that wait for outcomes, and the lock that wakes each of them.

    Args:
        ledger: The ledger of the work items.
        lock: The re-entrant lock that guards the ledger; a waiting thread holds it before and after its wait.

    Attributes:
        heads: The id of the requested work item, by the lock that wakes its consumer.
    """

    def __init__(self, ledger: Ledger, lock: threading.RLock) -> None:
        self._ledger = ledger
        self._lock: Any = lock
        self.heads: dict[threading.Lock, int] = {}

    def sleep(self, head: int, timeout_s: float | None) -> None:
        """Release the lock until this work item (without an order: any) has an outcome, or until `wake`.

        A condition would not suffice: it would miss a `stop` in a signal handler that runs just before the wait.
        """
        # Release all levels of the re-entrant lock, as `threading.Condition` does. In C, so that the state is stored
        # without a gap for a signal.
        states: list[Any] = []
        # Takes the states as they are then, so only a released lock is acquired again.
        take_back = map(self._lock._acquire_restore, states)
        struck: list[BaseException] = []
        # A lock per consumer: releasing it wakes exactly that consumer.
        waker = threading.Lock()
        waker.acquire()
        self.heads[waker] = head
        try:
            if not self._ledger.is_closed:
                states.extend(starmap(self._lock._release_save, ((),)))
                waker.acquire(timeout=-1 if timeout_s is None else timeout_s)
        except BaseException as error:
            struck = [error]
        # Between the `except` and this line, and within it, Python handles no signals: every exit holds the lock.
        _ = [*take_back]
        self.heads.pop(waker, None)
        if struck:
            # Pop it from the list: a local variable would create a cycle of error, frame and backend.
            raise struck.pop()

    def wake(self, work_id: int | None = None) -> None:
        """Wake the consumers of this work item, or all: a needless wake-up costs two thread switches."""
        for waker, head in list(self.heads.items()):
            if work_id is not None and work_id != head and self._ledger.is_ordered:
                continue
            with contextlib.suppress(RuntimeError):  # another thread has released it
                waker.release()
