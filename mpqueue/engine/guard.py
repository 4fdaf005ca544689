"""`Guard`: the lock around a ledger and its backend, and the meaning of an exception that leaves a call.

One lock orders all threads that may call: several consumers, a `stop` from another thread, the one-shot thread of an
epoch end. User code that is called under it (`on_epoch_end`) may call back. The rules for exceptions are in
NOTE [ Interrupts ] in `mpqueue.engine.pipeline`.
"""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from mpqueue.engine.backend import Backend
from mpqueue.engine.epoch_end import EpochEnd
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.lifetime import Life, Lifetime
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.signals.locks import RLock
from mpqueue.telemetry.recorder import Recorder

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Guard:
    """The lock around a ledger and its backend, and their state after an exception.

    Args:
        ledger: The work items; the backend has the same ledger.
        end: The end of the current epoch.
        recorder: Records the times of epochs.

    Attributes:
        ledger: The ledger.
        end: The end of the current epoch.
        recorder: The recorder.
        backend: The backend, from the start on.
        lock: Held around every call of the backend except `start` and `wake`.
        is_inconsistent: An interrupt may have left a change half done: the next `step` drops the work in flight and
            restarts at the user's position.
        own: The exception in flight, if it was raised on purpose.
        has_failed: The last exception was raised on purpose.
    """

    backend: Backend

    def __init__(self, ledger: Ledger, end: EpochEnd, recorder: Recorder) -> None:
        self.ledger, self.end, self.recorder = ledger, end, recorder
        self.lock = RLock()
        self.lifetime = Lifetime(self.lock)
        self.is_inconsistent = self.has_failed = False
        self.own: BaseException | None = None

    def start(self, backend: Backend) -> None:
        """Start the backend.

        Raises:
            Exception: The exception that `Backend.start` raised.
        """
        self.backend = backend
        backend.start()
        self.recorder.begin()
        self.lifetime.state = Life.RUNNING

    def expected(self, error: BaseException) -> BaseException:
        """Name an exception that is raised on purpose, so that it does not count as an interrupt, and return it."""
        self.own = error
        return error

    def is_failure(self, error: BaseException) -> bool:
        """Return whether the exception from `step` is a failure of the stream, rather than a signal handler's."""
        return self.has_failed and not is_interrupt(error)

    def is_of_source(self, error: BaseException) -> bool:
        """Return whether code of the source has raised an error, and no signal handler in the middle of it."""
        return not is_interrupt(error)

    def raise_failure(self) -> None:
        """Raise an error that belongs to no work item, such as an epoch end's error, unless it was raised already."""
        ledger = self.ledger
        if (failure := ledger.failure) is not None:
            self.own, ledger.failure = failure, None
            raise failure

    def restart_soon(self) -> None:
        """Make the next `step` drop the work in flight, and the held batches, and restart at the user's position."""
        self.is_inconsistent = self.ledger.needs_attention = True

    def timeout_s(self) -> float | None:
        """Return the backend's timeout. For that, the backend may take grants back and deal work items."""
        try:
            return self.backend.timeout_s()
        except BaseException:
            self.is_inconsistent = self.ledger.needs_attention = True
            raise

    @property
    def is_stopped(self) -> bool:
        """True if a stop was requested, or the stream has not started."""
        return self.lifetime.state is not Life.RUNNING

    def stop(self, timeout_s: float | None = None) -> None:
        """End the stream: unblock waiting consumers and stop the workers. Idempotent, from any thread.

        Raises:
            StopTimeout: Some workers did not exit in time.
        """
        if not self.lifetime.request_stop():
            return
        # Close before waking: a consumer that wakes up must see the stop, and not wait again.
        self.ledger.close()
        self.backend.wake()
        # An epoch end hook that stops its own stream holds the lock as well, but leaves none of our changes half done.
        if self.lifetime.is_inside and not self.end.is_calling:
            self.lifetime.deferred_stop = (timeout_s,)  # called by a signal handler; see NOTE [ Interrupts ]
        else:
            self.lifetime.stop(timeout_s, self.end.cancel_timer, self._end_workers)

    def _end_workers(self, timeout_s: float | None) -> None:
        self.ledger.work_items.clear()
        self.backend.stop(timeout_s)

    def disown(self) -> None:
        """Refuse all calls in a forked child: the parent owns the workers, and its locks may be held forever."""
        self.lock = RLock()
        self.lifetime.disown(self.lock)
        self.ledger.needs_attention = True


class Guarded(Protocol):
    """An object with methods that hold the lock of a guard."""

    guard: Guard


_G = TypeVar("_G", bound=Guarded)


def locked(method: Callable[Concatenate[_G, _P], _T]) -> Callable[Concatenate[_G, _P], _T]:
    """Wrap a method in the lock and in the interrupt handling of `Pipeline.step`."""
    # Not a context manager: an interrupt in the code of `contextlib`, right after the entry, would leave the lock held
    # for as long as its traceback exists.

    @functools.wraps(method)
    def call(self: _G, /, *args: _P.args, **options: _P.kwargs) -> _T:
        guard = self.guard
        try:
            with guard.lock:
                try:
                    if guard.lifetime.state is Life.FOREIGN:
                        raise guard.expected(guard.lifetime.refusal())
                    return method(self, *args, **options)
                except BaseException as error:
                    guard.has_failed, guard.own = error is guard.own, None
                    if not guard.has_failed:
                        guard.is_inconsistent = guard.ledger.needs_attention = True
                    raise
        finally:
            guard.lifetime.run_deferred_stop(guard.stop)

    return call


def starting(method: Callable[Concatenate[_G, _P], _T]) -> Callable[Concatenate[_G, _P], _T]:
    """Time a method as a part of an epoch's start, including its wait for the lock."""

    @functools.wraps(method)
    def call(self: _G, /, *args: _P.args, **options: _P.kwargs) -> _T:
        with self.guard.recorder.starts.part("order"):
            return method(self, *args, **options)

    return call
