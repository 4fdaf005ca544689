"""Scopes that can cancel the calls blocked in them. Each session and each coordinator has one.

    a thread                                             any thread
    ────────                                             ──────────
    with scope.active():        scope on this thread's stack
        queue.dequeue()
          with cancellable(wake):  registers wake in ──── scope.cancel("session closed")
            sleep until woken      each active scope      calls each wake with a CancelledError

A call that need not wait never uses a scope. A call that must wait registers ``wake`` in each active scope, then
sleeps. `cancel` calls each ``wake`` outside the scope's lock, so ``wake`` may take a queue's lock. A call that has
already finished may receive a late ``wake``, which it must ignore.

The stack is a context variable: each thread has its own, and ``asyncio.to_thread`` copies it. A thread with an empty
stack blocks in the innermost ambient scope, if there is one.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar
from typing import Any

from mpqueue.errors import CancelledError
from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.signals.locks import Lock

Wake = Callable[[CancelledError], None]


class CancellationScope:
    """A set of blocked calls that can be cancelled together, with `CancelledError`.

    One scope may be active in many threads, and several scopes in one thread. A call ends when any of its scopes is
    cancelled. Cancelling is permanent: later calls that would block in the scope raise at once. Calls that need not
    wait are not affected.

    Follows: ``tensorflow::CancellationManager``, except that a call that need not wait is never cancelled.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._wakes: dict[object, Wake] = {}
        self._message: str | None = None

    @property
    def is_cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._message is not None

    def cancel(self, message: str = "the call was cancelled") -> None:
        """Make each call that is blocked in this scope raise `CancelledError`. Idempotent.

        Args:
            message: Message of the errors.
        """
        with self._lock:
            if self._message is not None:
                return
            self._message = message
            wakes, self._wakes = self._wakes, {}
        # Wake the last call first. If the front of a line of waiting calls ended first, the next call could succeed,
        # although it is about to be cancelled as well.
        for wake in reversed(wakes.values()):
            wake(CancelledError(None, None, message))

    def cancel_soon(self, message: str) -> None:
        """Cancel in a new thread if any call is blocked. Signal handlers can call this method.

        Ending the calls requires locks of queues, and the interrupted thread may hold such a lock.
        """
        if self._lock.acquire(blocking=False):
            try:
                if not self._wakes:
                    self._message = self._message or message
                    return
            finally:
                self._lock.release()
        threading.Thread(target=self.cancel, args=(message,), name="mpqueue-cancel", daemon=True).start()

    @context_manager
    def active(self) -> Iterator["CancellationScope"]:
        """Make calls of this thread block in this scope, in addition to its other scopes, while the body runs."""
        token = _active.set((*_active.get(), self))
        try:
            yield self
        finally:
            _active.reset(token)

    @context_manager
    def ambient(self) -> Iterator["CancellationScope"]:
        """Make calls of threads without an active scope block in this one, while the body runs."""
        _ambient.append(self)
        try:
            yield self
        finally:
            remove_last(_ambient, self)

    @context_manager
    def registered(self, wake: Wake) -> Iterator[None]:
        """Register ``wake`` to be called once at a cancellation; calls it at once if the scope is cancelled already."""
        key = object()
        with self._lock:
            message = self._message
            if message is None:
                self._wakes[key] = wake
        if message is not None:
            # Cancelled before the registration: without this call, the cancellation would be missed.
            wake(CancelledError(None, None, message))
        try:
            yield
        finally:
            with self._lock:
                self._wakes.pop(key, None)


_active: ContextVar[tuple[CancellationScope, ...]] = ContextVar("mpqueue_active_scopes", default=())
_ambient: list[CancellationScope] = []
# For code that restores a thread's scopes where an interrupt may have prevented `active` from doing so.
active_scopes, set_active_scopes = _active.get, _active.set


def remove_last(stack: list[Any], entry: object) -> None:
    """Remove the last ``entry`` from a stack that all threads share, where others may have been pushed after it."""
    del stack[max(place for place, other in enumerate(stack) if other is entry)]


def cancellable(wake: Wake) -> AbstractContextManager[None]:
    """Call ``wake(error)`` if a scope that is active in this thread is cancelled while the body runs.

    A thread without active scopes uses the innermost ambient scope.

    Args:
        wake: Must make the body return soon; the caller then raises ``error``. It is called in the cancelling thread,
            or in this thread if a scope is cancelled already. It may be called several times.
    """
    scopes = _active.get() or _ambient[-1:]
    return _registered_in(scopes, wake) if scopes else _NOWHERE


_NOWHERE = nullcontext()


@context_manager
def _registered_in(scopes: Sequence[CancellationScope], wake: Wake) -> Iterator[None]:
    with ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(scope.registered(wake))
        yield
