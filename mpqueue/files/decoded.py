"""Decoded parts of files, kept while there is room: row groups of Parquet, compressed record batches of Arrow.

A part costs far more to decode than one of its rows is worth. So each process keeps those that were used last, as many
as fit into a number of bytes; the newest one stays even if it alone is larger. Threads that need the same part wait for
the one that decodes it; others go on. A child process begins with nothing: a lock may have been held in the moment of
the fork, and what the parent decoded stays in memory that both share until one of them lets go of it.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from mpqueue.system.locks import Lock

DEFAULT_BYTES = 256 * 1024 * 1024


class _KeptParts:
    """The parts of one process, those used last at the end."""

    def __init__(self) -> None:
        self.pid, self.lock = os.getpid(), Lock()
        self.parts: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.decoding: dict[Hashable, threading.Lock] = {}
        self.num_bytes = 0
        self.num_dropped = 0


class DecodedParts:
    """A bounded number of bytes of decoded parts for each process; a pickle has none of them.

    Args:
        max_bytes: Of all parts together.

    Raises:
        TypeError: ``max_bytes`` is no integer.
        ValueError: It is below 0.
    """

    def __init__(self, max_bytes: int) -> None:
        if not isinstance(max_bytes, int) or isinstance(max_bytes, bool):
            raise TypeError(f"cache_bytes is a number of bytes, got {max_bytes!r}")
        if max_bytes < 0:
            raise ValueError(f"cache_bytes must be 0 or more, got {max_bytes}")
        self.max_bytes = max_bytes
        self._kept: _KeptParts | None = None

    def __getstate__(self) -> int:
        return self.max_bytes

    def __setstate__(self, state: int) -> None:
        self.max_bytes, self._kept = state, None

    def num_dropped(self) -> int:
        """Return how many parts were dropped in this process, since there was no room for them."""
        return self._of_this_process().num_dropped

    def get(self, key: Hashable, decode: Callable[[], tuple[Any, int]]) -> Any:
        """Return a part.

        Args:
            key: Which one.
            decode: Makes it, and tells its bytes; called if it is not kept. What it raises is raised, and nothing kept.
        """
        kept = self._of_this_process()
        with kept.lock:
            entry = kept.parts.get(key)
            if entry is not None:
                kept.parts.move_to_end(key)
                return entry[0]
            # Noted before the lock is let go: whoever comes next finds it, and waits for that thread alone.
            alone = kept.decoding.setdefault(key, Lock())
        with alone:
            with kept.lock:
                entry = kept.parts.get(key)
                if entry is not None:  # another thread has decoded it meanwhile
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
                # The newest stays, however large: without it each of its rows would decode it anew.
                while kept.num_bytes > self.max_bytes and len(kept.parts) > 1:
                    kept.num_bytes -= kept.parts.popitem(last=False)[1][1]
                    kept.num_dropped += 1
        return part

    def get_kept(self, keys: Sequence[Hashable]) -> list[Any]:
        """Return several parts at the price of one; None in the place of each that is not kept."""
        kept = self._of_this_process()
        found: list[Any] = []
        with kept.lock:
            for key in keys:
                entry = kept.parts.get(key)
                if entry is not None:
                    kept.parts.move_to_end(key)
                found.append(entry and entry[0])
        return found

    def _of_this_process(self) -> _KeptParts:
        kept = self._kept
        if kept is None or kept.pid != os.getpid():
            kept = self._kept = _KeptParts()
        return kept
