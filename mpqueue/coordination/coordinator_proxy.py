"""In which process a coordinator lives, and how its likenesses in other processes stay in touch with it.

    pickled            the address goes along; whoever unpickles it makes a likeness of it
    inherited by fork  nothing is pickled, so the address is made before the fork, and the child's copy turns into a
                       likeness after it
    used               a likeness connects, and follows the owner's state from then on

Nothing here keeps a coordinator alive: lines and links call it through weak references, and end with it.
"""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from mpqueue.coordination.stop_line import StopLine, StopLink


class Tenant(Protocol):
    """What a home asks of its coordinator."""

    def take_report(self, report: bytes) -> bool:
        """In the owner's process, in the thread of the line: another process asks for a stop."""

    def take_state(self, stopping: bool) -> None:
        """In another process: the owner's state has changed."""

    def take_over_from_parent(self) -> None:
        """In the child of a fork: leave the parent's members, and locks that its threads may hold."""


class Home:
    """The owner's line, or a likeness's link.

    Args:
        tenant: The coordinator.
        address: Where the owner is to be found, None if it lives in this process.
    """

    def __init__(self, tenant: Tenant, address: str | None = None) -> None:
        self._tenant = weakref.ref(tenant)
        self.is_owner = address is None
        self._address = address
        self._line: StopLine | None = None
        self._link: StopLink | None = None
        self._lock = threading.RLock()  # re-entrant: a signal handler may use the coordinator
        self._finalizer: weakref.finalize[..., Tenant] | None = None
        self._is_stopping = False
        _homes.add(self)

    def address(self, *, serve: bool = True) -> str:
        """Return what finds the owner from any process; with ``serve``, it answers from now on."""
        with self._lock:
            if self._address is None:
                line = self._line = StopLine(self._on_report)
                line.tell(stopping=self._is_stopping)
                self._end_with_tenant(line.close)
                self._address = line.address
            if serve and self._line is not None:
                self._line.serve()
            return self._address

    def follow(self) -> None:
        """Elsewhere than in the owner's process: take over its state, now and at each change."""
        if self.is_owner or self._link is not None:
            return
        with self._lock:
            if self._link is None and self._address is not None:
                self._link = StopLink(self._address, self._on_state)
                self._end_with_tenant(self._link.close)

    def tell(self, *, stopping: bool) -> None:
        """In the owner's process: tell the others of its state."""
        with self._lock:
            self._is_stopping = stopping
            if self._line is not None:
                self._line.tell(stopping=stopping)

    def report(self, report: bytes) -> bool:
        """Elsewhere: ask the owner to stop. False if it is too late: it is joined, or gone."""
        self.follow()
        return self._link is not None and self._link.report(report)

    def leave_parent(self) -> None:
        """In the child of a fork: become the home of a likeness."""
        for end in (self._line, self._link):
            if end is not None:
                end.abandon()
        if self._finalizer is not None:
            self._finalizer.detach()
        self.is_owner, self._line, self._link, self._finalizer = False, None, None, None
        self._lock = threading.RLock()
        tenant = self._tenant()
        if tenant is not None:
            tenant.take_over_from_parent()

    def _end_with_tenant(self, close: Callable[[], None]) -> None:
        tenant = self._tenant()
        if tenant is not None:
            self._finalizer = weakref.finalize(tenant, close)

    def _on_report(self, report: bytes) -> bool:
        tenant = self._tenant()
        return tenant is not None and tenant.take_report(report)

    def _on_state(self, stopping: bool) -> None:
        tenant = self._tenant()
        if tenant is not None:
            tenant.take_state(stopping)


_homes: weakref.WeakSet[Home] = weakref.WeakSet()


def _announce_all(*, serve: bool) -> None:
    # Strong references: a coordinator that is collected in between would leave a line that nobody closes.
    tenants = [(home, home._tenant()) for home in list(_homes)]
    for home, tenant in tenants:
        if tenant is not None:
            home.address(serve=serve)


def _leave_parent() -> None:
    for home in list(_homes):
        home.leave_parent()


def _before_fork() -> None:
    _announce_all(serve=False)  # without its thread: Python warns of forks that have threads


def _after_fork() -> None:
    _announce_all(serve=True)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_leave_parent)
