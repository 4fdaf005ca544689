"""A cache of decoded parts of files: row groups of Parquet, compressed record batches of Arrow.

Decoding a part costs far more than reading one of its rows. Each process therefore caches the parts that were used
last, up to a number of bytes. The newest part remains even if it alone exceeds the limit. Threads that need the same
part wait for the one that decodes it, and other threads continue.

A child process starts with an empty cache, because a lock may have been held at the time of the fork. Parts that the
parent decoded remain in shared memory until one of the two processes releases them.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from mpqueue.system.locks import Lock

DEFAULT_BYTES = 256 * 1024 * 1024


class _KeptParts:
    """The parts of one process, in the order of last use."""

    def __init__(self) -> None:
        self.pid, self.lock = os.getpid(), Lock()
        self.parts: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.decoding: dict[Hashable, threading.Lock] = {}
        self.num_bytes = 0
        self.num_dropped = 0


class DecodedParts:
    """A cache of decoded parts with a limited size per process. Pickling does not include the parts.

    Args:
        max_bytes: The limit of the total size.

    Raises:
        TypeError: ``max_bytes`` is not an integer.
        ValueError: ``max_bytes`` is negative.
    """

    def __init__(self, max_bytes: int) -> None:
        if not isinstance(max_bytes, int) or isinstance(max_bytes, bool):
            raise TypeError(f"cache_bytes must be an integer, got {max_bytes!r}")
        if max_bytes < 0:
            raise ValueError(f"cache_bytes must be 0 or more, got {max_bytes}")
        self.max_bytes = max_bytes
        self._kept: _KeptParts | None = None

    def __getstate__(self) -> int:
        return self.max_bytes

    def __setstate__(self, state: int) -> None:
        self.max_bytes, self._kept = state, None

    def num_dropped(self) -> int:
        """Return the number of parts that this process dropped because of the limit."""
        return self._of_this_process().num_dropped

    def get(self, key: Hashable, decode: Callable[[], tuple[Any, int]]) -> Any:
        """Return a part.

        Args:
            key: The key of the part.
            decode: A function that returns the part and its size. It is called if the part is not cached. If it raises,
                nothing is cached.
        """
        kept = self._of_this_process()
        with kept.lock:
            entry = kept.parts.get(key)
            if entry is not None:
                kept.parts.move_to_end(key)
                return entry[0]
            # Registered before the lock is released, so that the next thread finds it and waits only for that thread.
            alone = kept.decoding.setdefault(key, Lock())
        with alone:
            with kept.lock:
                entry = kept.parts.get(key)
                if entry is not None:  # another thread has decoded it in the meantime
                    kept.parts.move_to_end(key)
                    return entry[0]
            try:
                part, num_bytes = decode()
            except BaseException:
                with kept.lock:
                    kept.decoding.pop(key, None)
                raise
            with kept.lock:
                kept.decoding.pop(key, None)
                if key not in kept.parts:
                    kept.parts[key] = part, num_bytes
                    kept.num_bytes += num_bytes
                # The newest part remains, however large. Otherwise it would be decoded again for each of its rows.
                while kept.num_bytes > self.max_bytes and len(kept.parts) > 1:
                    kept.num_bytes -= kept.parts.popitem(last=False)[1][1]
                    kept.num_dropped += 1
        return part

    def get_kept(self, keys: Sequence[Hashable]) -> list[Any]:
        """Return several parts with a single lock acquisition; None for each part that is not cached."""
        kept = self._of_this_process()
        parts: list[Any] = []
        with kept.lock:
            for key in keys:
                entry = kept.parts.get(key)
                if entry is not None:
                    kept.parts.move_to_end(key)
                parts.append(entry and entry[0])
        return parts

    def _of_this_process(self) -> _KeptParts:
        kept = self._kept
        if kept is None or kept.pid != os.getpid():
            kept = self._kept = _KeptParts()
        return kept
