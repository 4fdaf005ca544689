"""Messages between trainer and nursery, over one socket pair: a kind, a pickled body, and descriptors.

    [ kind: 1 byte ][ descriptors: 1 byte ][ body: 8 bytes of length ] body

The big arrays of a source are in shared memory, of which only descriptors are sent.

To the nursery                                         From the nursery
--------------                                         ----------------
SETTINGS  working directory, sys.path, environment     FORKED  (worker's key, pid)
SOURCE    pickle, places of buffers, new memory        EXITED  (worker's key, wait status, peak bytes)
FORK      (key, config) and the worker's descriptors   FAILED  (worker's key or None, packed exception)
KILL      (key, signal)                                NOTE    a text for the user, once
PARK      nobody needs you now: end in 5 s             KEPT    the numbers of that memory, and it
RETURN    send the memory of the source back
"""

import array
import os
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from mpqueue.system import platform_support

_HEAD = struct.Struct("<BBQ")
_MAX_FDS = 64
# A user may want SIGPIPE to kill his program, but not for the death of a nursery.


class ToNursery:
    """Kinds of messages to the nursery."""

    SETTINGS, SOURCE, FORK, KILL, PARK, RETURN = range(1, 7)


class FromNursery:
    """Kinds of messages from the nursery."""

    FORKED, EXITED, FAILED, NOTE, KEPT = range(1, 6)


class Message(NamedTuple):
    """A received message; the receiver owns its descriptors."""

    kind: int
    body: Any
    fds: list[int]


def send(sock: socket.socket, kind: int, body: Any, fds: Sequence[int] = ()) -> None:
    """Send one message.

    Raises:
        OSError: The other side is gone.
    """
    data = pickle.dumps(body, 5)
    head = _HEAD.pack(kind, len(fds), len(data))
    # A sent-in-full first byte carries the descriptors; the rest follows as the socket takes it.
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = sock.sendmsg([head], ancillary, platform_support.NO_SIGPIPE)
    sock.sendall(head[sent:] + data, platform_support.NO_SIGPIPE)


def receive(sock: socket.socket) -> Message | None:
    """Receive one message; None at the end, whether clean or cut."""
    try:
        head, fds, _flags, _address = socket.recv_fds(sock, _HEAD.size, _MAX_FDS)
    except ConnectionError:
        return None
    for fd in fds:
        os.set_inheritable(fd, False)  # as all descriptors that Python makes itself
    message = _receive_rest(sock, head, fds) if head else None
    if message is None:
        for fd in fds:  # of a sender that was killed in the middle of a message
            os.close(fd)
    return message


def _receive_rest(sock: socket.socket, head: bytes, fds: list[int]) -> Message | None:
    head += _read(sock, _HEAD.size - len(head)) or b""
    if len(head) < _HEAD.size:
        return None
    kind, _num_fds, length = _HEAD.unpack(head)
    data = _read(sock, length)
    if data is None:
        return None
    return Message(kind, pickle.loads(data), list(fds))


def _read(sock: socket.socket, length: int) -> bytearray | None:
    data = bytearray(length)
    return data if _read_into(sock, memoryview(data)) else None


def _read_into(sock: socket.socket, view: memoryview) -> bool:
    while view.nbytes:
        try:
            count = sock.recv_into(view)
        except ConnectionError:
            return False
        if not count:
            return False
        view = view[count:]
    return True
