"""Connects a coordinator's proxies in other processes to its owner.

The process that creates a coordinator owns it. In other processes it is a proxy, which is created in one of two ways:

    unpickled          the pickle contains the owner's address
    inherited by fork  the address is created before the fork; after it, the child's copy becomes a proxy

A proxy connects at its first use and follows the owner's state from then on. Servers and clients call a coordinator
through weak references and close when it is garbage-collected.
"""

import os
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol

from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.signals.locks import RLock
from mpqueue.system.signals.weak_sets import Living
from mpqueue.tf1.coordination.stop_channel import StopClient, StopServer
from mpqueue.transport.credentials import Address


class StopListener(Protocol):
    """The methods of a coordinator that its endpoint calls."""

    def take_report(self, report: bytes) -> bool:
        """Stop because of a proxy's report. Called in the owner, in the server's thread. Returns False if too late."""

    def take_state(self, stopping: bool) -> None:
        """Follow a change of the owner's state. Called in a proxy, in the client's thread or the user's."""

    def leave_parent(self) -> None:
        """Discard the parent's members and locks, which its threads may hold. Called in a forked child."""


class Endpoint:
    """One process's end of a coordinator's channel: a server in the owner, a client in a proxy.

    Args:
        listener: The coordinator.
        address: The owner's address. None: this process is the owner.
    """

    def __init__(self, listener: StopListener, address: Address | None = None) -> None:
        self._listener = weakref.ref(listener)
        self.is_owner = address is None
        self._address = address
        self._server: StopServer | None = None
        self._client: StopClient | None = None
        self._lock = RLock()  # reentrant: a signal handler may use the coordinator
        self._finalizer: WhenCollected | None = None
        self._is_stopping = False
        _endpoints.add(self)

    def address(self, *, serve: bool = True) -> Address:
        """Return the owner's address for other processes. With ``serve``, start the owner's thread."""
        with self._lock:
            if self._address is None:
                server = self._server = StopServer(self._on_report)
                server.send_state(stopping=self._is_stopping)
                self._end_with_listener(server.close)
                self._address = server.address
            if serve and self._server is not None:
                self._server.serve()
            return self._address

    def follow(self) -> None:
        """Start following the owner's state. No-op in the owner."""
        if self.is_owner or self._client is not None:
            return
        with self._lock:
            if self._client is None and self._address is not None:
                self._client = StopClient(self._address, self._on_state)
                self._end_with_listener(self._client.close)

    def send_state(self, *, stopping: bool) -> None:
        """Send the owner's state to all proxies. No-op in a proxy."""
        with self._lock:
            self._is_stopping = stopping
            if self._server is not None:
                self._server.send_state(stopping=stopping)

    def report(self, report: bytes) -> bool:
        """Request a stop from the owner, in a proxy. Return False if the owner is already joined or has exited."""
        self.follow()
        return self._client is not None and self._client.report(report)

    def leave_parent(self) -> None:
        """Become the endpoint of a proxy, in a forked child."""
        if self._finalizer is not None:
            self._finalizer.detach()
        self.is_owner, self._server, self._client, self._finalizer = False, None, None, None
        self._lock = RLock()
        listener = self._listener()
        if listener is not None:
            listener.leave_parent()

    def _end_with_listener(self, close: Callable[[], None]) -> None:
        listener = self._listener()
        if listener is not None:
            self._finalizer = WhenCollected(listener, close)

    def _on_report(self, report: bytes) -> bool:
        listener = self._listener()
        return listener is not None and listener.take_report(report)

    def _on_state(self, stopping: bool) -> None:
        listener = self._listener()
        if listener is not None:
            listener.take_state(stopping)


_endpoints: Living[Endpoint] = Living()


def _make_addresses(*, serve: bool) -> None:
    # Strong references: a coordinator collected in this loop would leave a server that is never closed.
    listeners = [(endpoint, endpoint._listener()) for endpoint in _endpoints]
    for endpoint, listener in listeners:
        if listener is not None:
            endpoint.address(serve=serve)


def _leave_parent() -> None:
    for endpoint in _endpoints:
        endpoint.leave_parent()


os.register_at_fork(
    before=partial(_make_addresses, serve=False),  # without a thread, because Python warns if a threaded process forks
    after_in_parent=partial(_make_addresses, serve=True),
    after_in_child=_leave_parent,
)
