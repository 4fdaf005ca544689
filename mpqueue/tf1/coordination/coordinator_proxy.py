"""Connects a coordinator's proxies in other processes to its owner.

The process that made a coordinator owns it. In any other process it is a proxy, which comes about in one of two ways:

    pickled            the pickle holds the owner's address; unpickling makes a proxy
    inherited by fork  nothing is pickled, so the address is made before the fork; after it, the child's copy becomes
                       a proxy

A proxy connects when it is used for the first time, and follows the owner's state from then on. Nothing here keeps a
coordinator alive: servers and clients call it through weak references, and end with it.
"""

import os
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol

from mpqueue.system.living import Living
from mpqueue.system.locks import RLock
from mpqueue.tf1.coordination.stop_channel import StopClient, StopServer
from mpqueue.transport.credentials import Address


class StopListener(Protocol):
    """A coordinator, as its endpoint calls it."""

    def take_report(self, report: bytes) -> bool:
        """Stop because a proxy asks for it; called in the owner, in the server's thread."""

    def take_state(self, stopping: bool) -> None:
        """Follow a change of the owner's state; called in a proxy, in the client's thread or in the user's."""

    def leave_parent(self) -> None:
        """Forget the parent's members, and the locks that its threads may hold; called in the child of a fork."""


class Endpoint:
    """One process's end of a coordinator's channel: the server in the owner, a client in each proxy.

    Args:
        listener: The coordinator.
        address: The owner's address, None in the owner itself.
    """

    def __init__(self, listener: StopListener, address: Address | None = None) -> None:
        self._listener = weakref.ref(listener)
        self.is_owner = address is None
        self._address = address
        self._server: StopServer | None = None
        self._client: StopClient | None = None
        self._lock = RLock()  # re-entrant: a signal handler may use the coordinator
        self._finalizer: weakref.finalize[..., StopListener] | None = None
        self._is_stopping = False
        _endpoints.add(self)

    def address(self, *, serve: bool = True) -> Address:
        """Return the address that finds the owner from any process; with ``serve``, the owner answers from now on."""
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
        """Follow the owner's state, now and at each change; does nothing in the owner."""
        if self.is_owner or self._client is not None:
            return
        with self._lock:
            if self._client is None and self._address is not None:
                self._client = StopClient(self._address, self._on_state)
                self._end_with_listener(self._client.close)

    def send_state(self, *, stopping: bool) -> None:
        """Send the owner's state to all proxies; does nothing in a proxy."""
        with self._lock:
            self._is_stopping = stopping
            if self._server is not None:
                self._server.send_state(stopping=stopping)

    def report(self, report: bytes) -> bool:
        """Ask the owner to stop, in a proxy. Returns False if it is too late: it is joined, or gone."""
        self.follow()
        return self._client is not None and self._client.report(report)

    def leave_parent(self) -> None:
        """Become the endpoint of a proxy, in the child of a fork."""
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
            self._finalizer = weakref.finalize(listener, close)

    def _on_report(self, report: bytes) -> bool:
        listener = self._listener()
        return listener is not None and listener.take_report(report)

    def _on_state(self, stopping: bool) -> None:
        listener = self._listener()
        if listener is not None:
            listener.take_state(stopping)


_endpoints: Living[Endpoint] = Living()


def _make_addresses(*, serve: bool) -> None:
    # Strong references: a coordinator that is collected in between would leave a server that nobody closes.
    listeners = [(endpoint, endpoint._listener()) for endpoint in _endpoints]
    for endpoint, listener in listeners:
        if listener is not None:
            endpoint.address(serve=serve)


def _leave_parent() -> None:
    for endpoint in _endpoints:
        endpoint.leave_parent()


os.register_at_fork(
    before=partial(_make_addresses, serve=False),  # without the thread: Python warns of forks beside threads
    after_in_parent=partial(_make_addresses, serve=True),
    after_in_child=_leave_parent,
)
