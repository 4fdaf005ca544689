"""The coordinator: the one place where a program's threads and processes agree to stop, and report why.

::

    a thread, a runner, a worker           the coordinator             whoever joins
    ───────────────────────────           ───────────────             ─────────────
    with coord.stop_on_exception():
      while not coord.should_stop():
        work, fails  ──request_stop(error)──►  RUNNING → STOPPING
                                               the first error is kept
                                               stop callbacks run  ──► blocked queue calls and gets are freed
                                                                     join: waits for the members, raises the error

The state is guarded by one condition; waiting is waiting on it. A member (a thread, a process, an enqueuer) cannot
notify a condition when it ends, but can be joined: so `join` starts one thread that joins the members one after the
other and then notifies, and itself waits for "all have ended, or a stop was asked for". Nothing looks at a clock to
learn anything.

The lock of the condition is re-entrant, since the handler of a signal may ask for a stop while the very thread that it
interrupts holds it. Callbacks and members are told outside of it: they may take locks of their own.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from mpqueue.errors import OutOfRangeError

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
StopCallback: TypeAlias = Callable[[], object]

_log = logging.getLogger(__name__)


@runtime_checkable
class Member(Protocol):
    """What a coordinator can wait for: a thread, a process, an enqueuer, a loader.

    One that also has ``request_stop()`` is told of a stop in that way; it must not block there, and frees whoever is
    blocked in it.
    """

    def is_alive(self) -> bool:
        """Whether it has started and not ended."""

    def join(self, timeout: float | None = None) -> Any:
        """Block until it has ended, or for ``timeout`` seconds."""


class Coordinator:
    """Lets threads and processes stop together, and raises in `join` what made them stop.

    Any thread may call any method. `should_stop` turns True at the first `request_stop`, which also runs the stop
    callbacks; an exception reported with it is kept and raised by `join`. Later reports change nothing: the first wins.

    Args:
        clean_stop_exception_types: Exceptions that mean a clean end: reporting one of these, or of a subclass, is a
            stop without an exception. Default: ``(OutOfRangeError,)``, the end of input. Given types replace it.

    Raises:
        TypeError: ``clean_stop_exception_types`` is not an iterable of exception classes.

    Follows: ``tf.train.Coordinator``, except that an exception which was never raised may be reported, and that nothing
    is polled.
    """

    def __init__(self, clean_stop_exception_types: Iterable[type[BaseException]] | None = None) -> None:
        self._clean_stop_exception_types = _exception_types(clean_stop_exception_types)
        self._changed = threading.Condition()
        self._stopping = False
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._joined = False
        self._members: dict[int, Member] = {}
        self._callbacks: list[StopCallback] = []

    # Asking for a stop, and seeing it

    def request_stop(self, ex: BaseException | ExcInfo | None = None) -> None:
        """Ask everybody to stop, and report why.

        The first call runs the stop callbacks, in this thread and in the order of their registration; later calls do
        nothing. After `join` nobody would see a report any more, so an exception is raised here instead.

        Args:
            ex: The exception, or what ``sys.exc_info()`` gave. One of the clean types counts as None.

        Raises:
            TypeError: ``ex`` is neither.
            BaseException: ``ex`` itself, if the coordinator was joined already.
        """
        error = _reported(ex)
        clean = isinstance(error, self._clean_stop_exception_types)
        with self._changed:
            if self._joined and error is not None and not clean:
                raise error
            if self._stopping:
                _log.info("a stop is under way, this report is dropped: %r", error)
                return
            if not clean:
                self._keep(error)
            self._stopping = True
            callbacks = [*self._callbacks, *_stoppers(self._members.values())]
            self._changed.notify_all()
        for callback in callbacks:
            _call(callback)

    def should_stop(self) -> bool:
        """Return whether a stop was asked for; cheap enough for any loop."""
        return self._stopping

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Block until a stop is asked for.

        Args:
            timeout: Seconds to wait at most, None for ever.

        Returns: Whether a stop was asked for.
        """
        with self._changed:
            return self._changed.wait_for(
                self.should_stop, None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
            )

    @contextlib.contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """Report, and swallow, whatever is raised in the body of the ``with`` statement."""
        try:
            yield
        except BaseException as error:  # also KeyboardInterrupt: `join` raises it where the program waits
            self.request_stop(error)

    def clear_stop(self) -> None:
        """Forget the stop, its exception and the join, so that the coordinator can be used once more."""
        with self._changed:
            self._keep(None)
            self._stopping = self._joined = False

    def raise_requested_exception(self) -> None:
        """Raise the exception that was reported, if there was one; again at every call."""
        with self._changed:
            if self._error is not None:
                # Its own traceback only: each raise would otherwise add the frames of this one.
                raise self._error.with_traceback(self._traceback)

    # Who has to stop

    def add_stop_callback(self, callback: StopCallback) -> None:
        """Have ``callback()`` called at the stop; at once if a stop was asked for already.

        It runs in the thread that asks for the stop and must not block: ``queue.close`` with
        ``cancel_pending_enqueues=True`` is what it is made for. What it raises is logged. `join` forgets it.
        """
        with self._changed:
            self._callbacks.append(callback)
            stopping = self._stopping
        if stopping:
            _call(callback)

    def remove_stop_callback(self, callback: StopCallback) -> None:
        """Forget a callback.

        Raises:
            ValueError: It is not registered.
        """
        with self._changed:
            self._callbacks.remove(callback)

    def register_thread(self, thread: Member) -> None:
        """Have `join` wait for a thread, a process, an enqueuer or a loader.

        If it has a method ``request_stop``, that is called at the stop. `join` forgets it.

        Raises:
            TypeError: It has no ``is_alive()`` and ``join(timeout)``.
        """
        _check_member(thread)
        with self._changed:
            self._members[id(thread)] = thread
            stopping = self._stopping
        if stopping:
            for callback in _stoppers([thread]):
                _call(callback)

    # Waiting for them

    def join(
        self,
        threads: Iterable[Member] | None = None,
        stop_grace_period_secs: float = 120,
        ignore_live_threads: bool = False,
    ) -> None:
        """Block until all members have ended; once a stop is asked for, for the grace period at most.

        Without a stop there is no bound. Members registered later are not waited for. Afterwards the registered members
        and callbacks are forgotten; a second `join` raises the exception again.

        Args:
            threads: Members to wait for besides the registered ones.
            stop_grace_period_secs: Seconds that the members have from the stop, or from this call if that is later.
            ignore_live_threads: Whether to return quietly when members are still alive after the grace period.

        Raises:
            BaseException: The exception that was reported; it wins over the next one.
            RuntimeError: Members are still alive after the grace period (it names them), or the current thread is one.
            TypeError: ``threads`` holds something that cannot be joined.
        """
        members = self._all_members(threads)
        ending = _Ending(members, self._changed)
        with self._changed:
            self._changed.wait_for(lambda: ending.is_over or self._stopping)
            self._changed.wait_for(lambda: ending.is_over, min(stop_grace_period_secs, threading.TIMEOUT_MAX))
        if ending.error is not None:
            raise ending.error
        stragglers = [_name(member) for member in members if member.is_alive()]
        with self._changed:
            self._joined = True
            self._members.clear()
            self._callbacks.clear()
        self.raise_requested_exception()
        if stragglers:
            _report_stragglers(stragglers, ignore_live_threads)

    @property
    def joined(self) -> bool:
        """Whether `join` has ended, by returning or raising, since the last `clear_stop`."""
        return self._joined

    def _all_members(self, threads: Iterable[Member] | None) -> list[Member]:
        given = {id(member): member for member in threads or ()}
        for member in given.values():
            _check_member(member)
        with self._changed:
            members = [*(self._members | given).values()]
        if threading.current_thread() in members:
            raise RuntimeError(f"{_name(threading.current_thread())} cannot wait for itself to end")
        return members

    def _keep(self, error: BaseException | None) -> None:
        self._error = error
        self._traceback = None if error is None else error.__traceback__
        if error is not None:
            _log.info("error reported to the coordinator: %r", error)

    def __repr__(self) -> str:
        state = "joined" if self._joined else "stopping" if self._stopping else "running"
        error = "" if self._error is None else f", {self._error!r}"
        return f"<{type(self).__name__}: {state}, {len(self._members)} registered{error}>"


