"""Writes of a process to a descriptor that it had closed: the number now belongs to its connection to a queue's owner."""

import contextlib
import os
import socket
import stat

from mpqueue.tf1.queues.remote import connection

LINE = b"a line of a log\n"


def write_to_the_pipe(queue, data=LINE):
    """Write into the pipe for the records of all processes that use the queue."""
    queue.size()
    os.write(connection(queue.queue_ref.place).memory.pipe, data)


def write_to_the_answers(queue):
    """Write into the socket for the owner's answers. The owner then disconnects this process."""
    queue.size()
    os.write(_socket_of(os.fsencode(queue.queue_ref.place.address.path)), LINE)


def be_disconnected(queue):
    """Write into the socket for answers, and call the queue until that raises the resulting error."""
    write_to_the_answers(queue)
    while True:
        queue.size()


def _socket_of(path):
    """Return the descriptor of the socket that is connected to a path."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the folder's own descriptor is closed by now
            if stat.S_ISSOCK(os.fstat(fd).st_mode) and _peer_of(fd) == path:
                return fd
    raise AssertionError(f"no descriptor is connected to {path}")


def _peer_of(fd):
    with socket.socket(fileno=os.dup(fd)) as one:
        return os.fsencode(one.getpeername()) if one.family == socket.AF_UNIX else b""
