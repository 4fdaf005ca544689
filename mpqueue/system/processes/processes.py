"""Other processes: how to notice their end, and how to send signals only to them.

A process is identified by its id and by a *sentinel*, a descriptor that becomes readable when the process ends:

    pidfd        if the kernel has them. A signal sent through a pidfd never reaches another process with the same id.
    life pipe    otherwise (Linux before 5.3, sandboxes). The child has its only write end, which the kernel
                 closes when the child ends. An id is reused only after the parent has reaped the child, and the parent
                 reaps it after its sentinel is readable. So until then, the id belongs to the child.

The life pipe has one weakness: a process that the child forks in C code, without exec, keeps the end open. The child's
end is noticed only when both have exited.

Code that forks a child opens a `Birth` first. A parent passes a sentinel to other processes over a socket.
"""

import contextlib
import errno
import functools
import os
import select
import signal
from typing import Self

from mpqueue.system import platform_support
from mpqueue.system.descriptors import descriptors

# Old kernels lack the call. A sandbox, such as an old seccomp profile of Docker, denies it.
_UNAVAILABLE = (errno.ENOSYS, errno.EPERM)
_ENDED, _PF_EXITING = {b"Z", b"X", b"x"}, 0x4  # in /proc/PID/stat: states, and a flag


@functools.cache
def has_pidfds() -> bool:
    """Return whether this system has pidfds and allows their use."""
    if not platform_support.HAS_PIDFD_CALLS:
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        # Another error, such as EMFILE, does not mean that the system lacks the call.
        return error.errno not in _UNAVAILABLE
    return True


def kernel_fields(pid: int) -> list[bytes]:
    """Return the fields of a process in /proc/PID/stat, from the third one (its state) on.

    Raises:
        OSError: The process does not exist or is hidden, or this system is not Linux.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()  # the second field, the name, may have spaces and parentheses


def is_running(pid: int) -> bool:
    """Return whether a process with this id exists and is not exiting.

    A killed process keeps its id until its parent has reaped it, which may happen much later, or never.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it belongs to another user
    try:
        fields = kernel_fields(pid)
    except OSError:  # not Linux, or hidden, or it has just exited
        return True
    # The kernel closes its files before it becomes a zombie. Other processes may have noticed that already.
    return fields[0] not in _ENDED and not int(fields[6]) & _PF_EXITING


class Process:
    """A process, as seen by processes other than its parent.

    Args:
        pid: Its id.
        sentinel: Readable when the process has exited; -1 for none. Owned: closed by `close`.
        machine: The machine that it runs on; empty for this machine.
    """

    __slots__ = ("machine", "pid", "sentinel")

    def __init__(self, pid: int, sentinel: int, machine: str = "") -> None:
        self.pid, self.sentinel, self.machine = pid, sentinel, machine

    def has_ended(self) -> bool:
        """Return whether the process is known to have exited, even if it was not reaped."""
        if self.sentinel < 0:
            return False
        poll = select.poll()
        poll.register(self.sentinel, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, number: int) -> None:
        """Send a signal if the process still exists; it must have a sentinel."""
        with contextlib.suppress(ProcessLookupError):
            if has_pidfds():
                signal.pidfd_send_signal(self.sentinel, number)
            elif not self.has_ended():
                os.kill(self.pid, number)

    def reap_as_init(self) -> None:
        """Reap the process if it has become our child: that is init's duty, and as process 1 we are init."""
        with contextlib.suppress(ChildProcessError):
            if has_pidfds():
                os.waitid(os.P_PIDFD, self.sentinel, os.WEXITED | os.WNOHANG)
            elif os.getpid() == 1:
                os.waitpid(self.pid, os.WNOHANG)

    def __repr__(self) -> str:
        return f"<Process {self.pid}>"


class Birth:
    """The start of a child: a context around the fork that provides the child's sentinel.

    Attributes:
        inherited: Descriptors that the child must inherit; empty with pidfds.

    Raises:
        OSError: No descriptor is left.
    """

    def __init__(self) -> None:
        self._read, self._write = (-1, -1) if has_pidfds() else descriptors.all_above_standard(os.pipe())
        self.inherited = [] if self._write < 0 else [self._write]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The child has its own copy of the write end. With ours open, the pipe would not end with the child.
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)

    def sentinel_of(self, pid: int) -> int:
        """Return the sentinel of the new child; the caller closes it.

        Raises:
            OSError: No descriptor is left. The child was killed, because its exit could not be noticed.
        """
        if self._read >= 0:
            sentinel, self._read = self._read, -1
            return sentinel
        try:
            return os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            # Not through `reap`: no sentinel could be readable. After SIGKILL the wait is short.
            os.waitpid(pid, 0)
            raise

    def be_born(self) -> None:
        """Keep the write end in the child after a fork, and close the read end."""
        if self._read >= 0:
            os.close(self._read)
            descriptors.own(self._write)  # closed in children that user code forks


def reap(pid: int) -> tuple[int, int]:
    """Reap a child with a readable sentinel; return its exit code and its largest resident size in bytes.

    Raises:
        ChildProcessError: The child was reaped already.
    """
    if not has_pidfds():
        os.kill(pid, signal.SIGKILL)  # user code may have closed the life pipe, which counts as the end
    _pid, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
