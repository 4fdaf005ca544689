"""A directory for queues of unrelated processes: they find it, and the queues in it, by names.

    this process                                       any process of this user
    ────────────                                       ────────────────────────
    QueueHost: a hub of its own, whose queues    ◄───  FIND: the queue of this container and shared name
    nobody here refers to: they live until             from then on, the messages of any queue that is
    `stop`, or until their container is reset          elsewhere; see `wire`

This process uses them as all others do, as queues that are elsewhere. So whatever waits, here or there, ends with the
host, and a fork of this process has no part in it.
"""

import contextlib
import os
import secrets
from functools import partial
from pathlib import Path
from typing import Self

from mpqueue.errors import ResourceExhaustedError
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.description import Description, decode_reset
from mpqueue.tf1.queues.hub import Hub, HubDriver
from mpqueue.tf1.queues.making import make_described
from mpqueue.tf1.queues.registry import Registry
from mpqueue.transport.listener import MAX_PATH_BYTES

_MAX_QUEUES = 1 << 16
_PREFIX = "q-"


class _ServerHub(Hub):
    """A hub that lives on without queues."""

    lives_without_queues = True

    def end(self) -> None:
        """Answer nobody any more."""
        with self.lock:
            thread = self._thread
            if not self.is_closed:
                for client in self._listener.clients.values():
                    client.uses.clear()  # they keep queues alive, and these the hub
                self._close()
                self.queues.clear()
        if thread is not None:
            thread.join()


class QueueHost:
    """Queues that live in this process, for all processes of this user that find it.

    Args:
        folder: The folder of the server, which holds its lock: the socket is made there, for containers that share
            it. None, or one with too long a path: a socket that has no file.

    Attributes:
        address: The address of the hub.
        place: The path in it for a handshake: a file's name in that folder, or a whole path.

    Raises:
        OSError: There are not enough descriptors, or no address space.
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
        """Do what a process has asked the hub for, under its lock; the number of the queue that it has described."""
        containers = decode_reset(data)
        if containers is not None:
            self._registry.reset(containers)
            return 0
        wanted = Description.decode(data)
        core = self._registry.find_or_make(wanted, partial(self._make, wanted))
        assert isinstance(core.driver, HubDriver)
        return core.driver.number

    def _make(self, wanted: Description) -> QueueCore:
        if len(self._hub.queues) >= _MAX_QUEUES:
            raise ResourceExhaustedError(None, None, f"this server has {_MAX_QUEUES} queues already")
        core = make_described(wanted)
        self._hub.share(core)
        return core

    @property
    def num_queues(self) -> int:
        """Number of queues that there are."""
        return len(self._registry.cores())

    def stop(self) -> None:
        """End all queues: calls that wait in them fail, in whatever process; idempotent."""
        if os.getpid() == self._process_id:  # else this is a copy in a forked child, which has no part in it
            self._hub.end()
            self._registry.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'stopped' if self._hub.is_closed else f'{self.num_queues} queues'}>"


def _free_path(folder: Path) -> str | None:
    """A path for the socket, after what a predecessor has left is removed; None if it would be too long."""
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            left.unlink()
    # Never a name that another server of this folder had: who knows that one would take this server's queues for those.
    path = str(folder / f"{_PREFIX}{secrets.token_hex(4)}")
    return path if len(os.fsencode(path)) <= MAX_PATH_BYTES else None
