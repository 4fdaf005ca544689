"""Abilities of this system, by name: the only module that tests which system it runs on.

mpqueue requires Linux. A sandbox or an old kernel may lack some calls, and so may a Python that was built against an
old C library or old kernel headers.
"""

import os
import signal
import sys

# Anonymous memory files, which can grow.
HAS_MEMORY_FILES = hasattr(os, "memfd_create")
# The calls for pidfds; a sandbox may deny them, see `mpqueue.system.processes.processes.has_pidfds`.
HAS_PIDFD_CALLS = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


_PATCHED = (
    "{0} has replaced threads, sockets or select in this process, and mpqueue needs those of Python: it waits for its "
    "workers in threads, with epoll. Pass workers=0 to a Loader, or run the training in a process that does not call "
    "{1}"
)


def require_unpatched() -> None:
    """Raise a RuntimeError if gevent or eventlet has replaced modules that wait; called before threads start.

    Raises:
        RuntimeError: Threads, sockets or `select` are replaced.
    """
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and any(map(gevent.is_module_patched, ("threading", "_thread", "select", "socket"))):
        raise RuntimeError(_PATCHED.format("gevent", "gevent.monkey.patch_all()"))
    if eventlet is not None and any(map(eventlet.is_monkey_patched, ("thread", "select", "socket"))):
        raise RuntimeError(_PATCHED.format("eventlet", "eventlet.monkey_patch()"))


def require_linux() -> None:
    """Raise an ImportError on other systems than Linux; called when shared memory is imported.

    Raises:
        ImportError: This system is not Linux.
    """
    if sys.platform != "linux":
        raise ImportError(
            "mpqueue requires Linux: its workers share memory through /proc, real-time signals and epoll, got "
            f"{sys.platform}: use a Linux container or virtual machine (WSL on Windows)"
        )
