"""A pipe that ends this process when the owner of its write end exits.

A worker must not outlive its fork server, nor either of them the trainer, even while user code computes or while the
process is stopped. The read end of a pipe is armed with SIGKILL as its I/O signal. When the last write end is closed,
which the kernel does for a process however it exits, the kernel kills the reader. This needs no thread and no polling.
Unlike a parent-death signal, it does not fire when the *thread* that started the child ends.

The parent also arms the child from outside, on an open file that the child inherits: the child may be stopped before it
runs its first line.
"""

import fcntl
import os
import select
import signal

_F_SETSIG = 10  # Linux; the fcntl module does not name it


def arm(read_end: int, child: int = 0) -> None:
    """Kill this process, or a child of it, by SIGKILL when the last write end of this pipe is closed."""
    # The owner first. Without one, the kernel would drop a signal that is due as soon as O_ASYNC is set.
    fcntl.fcntl(read_end, fcntl.F_SETOWN, child or os.getpid())
    # The default, SIGIO, can be blocked, ignored or handled by user code.
    fcntl.fcntl(read_end, _F_SETSIG, signal.SIGKILL)
    # By F_SETFL: `open` ignores O_ASYNC.
    fcntl.fcntl(read_end, fcntl.F_SETFL, fcntl.fcntl(read_end, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(read_end, 0)
    if poll.poll(0):  # it was closed before the signal was armed
        os.kill(child or os.getpid(), signal.SIGKILL)
