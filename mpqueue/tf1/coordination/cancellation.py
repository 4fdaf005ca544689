"""Scopes that can cancel the calls blocked in them. A session has one, and a coordinator.

    a thread                                             any thread
    ────────                                             ──────────
    with scope.active():        scope on this thread's stack
        queue.dequeue()
          with cancellable(wake):  wake goes to every ── scope.cancel("session closed")
            sleep until woken      active scope            each wake gets the CancelledError

A call that need not wait never looks at a scope. One that must wait registers ``wake`` with every active scope, and
sleeps. `cancel` calls each ``wake`` outside the scope's lock, so that it may take a queue's lock. A scope that is
cancelled already calls ``wake`` at once, so that no cancellation is missed between registering and sleeping. A call
that has ended meanwhile may still get a late ``wake``, which it has to ignore.

The stack is a context variable: each thread has its own, and ``asyncio.to_thread`` copies it. A thread whose stack is
empty blocks in the scope that was made ambient last, if there is one.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from mpqueue.errors import CancelledError
from mpqueue.system.locks import Lock

Wake = Callable[[CancelledError], None]


class CancellationScope:
    """Owns the calls that block while it is active, and can make all of them raise `CancelledError`.

    One scope may be active in many threads at once, and several scopes in one thread: a call blocked there ends when
    any of them is cancelled. A scope stays cancelled: calls that would block in it later raise at once. Calls that
    need not wait are not affected.

    Follows: ``tensorflow::CancellationManager``, except that a call which need not wait is never refused.
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
        """Make every call that is blocked in this scope raise `CancelledError`; later calls do nothing.

        Args:
            message: What the errors say.
        """
        with self._lock:
            if self._message is not None:
                return
            self._message = message
            wakes, self._wakes = self._wakes, {}
        # The last one first: in a line of waiting calls, ending the front one would let the next go through, although
        # it is about to be cancelled as well.
        for wake in reversed(wakes.values()):
            wake(CancelledError(None, None, message))

    def cancel_soon(self, message: str) -> None:
        """Cancel in a thread of its own if any call is blocked, so that a signal handler may call this.

        The thread that the handler interrupts may hold the lock of a queue, which is needed to end the calls there.
        """
        if self._lock.acquire(blocking=False):
            try:
                if not self._wakes:
                    self._message = self._message or message
                    return
            finally:
                self._lock.release()
        threading.Thread(target=self.cancel, args=(message,), name="mpqueue-cancel", daemon=True).start()

    @contextmanager
    def active(self) -> Iterator["CancellationScope"]:
        """Make calls of this thread block in this scope, and in those active already, while the body runs."""
        token = _active.set((*_active.get(), self))
        try:
            yield self
        finally:
            _active.reset(token)

    @contextmanager
    def ambient(self) -> Iterator["CancellationScope"]:
        """Make calls of threads without an active scope block in this one, while the body runs."""
        _ambient.append(self)
        try:
            yield self
        finally:
            remove_last(_ambient, self)

    @contextmanager
    def registered(self, wake: Wake) -> Iterator[None]:
        """Have a cancellation call ``wake`` once while the body runs; at once if the scope is cancelled already."""
        key = object()
        with self._lock:
            message = self._message
            if message is None:
                self._wakes[key] = wake
        if message is not None:
            wake(CancelledError(None, None, message))
        try:
            yield
        finally:
            with self._lock:
                self._wakes.pop(key, None)

    def __repr__(self) -> str:
        state = "cancelled" if self.is_cancelled else f"{len(self._wakes)} blocked"
        return f"<{type(self).__name__} {state}>"


_active: ContextVar[tuple[CancellationScope, ...]] = ContextVar("mpqueue_active_scopes", default=())
_ambient: list[CancellationScope] = []
# For those who put a thread's scopes back where an interrupt may have kept `active` from doing so.
active_scopes, set_active_scopes = _active.get, _active.set


def remove_last(stack: list[Any], entry: object) -> None:
    """Remove the topmost ``entry`` from a stack that all threads share: others may lie above it by now."""
    del stack[max(place for place, other in enumerate(stack) if other is entry)]


def cancellable(wake: Wake) -> AbstractContextManager[None]:
    """Have ``wake(error)`` called while the body runs, if a scope that is active in this thread is cancelled.

    A thread without active scopes is in the one that was made ambient last.

    Args:
        wake: Makes the body return soon, so that the caller raises ``error``. It comes from the cancelling thread,
            from this one if a scope is cancelled already, and more than once if several scopes are cancelled.
    """
    scopes = _active.get() or _ambient[-1:]
    return _registered_in(scopes, wake) if scopes else _NOWHERE


_NOWHERE = nullcontext()


@contextmanager
def _registered_in(scopes: Sequence[CancellationScope], wake: Wake) -> Iterator[None]:
    with ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(scope.registered(wake))
        yield
