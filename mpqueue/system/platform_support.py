"""Abilities of this system, by name: the only module that tests which system it runs on.

mpqueue requires Linux. A sandbox or an old kernel may lack some calls, and so may a Python that was built against an
old C library or old kernel headers.
"""

import os
import signal
import sys

# Anonymous memory files, which can grow.
HAS_MEMORY_FILES = hasattr(os, "memfd_create")
# The calls for pidfds; a sandbox may deny them, see `mpqueue.system.processes.has_pidfds`.
HAS_PIDFD_CALLS = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


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
