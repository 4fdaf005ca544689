"""Threads that do not prevent a fork.

A forked child has only the thread that forked. A lock that another thread held is never released there. So a process
with several threads must not fork, except if the other threads belong to libraries that support forks. These are
recognized by the thread name that the kernel shows, because only that is visible from outside:

    jemalloc_bg_thd     jemalloc's (pyarrow includes it, and pandas, scikit-learn and TensorFlow may import pyarrow).
                        Its handlers run around every fork, acquire all its locks, and restart the thread in the child.

OpenBLAS, which NumPy and SciPy include, starts threads without a name when it is loaded, if the user allows several. It
ends them before each fork, and starts them again when it needs them.
"""

import os
from collections import Counter

SAFE_NAMES = frozenset({"jemalloc_bg_thd"})
_TASKS = "/proc/self/task"


def remaining_threads() -> list[str]:
    """Return the result of `unsafe_threads`, after the threads of OpenBLAS are ended."""
    threads = unsafe_threads()
    # OpenBLAS does not name its threads, so all have the name of the process.
    if len({*threads}) == 1 and any("openblas" in line for line in _mapped_files()):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        threads = unsafe_threads()
    return threads


def unsafe_threads() -> list[str]:
    """Return the names of the threads, except the main one, that prevent this process from forking."""
    if os.stat(_TASKS).st_nlink == 3:  # a folder per thread, "." and "..": the usual case, in 2 µs
        return []
    tasks = [int(task) for task in os.listdir(_TASKS)]
    names = [_name_of(task) for task in tasks if task != os.getpid()]
    return sorted(name for name in names if name and name not in SAFE_NAMES)


def counted(names: list[str]) -> str:
    """Return names of threads as a string: each once, with its count if it is above 1.

    Threads that a library did not name have the process's name, and are counted as unnamed.
    """
    own = _name_of(os.getpid())
    named = [f"{name} ({count})" if count > 1 else name for name, count in Counter(names).items() if name != own]
    num_unnamed = names.count(own)
    return ", ".join([*named, *([f"{num_unnamed} without a name"] if num_unnamed else [])])


def _mapped_files() -> list[str]:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return file.readlines()


def _name_of(task: int) -> str:
    try:
        # The kernel's name and not the one in `threading`, which knows only the threads that Python has started.
        with open(f"{_TASKS}/{task}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:  # it has just ended
        return ""