class _Ending:
    """Tells a condition when the last of some members has ended.

    Its thread lives as long as they do, also when nobody waits any more: it is a daemon and holds nothing but them.
    """

    def __init__(self, members: list[Member], changed: threading.Condition) -> None:
        self._members, self._changed = members, changed
        self.error: BaseException | None = None
        self.is_over = not any(member.is_alive() for member in members)
        if not self.is_over:
            threading.Thread(target=self._wait, name="mpqueue-coordinator-join", daemon=True).start()

    def _wait(self) -> None:
        try:
            for member in self._members:
                if member.is_alive():  # a thread that was never started cannot be joined
                    member.join()
        except BaseException as error:
            self.error = error
        finally:
            with self._changed:
                self.is_over = True
                self._changed.notify_all()


def _exception_types(types: Iterable[type[BaseException]] | None) -> tuple[type[BaseException], ...]:
    if types is None:
        return (OutOfRangeError,)
    found = tuple(types) if isinstance(types, Iterable) else (types,)
    for type_ in found:
        if not (isinstance(type_, type) and issubclass(type_, BaseException)):
            raise TypeError(f"clean_stop_exception_types must hold exception classes, got {type_!r}")
    return found


def _reported(ex: BaseException | ExcInfo | None) -> BaseException | None:
    """The exception in an argument of `Coordinator.request_stop`."""
    error = ex[1] if isinstance(ex, tuple) and len(ex) == 3 else ex
    if error is not None and not isinstance(error, BaseException):
        raise TypeError(f"request_stop takes an exception, sys.exc_info() or None, got {ex!r}")
    return error


def _check_member(member: object) -> None:
    if not isinstance(member, Member):
        raise TypeError(
            f"a coordinator waits for what has is_alive() and join(timeout), such as a thread; got {member!r}"
        )


def _stoppers(members: Iterable[Member]) -> list[StopCallback]:
    return [member.request_stop for member in members if hasattr(member, "request_stop")]


def _call(callback: StopCallback) -> None:
    """Call a stop callback; its error is logged, for the others have to be called and the first report has to win."""
    try:
        callback()
    except Exception:
        _log.exception("a stop callback failed: %r", callback)


def _name(member: Member) -> str:
    return str(getattr(member, "name", None) or repr(member))


def _report_stragglers(stragglers: list[str], ignore: bool) -> None:
    message = f"Coordinator stopped with threads still running: {' '.join(stragglers)}"
    if not ignore:
        raise RuntimeError(message)
    _log.info(message)
