"""A cache of each process: open files, decoded parts such as row groups of Parquet, and blocks of a shuffle.

Decoding a part costs far more than reading one of its rows. Each process therefore caches the values that were used
last, up to a total size. The newest value remains even if it alone exceeds the limit. Threads that need the same value
wait for the one that makes it, and other threads continue.

A child process starts with an empty cache, because a lock may have been held at the time of the fork. Parts that the
parent decoded remain in shared memory until one of the two processes releases them.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from mpqueue.system.signals.locks import Lock

DEFAULT_BYTES = 256 * 1024 * 1024


class _KeptValues:
    """The values of one process with their sizes, in the order of last use."""

    def __init__(self) -> None:
        self.pid, self.lock = os.getpid(), Lock()
        self.values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.making: dict[Hashable, threading.Lock] = {}
        self.size = 0
        self.num_dropped = 0


class ProcessCache:
    """A cache of values with a limited total size per process. Pickling does not include the values.

    Args:
        max_size: The limit of the total size.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._kept: _KeptValues | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}

    def num_dropped(self) -> int:
        """Return the number of values that this process dropped because of the limit."""
        return self._of_this_process().num_dropped

    def get(self, key: Any, make: Callable[[Any], tuple[Any, int]]) -> Any:
        """Return a value.

        Args:
            key: The key of the value.
            make: A function that returns the value for the key, and its size. It is called if the value is not cached.
                If it raises, no value is cached.
        """
        kept = self._of_this_process()
        with kept.lock:
            entry = kept.values.get(key)
            if entry is not None:
                kept.values.move_to_end(key)
                return entry[0]
            # Registered before the lock is released, so that the next thread finds it and waits only for that thread.
            alone = kept.making.setdefault(key, Lock())
        with alone:
            with kept.lock:
                entry = kept.values.get(key)
            if entry is not None:  # another thread has made it in the meantime
                return entry[0]
            try:
                value, size = make(key)
                with kept.lock:
                    if key not in kept.values:
                        kept.values[key] = value, size
                        kept.size += size
                    # The newest value remains, however large. Otherwise a group would be decoded again for each row.
                    while kept.size > self.max_size and len(kept.values) > 1:
                        kept.size -= kept.values.popitem(last=False)[1][1]
                        kept.num_dropped += 1
            finally:
                with kept.lock:
                    kept.making.pop(key, None)
        return value

    def get_kept(self, keys: Sequence[Hashable]) -> list[Any]:
        """Return several values with a single lock acquisition; None for each value that is not cached."""
        kept = self._of_this_process()
        values: list[Any] = []
        with kept.lock:
            for key in keys:
                entry = kept.values.get(key)
                if entry is not None:
                    kept.values.move_to_end(key)
                values.append(entry and entry[0])
        return values

    def _of_this_process(self) -> _KeptValues:
        kept = self._kept
        if kept is None or kept.pid != os.getpid():
            kept = self._kept = _KeptValues()
        return kept
