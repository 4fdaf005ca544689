"""Abilities of this system, each under a name: the one place where the package asks which system it runs on.

Linux has them all; a sandbox or an older kernel may lack some. macOS lacks all that are marked "Linux". Nobody has run
the package there: the tests take these calls away on Linux, and go the ways that are left.
"""

import mmap
import os
import select
import signal
import sys

IS_LINUX = sys.platform == "linux"
IS_MACOS = sys.platform == "darwin"

# Linux: /proc/self/fd/N opens the file behind a descriptor once more, with a place and flags of its own. /dev/fd of
# macOS gives the same open file again.
CAN_REOPEN = IS_LINUX
# Linux: a descriptor that becomes readable sends its owner a signal of our choice (F_SETSIG).
HAS_IO_SIGNALS = IS_LINUX
# Linux: /proc/self/task lists the threads that libraries have started, too.
LISTS_THREADS = IS_LINUX
# Linux: MADV_DONTNEED drops one's own copies of mapped pages; elsewhere the same advice drops nothing.
CAN_DROP_PAGES = IS_LINUX
# Linux: MADV_WIPEONFORK, which the mmap module does not name: pages that are cleared in every forked child. Kernels
# before 4.14 and some sandboxes refuse it.
CAN_WIPE_ON_FORK = IS_LINUX
# Linux: a socket's address may be a name that is in no folder.
HAS_ABSTRACT_ADDRESSES = IS_LINUX
# Linux: anonymous memory files, which can grow.
HAS_MEMORY_FILES = hasattr(os, "memfd_create")
HAS_FALLOCATE = hasattr(os, "posix_fallocate")  # Linux: memory is reserved before it is written
HAS_HOLES = hasattr(mmap, "MADV_REMOVE")  # Linux: pages in the middle of a file go back to the system
HAS_EPOLL = hasattr(select, "epoll")
# Linux: the calls for them; a sandbox may refuse, see `mpqueue.system.processes.has_pidfds`.
HAS_PIDFD_CALLS = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")

# Linux: a file is read past the system's cache.
DIRECT: int = getattr(os, "O_DIRECT", 0)
# The bytes in which the largest resident size of a process is counted.
MAXRSS_UNIT = 1 if IS_MACOS else 1024
# Linux: signals that no program uses by itself, so that the user's SIGUSR1 and SIGUSR2 stay free.
HAS_REAL_TIME_SIGNALS = hasattr(signal, "SIGRTMIN")


def require_linux(what: str, needed: str, instead: str) -> None:
    """Refuse a part of the package on other systems, when it is imported.

    Args:
        what: The part.
        needed: The abilities of Linux that it is built on.
        instead: What the user can do.

    Raises:
        ImportError: This is not Linux.
    """
    if not IS_LINUX:
        raise ImportError(f"{what} needs Linux ({needed}), and this is {sys.platform}: {instead}")
