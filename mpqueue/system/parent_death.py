"""A pipe whose other end dies with its owner, and takes this process along.

A worker must not outlive its fork server, nor either of them the trainer, not even while user code computes or while
the process is stopped. The read end of a pipe is armed with SIGKILL as its I/O signal: when the last write end is
closed, which the kernel does for a process however it ends, the kernel kills the reader. No thread, no polling, and
unlike a parent-death signal it does not fire when the *thread* that started the child ends. Whoever starts a process
arms it
from outside, too, on an open file that the child inherits: it may be stopped before it runs a line of its own.

Where the kernel has no such signal (macOS), a thread waits for the end-of-file.
"""

import fcntl
import os
import select
import signal
import threading

from mpqueue.system import platform_support

THREAD_NAME = "mpqueue-parent-death"
_F_SETSIG = 10  # Linux; the fcntl module does not name it


def arm(read_end: int, child: int = 0) -> None:
    """Die by SIGKILL as soon as nobody has the write end of this pipe open any more; or let a child of ours do so."""
    if not platform_support.HAS_IO_SIGNALS:
        if child:
            return  # it arms itself, as soon as it runs
        threading.Thread(target=_wait_for_end, args=(read_end,), name=THREAD_NAME, daemon=True).start()
        return
    fcntl.fcntl(read_end, fcntl.F_SETOWN, child or os.getpid())
    fcntl.fcntl(read_end, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(read_end, fcntl.F_SETFL, fcntl.fcntl(read_end, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(read_end, 0)
    if poll.poll(0):  # it was closed before the signal was armed
        os.kill(child or os.getpid(), signal.SIGKILL)


def _wait_for_end(read_end: int) -> None:
    os.read(read_end, 1)
    os.kill(os.getpid(), signal.SIGKILL)
