"""Descriptors that must not survive in children that users fork.

A forked grandchild that keeps the write end of a pipe open hides the end-of-file that tells a worker that its trainer
is gone. So all pipe ends and sockets of this package are noted here, and closed in every child that Python forks
(children that exec lose them anyway: they are not inheritable). A worker that this package forks adopts its own ends
first, see `adopt`.

A program may have closed its standard streams. Then what is opened next gets their numbers, to which C code prints all
the same, and where a program may put other streams later, by `dup2`: lines of text would come to other processes, into
memory or a file, and a stream would stand where something is waited for. So whatever is kept here has a number above
theirs. Others need not: a file of samples or its index, which is only read, so that no byte comes in; what is open for
one line of ours; and files that the user writes, as in any program.
"""

import _socket
import contextlib
import fcntl
import os
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.system import platform_support

_owned: set[int] = set()
_objects: dict[int, Any] = {}  # sockets and epolls: closed as objects, or their later collection would close a stranger


def own(fd: int) -> int:
    """Note a descriptor; return it, under a number that is none of the standard streams'."""
    fd = above_standard(fd)
    _owned.add(fd)
    return fd


def reopen(read_end: int) -> int:
    """Open the same pipe for reading once more, as an open file of its own, which does not block.

    Not to block, and who is signalled, belongs to the open file, which a `dup` or a fork would share. Elsewhere than on
    Linux there is no such way: there it is a `dup`.
    """
    if not platform_support.CAN_REOPEN:
        return above_standard(os.dup(read_end))
    return above_standard(os.open(f"/proc/self/fd/{read_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def close(fd: int) -> None:
    """Close a noted descriptor."""
    _owned.discard(fd)
    os.close(fd)


def own_object(thing: Any) -> None:
    """Note an object that has a descriptor of its own (a socket, an epoll)."""
    _objects[id(thing)] = thing


def own_socket(sock: socket.socket) -> socket.socket:
    """Note a socket that was just made; return it, under a number that is none of the standard streams'."""
    if sock.fileno() <= 2:
        sock = socket.socket(fileno=above_standard(sock.detach()))
    own_object(sock)
    return sock


def forget_object(thing: Any) -> None:
    """Note an object no more, which somebody else has taken over."""
    _objects.pop(id(thing), None)


def close_object(thing: Any) -> None:
    """Close a noted object."""
    thing.close()  # first: after an interrupt here it is noted still, and may be closed again
    _objects.pop(id(thing), None)


def close_with(owner: Any, sock: socket.socket) -> Callable[[], None]:
    """Close a noted socket when its owner is gone, or when the result is called.

    An interrupt that strikes in a finalizer is lost, and so is the rest of the finalizer. So neither of these runs a
    line of Python that could be left in its middle: they are built in.
    """
    steps = (_socket.socket.close, sock), (_objects.pop, id(sock), sock)  # both hold it: its id stays its own
    finalizers = [weakref.finalize(owner, *step) for step in steps]
    for finalizer in finalizers:
        finalizer.atexit = False

    def close() -> None:
        for finalizer in finalizers:
            finalizer()

    return close


def pipe() -> tuple[int, int]:
    """A pipe whose ends are both noted: (read end, write end)."""
    read_end, write_end = os.pipe()
    return own(read_end), own(write_end)


def socketpair() -> tuple[socket.socket, socket.socket]:
    """Two sockets that are connected; the first is noted."""
    ours, theirs = (socket.socket(fileno=above_standard(end.detach())) for end in socket.socketpair())
    own_object(ours)
    return ours, theirs


def above_standard(fd: int) -> int:
    """The same under a number that is none of the standard streams'; see the module's head."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


@contextlib.contextmanager
def apart_from_standard() -> Iterator[None]:
    """A context in which nothing gets such a number: for what cannot be moved, as the `dup` that a mapping makes."""
    taken: list[int] = []
    try:
        while not taken or taken[-1] <= 2:
            taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield
    finally:
        for fd in taken:
            os.close(fd)


def adopt(fds: tuple[int, ...]) -> set[int]:
    """These belong to the child that is about to be forked: not to be closed in it.

    Returns: Those that were noted, for the parent to `own` again; no others, or a number would stay noted when its
        descriptor is closed, and a stranger that gets the number would be closed in later children.
    """
    noted = _owned.intersection(fds)
    _owned.difference_update(noted)
    return noted


def _close_in_child() -> None:
    for fd in _owned:
        try:
            os.close(fd)
        except OSError:  # closed by its owner in the moment of the fork: what we want
            continue
    _owned.clear()
    for thing in _objects.values():
        thing.close()
    _objects.clear()


os.register_at_fork(after_in_child=_close_in_child)
