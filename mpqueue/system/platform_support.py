"""Abilities of this system, by name: the only module that tests which system it runs on.

Linux has all of them; a sandbox or an old kernel may lack some. macOS lacks those marked "Linux". The package was never
run on macOS: the tests disable these calls on Linux, and run the fallbacks.
"""

import mmap
import os
import select
import signal
import sys

IS_LINUX = sys.platform == "linux"
IS_MACOS = sys.platform == "darwin"

# Linux: /proc/self/fd/N opens the file of a descriptor again, with a separate position and flags. /dev/fd on macOS
# returns the same open file.
CAN_REOPEN = IS_LINUX
# Linux: a descriptor that becomes readable sends its owner a signal of the caller's choice (F_SETSIG).
HAS_IO_SIGNALS = IS_LINUX
# Linux: /proc/self/task lists all threads, including libraries' threads.
LISTS_THREADS = IS_LINUX
# Linux: MADV_DONTNEED drops private copies of mapped pages; on other systems it has no such effect.
CAN_DROP_PAGES = IS_LINUX
# Linux: MADV_WIPEONFORK, which the mmap module does not define: the pages are cleared in every forked child. Kernels
# before 4.14 and some sandboxes do not support it.
CAN_WIPE_ON_FORK = IS_LINUX
# Linux: a socket's address may be a name outside the file system.
HAS_ABSTRACT_ADDRESSES = IS_LINUX
# Linux: anonymous memory files, which can grow.
HAS_MEMORY_FILES = hasattr(os, "memfd_create")
HAS_FALLOCATE = hasattr(os, "posix_fallocate")  # Linux: memory is reserved before it is written
HAS_HOLES = hasattr(mmap, "MADV_REMOVE")  # Linux: pages in the middle of a file are returned to the system
HAS_EPOLL = hasattr(select, "epoll")
# Linux: the calls for pidfds; a sandbox may deny them, see `mpqueue.system.processes.has_pidfds`.
HAS_PIDFD_CALLS = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")

# Linux: reads a file without the page cache.
DIRECT: int = getattr(os, "O_DIRECT", 0)
# The unit of a process's largest resident size, in bytes.
MAXRSS_UNIT = 1 if IS_MACOS else 1024
# Linux: signals that no program uses by default, so that SIGUSR1 and SIGUSR2 remain free for the user.
HAS_REAL_TIME_SIGNALS = hasattr(signal, "SIGRTMIN")


def require_linux(what: str, needed: str, instead: str) -> None:
    """Raise an ImportError on other systems than Linux; called when a part of the package is imported.

    Args:
        what: The part.
        needed: The abilities of Linux that it uses.
        instead: The alternative for the user.

    Raises:
        ImportError: This system is not Linux.
    """
    if not IS_LINUX:
        raise ImportError(f"{what} requires Linux ({needed}), got {sys.platform}: {instead}")
