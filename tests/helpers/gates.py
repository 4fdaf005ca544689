"""Gates that order the steps of several processes, without sleeping.

A gate is the address of a Unix socket. A process that passes the gate connects to it and waits. The test accepts the
arrival, and then continues the process or kills it there.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import tempfile
from typing import Any


class Arrival:
    """A process that waits at the gate."""

    def __init__(self, connection, words):
        self._connection = connection
        self.pid, self.tag = struct.unpack("<QQ", words)

    def let_go(self):
        """Continue the process."""
        with contextlib.suppress(OSError):  # the process was killed in the meantime
            self._connection.sendall(b"!")
        self._connection.close()

    def kill(self):
        """Kill the process."""
        os.kill(self.pid, signal.SIGKILL)
        self._connection.close()


class Gate:
    """The test's side of a gate. Pass `address` to the code that must wait."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="gate", dir="/tmp")  # short enough for a socket
        self.address = os.path.join(self._folder.name, "gate")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.address)
        self._server.listen(64)
        self._server.settimeout(60)

    def arrival(self) -> Arrival:
        """Wait for the next arrival, and return it."""
        while True:
            connection, _ = self._server.accept()
            connection.settimeout(60)
            words = connection.recv(16, socket.MSG_WAITALL)
            if len(words) == 16:
                return Arrival(connection, words)
            connection.close()  # the process was killed before it sent its id

    @property
    def has_arrivals(self) -> bool:
        """Whether an arrival is pending."""
        return bool(select.select([self._server], [], [], 0)[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.close()
        self._folder.cleanup()


def pass_gate(address: str, tag: int = 0) -> None:
    """Arrive at a gate, and wait until the test continues this process."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(struct.pack("<QQ", os.getpid(), tag))
        connection.recv(1)


def stop_at(position: Any, name: str, when: str, address: str, *, once: bool = False) -> None:
    """Make a method of this process stop at a gate "before" or "after" each call, or only the next call if ``once``."""
    original = getattr(position, name)

    def stopping(*args: Any, **kwargs: Any) -> Any:
        if once:
            setattr(position, name, original)
        if when == "before":
            pass_gate(address)
        result = original(*args, **kwargs)
        if when == "after":
            pass_gate(address)
        return result

    setattr(position, name, stopping)
