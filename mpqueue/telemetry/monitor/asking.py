"""Requests for the reports of all processes of this user: at once, and with a deadline.

The kernel accepts connections for a process that hangs or is stopped. Such a process does not answer, and is reported
as such. A socket without a listening process belongs to a process that has exited, and is removed.
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
_STATES = {"T": "it is stopped", "t": "it is being debugged", "D": "it is blocked in the kernel", "Z": "it has exited"}


@dataclass
class MonitorAnswer:
    """The answer of one process to a request for its report.

    Attributes:
        path: Path of its socket.
        pid: Its process id; 0 if unknown.
        report: See `mpqueue.telemetry.monitor.registry.report`; None without a report.
        trouble: The reason for a missing report.
    """

    path: str
    pid: int
    report: dict[str, Any] | None = None
    trouble: str = ""
    _data: bytearray = field(default_factory=bytearray, repr=False)

    def add(self, piece: bytes) -> bool:
        """Add received data; return False at the end of the answer."""
        self._data += piece
        if len(self._data) > _MAX_BYTES:
            self.trouble = f"its answer is larger than {_MAX_BYTES >> 20} MiB"
            return False
        if piece:
            return True
        try:
            answer = json.loads(self._data)
            if "shown" in answer:
                self.report = answer
            else:
                self.trouble = answer["error"]
        except (ValueError, TypeError, KeyError):
            self.trouble = "its answer is incomplete"
        return False


def ask(timeout_s: float) -> list[MonitorAnswer]:
    """Return the answers of all processes of this user, sorted by socket; sockets of exited processes are removed.

    Args:
        timeout_s: Maximum time in total, in seconds.
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
    """Connect to a process; return None if it has exited, or if the connection failed (`trouble` has the reason)."""
    try:
        connection = connect_at(answer.path, {os.geteuid()})
        answer.pid = credentials_of(connection).pid or answer.pid
    except ForeignPeer as error:
        answer.trouble = f"another user listens there: {error}"
    except ConnectionRefusedError:
        places.remove(answer.path)
    except FileNotFoundError:  # it has exited
        pass
    except BlockingIOError:  # its queue of connections is full
        answer.trouble = _state(answer.pid)
    else:
        return connection
    return None


def _hear(connection: socket.socket, answer: MonitorAnswer) -> bool:
    """Receive data; return False at the end."""
    try:
        return answer.add(connection.recv(_PIECE))
    except BlockingIOError:
        return True
    except OSError as error:
        answer.trouble = f"the connection failed: {error.strerror}"
        return False


def _state(pid: int) -> str:
    """Return why a process does not answer, according to the kernel."""
    try:
        state = kernel_fields(pid)[0].decode()
    except (OSError, IndexError):
        state = ""
    return _STATES.get(state, "it did not answer in time")
