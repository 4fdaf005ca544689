"""Threads in which functions of the user's are called, for stages that ask for them.

All stages of a process that ask for the same number share them; they end when the last of those stages is gone.
"""

import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

# By process, too: a child that is forked has the objects of its parent's threads, and none of the threads.
_pools: "weakref.WeakValueDictionary[tuple[int, int], ThreadPoolExecutor]" = weakref.WeakValueDictionary()
_pools_lock = threading.Lock()


def _unlock() -> None:
    global _pools_lock
    _pools_lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_unlock)


def pool_of(threads: int) -> ThreadPoolExecutor:
    """Return so many threads of this process; they live as long as the pool is held."""
    key = os.getpid(), threads
    with _pools_lock:
        pool = _pools.get(key)
        if pool is None:
            pool = _pools[key] = ThreadPoolExecutor(threads, "mpqueue-map")
        return pool
