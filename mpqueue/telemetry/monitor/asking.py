"""Asks all processes of this user what runs in them: at once, and until a deadline.

A process that hangs, or is stopped, has its connections accepted by the kernel, and says nothing: it is told of as one
that does not answer. A socket on which nobody listens is that of a dead process, and is removed.
"""

import json
import os
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from mpqueue.telemetry.monitor import places
from mpqueue.transport.credentials import ForeignPeer, check_peer

_MAX_BYTES = 1 << 24
_PIECE = 1 << 16
_STATES = {"T": "it is stopped", "t": "it is being debugged", "D": "it waits inside of the kernel", "Z": "it has ended"}


@dataclass
class Answer:
    """The answer of one process.

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


def ask(timeout_s: float) -> list[Answer]:
    """Return the answers of all processes of this user, by their sockets; those of dead ones are removed.

    Args:
        timeout_s: For how long to wait, in all.
    """
    answers: list[Answer] = []
    with selectors.DefaultSelector() as selector:
        for path in places.sockets():
            answer = Answer(path, places.pid_of(path))
            connection = _connect(answer)
            if connection is not None:
                selector.register(connection, selectors.EVENT_READ, answer)
            if connection is not None or answer.trouble:
                answers.append(answer)
        _hear(selector, time.monotonic() + timeout_s)
        for key in list(selector.get_map().values()):
            key.data.trouble = _state(key.data.pid)
            _close(selector, key.fileobj)
    return answers


def _connect(answer: Answer) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        connection.connect(answer.path)
        answer.pid = check_peer(connection, {os.geteuid()}).pid or answer.pid
    except ForeignPeer as error:
        connection.close()
        answer.trouble = f"another user listens there: {error}"
        return None
    except ConnectionRefusedError:
        connection.close()
        places.remove(answer.path)
        return None
    except FileNotFoundError:  # it has left
        connection.close()
        return None
    except BlockingIOError:  # others wait already
        connection.close()
        answer.trouble = _state(answer.pid)
        return None
    return connection


def _hear(selector: selectors.BaseSelector, deadline: float) -> None:
    while selector.get_map():
        ready = selector.select(max(0.0, deadline - time.monotonic()))
        if not ready:
            return
        for key, _ in ready:
            connection: Any = key.fileobj
            try:
                goes_on = key.data.add(connection.recv(_PIECE))
            except BlockingIOError:
                continue
            except OSError as error:
                key.data.trouble, goes_on = f"it has ended: {error.strerror}", False
            if not goes_on:
                _close(selector, connection)


def _close(selector: selectors.BaseSelector, connection: Any) -> None:
    selector.unregister(connection)
    connection.close()


def _state(pid: int) -> str:
    """Return why a process says nothing, as far as the kernel knows."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state = file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        state = ""
    return _STATES.get(state, "it says nothing in time")
