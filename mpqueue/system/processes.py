"""Other processes: how their end is noticed, and how signals to them hit no stranger.

A process is known by its id and by a *sentinel*, a descriptor that is readable as soon as the process has ended:

    pidfd        where the kernel has them. A signal goes through it, and never to another process of the same id.
    life pipe    elsewhere (macOS, Linux before 5.3, sandboxes). Its only write end is the child's, and the kernel
                 closes that with the child. An id is free for others when the parent has reaped the child, and the
                 parent reaps it after its sentinel was readable: so as long as it is not, the id is the child's.

The life pipe has one weakness: a process that the child forks in C code, without exec, keeps the end open; then the
child's end is seen when both have ended.

Whoever forks a child opens a `Birth` before. A parent passes a sentinel on to others over a socket.
"""

import contextlib
import errno
import functools
import os
import select
import signal
from typing import Self

from mpqueue.system import descriptors, platform_support

_UNAVAILABLE = (errno.ENOSYS, errno.EPERM)
_ENDED, _PF_EXITING = {b"Z", b"X", b"x"}, 0x4  # of /proc/PID/stat: states, and a flag


@functools.cache
def has_pidfds() -> bool:
    """Return whether this system has pidfds and lets us use them."""
    if not platform_support.HAS_PIDFD_CALLS:
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return error.errno not in _UNAVAILABLE
    return True


def kernel_fields(pid: int) -> list[bytes]:
    """Return what Linux says of a process in /proc/PID/stat, from the third field, its state, on.

    Raises:
        OSError: There is no such process, or it is hidden from us; or this is not Linux.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()  # the second field, its name, may have spaces and brackets


def is_running(pid: int) -> bool:
    """Return whether there is a process of this id that has not begun to end.

    One that was killed has its id until its parent has reaped it, which may come much later, or never.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    try:
        fields = kernel_fields(pid)
    except OSError:  # elsewhere than on Linux, or hidden from us; or it has gone just now
        return True
    # The kernel closes its files, which is how others notice, before it is a zombie.
    return fields[0] not in _ENDED and not int(fields[6]) & _PF_EXITING


class Process:
    """A process as others than its parent see it.

    Args:
        pid: Its id.
        sentinel: Readable when it has ended; -1 if there is none. Owned: closed by `close`.
        machine: Where it runs; empty: on this machine.
    """

    __slots__ = ("machine", "pid", "sentinel")

    def __init__(self, pid: int, sentinel: int, machine: str = "") -> None:
        self.pid, self.sentinel, self.machine = pid, sentinel, machine

    def has_ended(self) -> bool:
        """Return whether it is known to have ended, whether or not it was reaped."""
        if self.sentinel < 0:
            return False
        poll = select.poll()
        poll.register(self.sentinel, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, number: int) -> None:
        """Send a signal, if it is still there; it needs a sentinel."""
        with contextlib.suppress(ProcessLookupError):
            if has_pidfds():
                signal.pidfd_send_signal(self.sentinel, number)
            elif not self.has_ended():
                os.kill(self.pid, number)

    def reap_as_init(self) -> None:
        """Reap it if it has become our child: as a rule that is init's duty, and as process 1 we are init."""
        with contextlib.suppress(ChildProcessError):
            if has_pidfds():
                os.waitid(os.P_PIDFD, self.sentinel, os.WEXITED | os.WNOHANG)
            elif os.getpid() == 1:
                os.waitpid(self.pid, os.WNOHANG)

    def __repr__(self) -> str:
        return f"<Process {self.pid}>"


class Birth:
    """The start of a child: a context around the fork, out of which the parent gets the child's sentinel.

    Attributes:
        inherited: What the child has to inherit: nothing where there are pidfds.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(self) -> None:
        self._read, self._write = (-1, -1) if has_pidfds() else map(descriptors.above_standard, os.pipe())
        self.inherited = [] if self._write < 0 else [self._write]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)

    def sentinel_of(self, pid: int) -> int:
        """Return the sentinel of the child that was born, which is the caller's to close.

        Raises:
            OSError: There are no descriptors left. Nobody would learn of the child's end, so it was ended.
        """
        if self._read >= 0:
            sentinel, self._read = self._read, -1
            return sentinel
        try:
            return os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def be_born(self) -> None:
        """In the child after a fork: keep the write end, and nothing else."""
        if self._read >= 0:
            os.close(self._read)
            descriptors.own(self._write)  # closed in children that user code forks


def reap(pid: int) -> tuple[int, int]:
    """Reap a child whose sentinel is readable; return how it ended and its largest resident size in bytes.

    Raises:
        ChildProcessError: Somebody else has reaped it.
    """
    if not has_pidfds():
        os.kill(pid, signal.SIGKILL)  # user code may have closed the life pipe, which counts as an end
    _pid, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * platform_support.MAXRSS_UNIT
