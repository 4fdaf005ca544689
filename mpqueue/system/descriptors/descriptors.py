"""Descriptors that children forked by user code must not keep.

A worker learns from an end-of-file that its trainer has exited. A forked grandchild that keeps the write end of the
pipe open would hide it. So all pipe ends and sockets of this package are registered here, and closed in every child
that Python forks. (Children that exec lose them anyway, because they are not inheritable.) A worker that this package
forks first adopts its own ends, see `adopt`.

*Standard streams.* A program may have closed its standard streams. The next opened files get their numbers. C code
still prints to these numbers, and a program may replace them by `dup2`: output would go to other processes, into memory
or into a file, or a stream would replace a descriptor that is polled. So every descriptor that is kept here has a
number above the standard streams. Exceptions are files of samples and their indices, which are only read; files that
are open for one statement; and files that the user writes.
"""

import _socket
import contextlib
import fcntl
import os
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mpqueue.system.signals.collected import WhenCollected

_OPEN_FILES = "/proc/self/fd"
_owned: set[int] = set()
_objects: dict[int, Any] = {}  # sockets and epolls. Closed as objects: a later collection would close a reused number


def own(fd: int) -> int:
    """Register a descriptor, and return it with a number above the standard streams."""
    fd = above_standard(fd)
    _owned.add(fd)
    return fd


def reopen(read_end: int) -> int:
    """Open the read end of a pipe again, as a separate non-blocking open file."""
    # A `dup` or a fork would share the open file, with its non-blocking flag and its signal owner.
    return above_standard(open_again(read_end, os.O_RDONLY | os.O_NONBLOCK))


def open_again(fd: int, flags: int) -> int:
    """Open the file of a descriptor again, as a separate open file; the new descriptor is not inheritable.

    Raises:
        OSError: The file cannot be opened with these flags, or /proc does not show this process.
    """
    try:
        return os.open(f"{_OPEN_FILES}/{fd}", flags | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if os.path.isdir(_OPEN_FILES):  # the file itself is missing
            raise
        raise OSError(
            error.errno,
            "/proc is not mounted, or does not show this process: mount it (mount -t proc proc /proc). Without it, "
            'threads (backend="thread") and workers=0 work, but no worker processes and servers',
            _OPEN_FILES,
        ) from None


def close(fd: int) -> None:
    """Close a registered descriptor."""
    # Unregistered first: as soon as the number is free, another thread may get and register it.
    _owned.discard(fd)
    os.close(fd)


def own_object(thing: Any) -> None:
    """Register an object that has its own descriptor (a socket, an epoll)."""
    _objects[id(thing)] = thing


def own_socket(sock: socket.socket) -> socket.socket:
    """Register a new socket, and return it with a number above the standard streams."""
    if sock.fileno() <= 2:
        sock = socket.socket(fileno=above_standard(sock.detach()))
    own_object(sock)
    return sock


def forget_object(thing: Any) -> None:
    """Unregister an object that has a new owner."""
    _objects.pop(id(thing), None)


def close_object(thing: Any) -> None:
    """Close a registered object."""
    thing.close()  # before it is unregistered: after an interrupt here it can be closed again
    _objects.pop(id(thing), None)


def close_with(owner: Any, thing: Any, close: Callable[[Any], object] = _socket.socket.close) -> Callable[[], object]:
    """Close a registered object when its owner is collected, or when the returned function is called.

    Args:
        owner: The owner.
        thing: The object, a socket by default.
        close: The function that closes it.
    """
    return WhenCollected(owner, _close_by, close, thing, at_exit=False).call


def _close_by(close: Callable[[Any], object], thing: Any) -> None:
    close(thing)
    _objects.pop(id(thing), None)


def pipe() -> tuple[int, int]:
    """Create a pipe, register both ends, and return (read end, write end)."""
    read_end, write_end = all_above_standard(os.pipe())
    _owned.update((read_end, write_end))
    return read_end, write_end


def socketpair() -> tuple[socket.socket, socket.socket]:
    """Create two connected sockets, and register the first one."""
    ours, theirs = (socket.socket(fileno=above_standard(end.detach())) for end in socket.socketpair())
    own_object(ours)
    return ours, theirs


def above_standard(fd: int) -> int:
    """Return a duplicate with a number above the standard streams, and close ``fd``; return ``fd`` if it is above."""
    if fd > 2:
        return fd
    try:
        # Not `os.dup`, which takes the lowest free number, possibly that of a closed standard stream. And in one call:
        # before a separate one sets the flag, another thread could start a program that inherits the duplicate.
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def all_above_standard(fds: Sequence[int]) -> list[int]:
    """Return `above_standard` of each descriptor; if no number is left for one, all are closed.

    Raises:
        OSError: No descriptor is left.
    """
    moved: list[int] = []
    try:
        for fd in fds:
            moved.append(above_standard(fd))  # noqa: PERF401 - the moved ones must be known after an error
    except OSError:
        # A pipe that remains open at the number of a standard stream would get the output of C code.
        for fd in (*moved, *fds[len(moved) + 1 :]):
            os.close(fd)
        raise
    return moved


@contextlib.contextmanager
def apart_from_standard() -> Iterator[None]:
    """Reserve the standard streams' numbers inside the context, so that new descriptors get higher ones."""
    # A handler may raise anywhere here, also before the block is entered, or between two closes. An epoll is closed
    # with its last reference, in C and without a warning.
    held: list[select.epoll] = []
    try:
        while not held or held[-1].fileno() <= 2:
            # A new descriptor has the lowest free number. So the first one above 2 shows that all standard numbers are
            # taken.
            held.append(select.epoll())
        yield
    finally:
        held.clear()


def adopt(fds: tuple[int, ...]) -> set[int]:
    """Unregister descriptors that belong to the child that is about to be forked, so that it does not close them.

    Returns: The descriptors that were registered, which the parent must `own` again.
    """
    # Only these: another number would remain registered after its descriptor is closed, and later children would close
    # an unrelated file with the same number.
    noted = _owned.intersection(fds)
    _owned.difference_update(noted)
    return noted


def _close_in_child() -> None:
    for fd in _owned:
        try:
            os.close(fd)
        except OSError:  # closed by its owner while the process forked
            continue
    _owned.clear()
    for thing in _objects.values():
        thing.close()
    _objects.clear()


os.register_at_fork(after_in_child=_close_in_child)
