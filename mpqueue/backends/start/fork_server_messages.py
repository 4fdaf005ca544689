"""Messages between trainer and fork server, over one socket pair: a kind, a pickled body, and descriptors.

    [ kind: 1 byte ][ number of descriptors: 1 byte ][ length of body: 8 bytes ] body

The large arrays of a source are in shared memory; only descriptors of it are sent.

To the fork server                                           From the fork server
------------------                                           --------------------
SETTINGS  folder, `sys.argv`, environment, tracker           FORKED  (worker's key, pid)
SOURCE    pickle, places of buffers, new memory              EXITED  (worker's key, wait status, peak bytes)
FORK      (key, config) and the worker's descriptors         FAILED  (worker's key or None, packed exception)
KILL      (key, signal)                                      NOTE    a warning for the user, once
PARK      exit in 5 s, unless another message arrives
"""

import contextlib
import os
import pickle
import socket
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from mpqueue.system.processes.child_process import Parent
from mpqueue.system.processes.cpus import keep_to
from mpqueue.transport.framing import (
    DescriptorsLost,
    close_descriptors,
    receive_exactly,
    receive_into,
    receive_with_descriptors,
    send_with_descriptors,
)
from mpqueue.transport.records import ProtocolError, RecordType, kinds_of


class ToForkServer:
    """Kinds of messages to the fork server."""

    SETTINGS, SOURCE, FORK, KILL, PARK = range(1, 6)


class FromForkServer:
    """Kinds of messages from the fork server."""

    FORKED, EXITED, FAILED, NOTE = range(1, 5)


class Message(NamedTuple):
    """A received message; the receiver owns its descriptors."""

    kind: int
    body: Any
    fds: list[int]


class Settings(NamedTuple):
    """Settings that a fork server copies from the trainer at each start."""

    cwd: str
    argv: list[str]
    path: list[str]
    environ: dict[str, str]
    cpus: frozenset[int]
    spawn: bool
    parent: Parent

    def apply(self) -> None:
        """Give this process the settings of the trainer."""
        with contextlib.suppress(OSError):  # the trainer's working directory may have been removed
            os.chdir(self.cwd)
        sys.argv = self.argv  # flags of the source parse it
        sys.path[:] = self.path
        if dict(os.environ) != self.environ:
            # By `os.environ` and not a copy: it also sets the variables in the C library, where C code reads them.
            os.environ.clear()
            os.environ.update(self.environ)
        keep_to(self.cpus)


_FIELDS, _MOST = "kind:B num_fds:B nbytes:Q", {"num_fds": 64}
TO_FORK_SERVER = RecordType(_FIELDS, kinds=kinds_of(ToForkServer), most=_MOST)
FROM_FORK_SERVER = RecordType(_FIELDS, kinds=kinds_of(FromForkServer), most=_MOST)


def pack(kind: int, body: Any, fds: Sequence[int] = ()) -> bytes:
    """Return a message as bytes; its descriptors are sent with the first byte."""
    data = pickle.dumps(body, 5)
    return TO_FORK_SERVER.pack(kind, len(fds), len(data)) + data  # both directions have the same format


def send(sock: socket.socket, kind: int, body: Any, fds: Sequence[int] = ()) -> None:
    """Send one message.

    Raises:
        OSError: The other side has closed the socket.
    """
    data = pack(kind, body, fds)
    # The descriptors are attached to the first byte. The rest follows as fast as the socket accepts it.
    sent = send_with_descriptors(sock, data[: TO_FORK_SERVER.size], fds)
    sock.sendall(memoryview(data)[sent:], socket.MSG_NOSIGNAL)


def receive(sock: socket.socket, record: RecordType) -> Message | None:
    """Receive one message; return None if the other side has closed the socket or sent invalid data.

    Args:
        sock: The socket.
        record: Format of the messages that the other side sends.
    """
    fds: list[int] = []
    try:
        head, fds = receive_with_descriptors(sock, record.size, _MOST["num_fds"])
        kind, num_fds, nbytes = record.parse(head + receive_exactly(sock, record.size - len(head)) if head else head)
        if num_fds != len(fds):
            raise ProtocolError(f"Expected a message with {num_fds} descriptors, got {len(fds)}")
        body = bytearray(nbytes)
        receive_into(sock, memoryview(body))
    except BaseException as error:  # including a sender that was killed in the middle of a message
        close_descriptors(fds)
        if isinstance(error, (ConnectionError, ProtocolError, DescriptorsLost)):
            return None
        raise
    return Message(kind, pickle.loads(body), fds)
