"""Threads beside which a process may fork.

A child has only the thread that forked; a lock that another one held is held there for ever. So a process with several
threads must not fork, but for threads of libraries that see to it themselves. They are known by the name that they give
to the kernel, the only thing that can be seen of them from outside:

    jemalloc_bg_thd     jemalloc's (pyarrow brings it, and pandas, scikit-learn and TensorFlow may import pyarrow): its
                        handlers, which run around every fork, take all its locks, and the child starts it anew

Elsewhere than on Linux only Python's own threads can be seen, by Python's names. There `mpqueue.system.parent_death`
has a thread of its own, which holds no lock, and which the child starts anew.
"""

import os
import threading
from collections import Counter

from mpqueue.system import platform_support
from mpqueue.system.parent_death import THREAD_NAME

SAFE_NAMES = frozenset({"jemalloc_bg_thd"})
_TASKS = "/proc/self/task"


def unsafe_threads() -> list[str]:
    """Return the names of the threads, but for the main one, beside which this process must not fork."""
    if not platform_support.LISTS_THREADS:
        others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        return sorted(name for name in others if name != THREAD_NAME)
    if os.stat(_TASKS).st_nlink == 3:  # a folder per thread, "." and "..": the usual case, in 2 µs
        return []
    tasks = [int(task) for task in os.listdir(_TASKS)]
    names = [_name_of(task) for task in tasks if task != os.getpid()]
    return sorted(name for name in names if name and name not in SAFE_NAMES)


def counted(names: list[str]) -> str:
    """Return names of threads as text: each once, with its count where there are several of it.

    Threads that a library did not name have the name of the process, which says nothing of them.
    """
    own = _name_of(os.getpid())
    told = [f"{name} ({count})" if count > 1 else name for name, count in Counter(names).items() if name != own]
    num_unnamed = names.count(own)
    return ", ".join([*told, *([f"{num_unnamed} without a name"] if num_unnamed else [])])


def _name_of(task: int) -> str:
    try:
        with open(f"{_TASKS}/{task}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:  # it has ended meanwhile
        return ""
