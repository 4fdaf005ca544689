"""A server process's queues, which unrelated processes find by name.

    this process                                       any process of this user
    ────────────                                       ────────────────────────
    `QueueHost`: a separate hub. No object here  ◄───  FIND: the queue with this container and shared name,
    refers to its queues, which exist until            then the same records as for any remote queue; see `wire`
    `stop` or a reset of their container

This process also uses the queues through connections, like all others. So all waiting calls end with the host, here and
elsewhere, and a fork of this process does not inherit it.
"""

import contextlib
import os
import secrets
from functools import partial
from pathlib import Path
from typing import Self

from mpqueue.errors import ResourceExhaustedError
from mpqueue.system.units import count_text
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.description import Description, decode_reset
from mpqueue.tf1.queues.hub import Hub, HubDriver
from mpqueue.tf1.queues.making import make_described
from mpqueue.tf1.queues.registry import Registry

_MAX_QUEUES = 1 << 16
_PREFIX = "q-"


class _ServerHub(Hub):
    """A hub that remains open without queues."""

    lives_without_queues = True

    def end(self) -> None:
        """Close the hub and wait for its thread."""
        with self.lock:
            thread = self._thread
            if not self.is_closed:
                for client in self._listener.clients.values():
                    client.uses.clear()  # breaks the reference cycle client -> queue -> hub
                self._close()
                self.queues.clear()
        if thread is not None:
            thread.join()


class QueueHost:
    """Queues of this process for all processes of the same user that can find it.

    Args:
        folder: The server's directory, which contains its lock file. The socket is created there, so that containers
            that share the directory can connect. With None, or if the path is too long, the socket has no file.

    Attributes:
        address: Address of the hub.
        place: Path for a handshake: a file name in the directory, or a full path.

    Raises:
        OSError: There are not enough descriptors, or not enough address space.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._process_id = os.getpid()
        self._registry = Registry()
        path = None if folder is None else _free_path(Path(folder))
        self._hub = _ServerHub(self._find, path)
        self.address = self._hub.address
        self.place = self.address.path if path is None else os.path.basename(path)
        self._hub.serve()

    def _find(self, data: bytes) -> int:
        """Handle a FIND record; return the number of the queue. The hub calls it under its lock."""
        containers = decode_reset(data)
        if containers is not None:
            self._registry.reset(containers)
            return 0
        description = Description.decode(data)
        core = self._registry.find_or_make(description, partial(self._make, description))
        assert isinstance(core.driver, HubDriver)
        return core.driver.number

    def _make(self, description: Description) -> QueueCore:
        # A bound, so that a client that creates queues in a loop cannot exhaust this server's memory.
        if len(self._hub.queues) >= _MAX_QUEUES:
            raise ResourceExhaustedError(None, None, f"The server has reached its limit of {_MAX_QUEUES} queues.")
        core = make_described(description)
        self._hub.share(core)
        return core

    @property
    def num_queues(self) -> int:
        """Number of queues."""
        return len(self._registry.cores())

    def stop(self) -> None:
        """Delete all queues. Waiting calls fail in all processes. Idempotent."""
        if os.getpid() == self._process_id:  # otherwise this is a copy in a forked child
            self._hub.end()
            self._registry.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'stopped' if self._hub.is_closed else count_text(self.num_queues, 'queue')}>"


def _free_path(folder: Path) -> str:
    """Delete sockets of previous servers; return a path for a new socket."""
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            left.unlink()
    # Use a new name each time: a client of a previous server must not find this server's queues under the old address.
    return str(folder / f"{_PREFIX}{secrets.token_hex(4)}")
