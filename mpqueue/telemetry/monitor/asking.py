"""Asks all processes of this user what runs in them: at once, and until a deadline.

A process that hangs, or is stopped, has its connections accepted by the kernel, and says nothing: it is told of as one
that does not answer. A socket on which nobody listens is that of a dead process, and is removed.
"""

import json
import os
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from mpqueue.system import descriptors
from mpqueue.system.processes import kernel_fields
from mpqueue.telemetry.monitor import places
from mpqueue.transport.credentials import ForeignPeer, credentials_of
from mpqueue.transport.listener import connect_at
from mpqueue.transport.poller import READABLE, close_poller, make_poller

_MAX_BYTES = 1 << 24
_PIECE = 1 << 16
_STATES = {"T": "it is stopped", "t": "it is being debugged", "D": "it waits inside of the kernel", "Z": "it has ended"}


@dataclass
class MonitorAnswer:
    """The answer of one process to who asks for what runs in it.

    Attributes:
        path: Of its socket.
        pid: Its id; 0: nobody knows.
        report: See `mpqueue.telemetry.monitor.registry.report`; None: there is none,
        trouble: and why.
    """

    path: str
    pid: int
    report: dict[str, Any] | None = None
    trouble: str = ""
    _data: bytearray = field(default_factory=bytearray, repr=False)

    def add(self, piece: bytes) -> bool:
        """Take in a piece; return False if it was the end."""
        self._data += piece
        if len(self._data) > _MAX_BYTES:
            self.trouble = f"it says more than {_MAX_BYTES >> 20} MiB"
            return False
        if piece:
            return True
        try:
            found = json.loads(self._data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.trouble = "it broke off" if self._data else "it refuses to answer"
        elif "shown" not in found:
            self.trouble = str(found.get("error", "it says nothing of what runs in it"))
        else:
            self.report = found
        return False


def ask(timeout_s: float) -> list[MonitorAnswer]:
    """Return the answers of all processes of this user, by their sockets; those of dead ones are removed.

    Args:
        timeout_s: For how long to wait, in all.
    """
    answers: list[MonitorAnswer] = []
    poller = make_poller()
    unheard: dict[int, tuple[socket.socket, MonitorAnswer]] = {}  # by descriptor
    try:
        for path in places.sockets():
            answer = MonitorAnswer(path, places.pid_of(path))
            connection = _connect(answer)
            if connection is not None:
                unheard[connection.fileno()] = connection, answer
                poller.register(connection.fileno(), READABLE)
            if connection is not None or answer.trouble:
                answers.append(answer)
        deadline = time.monotonic() + timeout_s
        while unheard and (ready := poller.poll(max(0.0, deadline - time.monotonic()))):
            for fd, _ in ready:
                connection, answer = unheard[fd]
                if not _hear(connection, answer):
                    del unheard[fd]
                    poller.unregister(fd)
                    descriptors.close_object(connection)
    finally:
        close_poller(poller)
        for connection, answer in unheard.values():
            answer.trouble = _state(answer.pid)
            descriptors.close_object(connection)
    return answers


def _connect(answer: MonitorAnswer) -> socket.socket | None:
    """Connect to a process; None: it has left, or the answer says why not."""
    try:
        connection = connect_at(answer.path, {os.geteuid()})
        answer.pid = credentials_of(connection).pid or answer.pid
    except ForeignPeer as error:
        answer.trouble = f"another user listens there: {error}"
    except ConnectionRefusedError:
        places.remove(answer.path)
    except FileNotFoundError:  # it has left
        pass
    except BlockingIOError:  # others wait already
        answer.trouble = _state(answer.pid)
    else:
        return connection
    return None


def _hear(connection: socket.socket, answer: MonitorAnswer) -> bool:
    """Take in what has come; return False at the end."""
    try:
        return answer.add(connection.recv(_PIECE))
    except BlockingIOError:
        return True
    except OSError as error:
        answer.trouble = f"it has ended: {error.strerror}"
        return False


def _state(pid: int) -> str:
    """Return why a process says nothing, as far as the kernel knows."""
    try:
        state = kernel_fields(pid)[0].decode()
    except (OSError, IndexError):
        state = ""
    return _STATES.get(state, "it says nothing in time")
