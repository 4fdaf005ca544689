"""The coordinator: the one place where a program's threads and processes agree to stop, and report why.

::

    a thread, a runner, a worker           the coordinator             whoever joins
    ───────────────────────────           ───────────────             ─────────────
    with coord.stop_on_exception():
      while not coord.should_stop():
        work, fails  ──request_stop(error)──►  RUNNING → STOPPING
                                               the first error is kept
                                               stop callbacks run,
                                               the scope is cancelled ──► blocked queue calls and gets are freed
                                                                     join: waits for the members, raises the error

One condition guards the state, and all waits are waits for it: nothing polls. Its lock is re-entrant, because the
handler of a signal may ask for a stop while the thread that it interrupts holds the lock. Callbacks and members are
called outside of the lock: they may take locks of their own.

The process that made a coordinator owns it. In any other process it is a proxy: a coordinator for the threads of that
process, whose state follows the owner's, and which sends reports to the owner instead of keeping them. An `Endpoint`
connects the two.
"""

import contextlib
import functools
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TypeAlias

from mpqueue.engine.members import checked_wait
from mpqueue.errors import OutOfRangeError
from mpqueue.system.condition import Condition
from mpqueue.system.interrupts import defer_signals
from mpqueue.tf1.coordination.cancellation import CancellationScope
from mpqueue.tf1.coordination.coordinator_proxy import Endpoint
from mpqueue.tf1.coordination.members import Ending, Member, StopCallback, check_member, name_of, stoppers
from mpqueue.transport.credentials import Address
from mpqueue.worker import failures

_log = logging.getLogger(__name__)

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Coordinator:
    """Lets threads and processes stop together, and raises the cause in `join`.

    Any thread may call any method. `should_stop` turns True at the first `request_stop`, which also runs the stop
    callbacks; an exception reported with it is kept and raised by `join`. Later reports change nothing: the first wins.

    It may be captured by a source, sent to another process in any way that pickles, or inherited by a fork. There,
    `should_stop`, `wait_for_stop` and the callbacks follow the process that made it, and `request_stop` and
    `stop_on_exception` report to it, exceptions as their own type; members are those of the process in which they are
    registered. If the process that made it is gone, that is a stop.

    Example:
        Two threads of which one fails::

            import threading
            import mpqueue

            coordinator = mpqueue.train.Coordinator()

            def work():
                while not coordinator.should_stop():
                    coordinator.wait_for_stop()

            def fail():
                with coordinator.stop_on_exception():
                    raise LookupError("no such file")

            threads = [threading.Thread(target=work), threading.Thread(target=fail)]
            for thread in threads:
                thread.start()
            try:
                coordinator.join(threads)
            except LookupError as error:
                assert str(error) == "no such file"

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
        self._changed = Condition()
        self._stopping = False
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._joined = False
        self._members: dict[int, Member] = {}
        self._callbacks: list[StopCallback] = []
        self._scope = CancellationScope()
        self._endpoint = Endpoint(self)

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
        if not self._endpoint.is_owner:
            self._report(error)
            return
        if isinstance(error, self._clean_stop_exception_types):
            error = None
        with defer_signals():  # Ctrl-C in here would leave a stop that nobody was told of, and a later one does nothing
            with self._changed:
                if self._joined and error is not None:
                    raise error
                callbacks = self._begin_stop(error)
            for callback in callbacks:
                _call(callback)

    def _begin_stop(self, error: BaseException | None) -> list[StopCallback]:
        """Change the state, and return what has to be called once the lock is released."""
        if self._stopping:
            _log.info("a stop is under way, this report is dropped: %r", error)
            return []
        self._keep(error)
        self._stopping = True
        self._endpoint.send_state(stopping=True)
        self._changed.notify_all()
        free_blocked = functools.partial(self._scope.cancel_soon, "the coordinator stops")
        return [*self._callbacks, *stoppers(self._members.values()), free_blocked]

    def should_stop(self) -> bool:
        """Return True once a stop was asked for; cheap enough for any loop."""
        self._endpoint.follow()
        return self._stopping

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Block until a stop is asked for.

        Args:
            timeout: Seconds to wait at most, None for ever.

        Returns:
            True if a stop was asked for.

        Raises:
            TypeError: ``timeout`` is no number.
            ValueError: It is not a number (NaN).
        """
        limit = checked_wait(timeout)
        self._endpoint.follow()
        return self._changed.wait_for(lambda: self._stopping, limit)

    @contextlib.contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """Report, and swallow, whatever is raised in the body of the ``with`` statement.

        A call of the body that is blocked in a queue, or is about to block there, ends at the stop: it raises
        `CancelledError`, after the stop callbacks have been called. Calls that need not wait are not affected.
        """
        self._endpoint.follow()
        try:
            with self.scope.active():
                yield
        except BaseException as error:  # also KeyboardInterrupt: `join` raises it where the program waits
            self.request_stop(error)

    @property
    def scope(self) -> CancellationScope:
        """The scope whose blocked calls end at the stop; for the library itself."""
        return self._scope

    def clear_stop(self) -> None:
        """Forget the stop, its exception and the join, so that the coordinator can be used once more.

        Raises:
            RuntimeError: This is not the process that made the coordinator.
        """
        if not self._endpoint.is_owner:
            raise RuntimeError("only the process that made a coordinator can clear its stop")
        self._clear()

    def _clear(self) -> None:
        with self._changed:
            self._keep(None)
            self._stopping = self._joined = False
            self._scope = CancellationScope()
            self._endpoint.send_state(stopping=False)

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

        Args:
            callback: Called without arguments.

        Raises:
            TypeError: It cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"a stop callback is a function without arguments, got {callback!r}")
        self._endpoint.follow()
        with self._changed:
            self._callbacks.append(callback)
            stopping = self._stopping
        if stopping:
            _call(callback)

    def remove_stop_callback(self, callback: StopCallback) -> None:
        """Forget a callback.

        Args:
            callback: One that `add_stop_callback` was given.

        Raises:
            ValueError: It is not registered.
        """
        with self._changed:
            self._callbacks.remove(callback)

    def register_thread(self, thread: Member) -> None:
        """Have `join` wait for a thread, a process, an enqueuer or a loader.

        If it has a method ``request_stop``, that is called at the stop. `join` forgets it.

        Args:
            thread: A `threading.Thread`, a `multiprocessing.Process`, or anything with ``is_alive()`` and
                ``join(timeout)``.

        Raises:
            TypeError: It has no ``is_alive()`` and ``join(timeout)``.
        """
        check_member(thread)
        self._endpoint.follow()
        with self._changed:
            self._members[id(thread)] = thread
            stopping = self._stopping
        if stopping:
            for callback in stoppers([thread]):
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
            ignore_live_threads: Return quietly when members are still alive after the grace period.

        Raises:
            BaseException: The exception that was reported; it wins over the next one.
            RuntimeError: Members are still alive after the grace period (it names them), or the current thread is one.
            TypeError: ``threads`` is no list, or one of them cannot be joined; or the grace period is no number.
            ValueError: The grace period is not a number (NaN).
        """
        grace_s = checked_wait(stop_grace_period_secs, "stop_grace_period_secs")
        self._endpoint.follow()
        members = self._all_members(threads)
        ending = Ending(members, self._changed)
        self._changed.wait_for(lambda: ending.is_over or self._stopping)
        self._changed.wait_for(lambda: ending.is_over, grace_s)
        if ending.error is not None:
            raise ending.error
        stragglers = [name_of(member) for member in members if member.is_alive()]
        with self._changed:
            self._joined = True
            self._members.clear()
            self._callbacks.clear()
        self.raise_requested_exception()
        if stragglers:
            _report_stragglers(stragglers, ignore_live_threads)

    @property
    def joined(self) -> bool:
        """True if `join` has ended, by returning or raising, since the last `clear_stop`."""
        return self._joined

    def _all_members(self, threads: Iterable[Member] | None) -> list[Member]:
        if not isinstance(threads, Iterable | None):
            raise TypeError(f"join takes a list of threads or None, got {threads!r}")
        given = {id(member): member for member in threads or ()}
        for member in given.values():
            check_member(member)
        with self._changed:
            members = [*(self._members | given).values()]
        if threading.current_thread() in members:
            raise RuntimeError(f"{name_of(threading.current_thread())} cannot wait for itself to end")
        return members

    def _keep(self, error: BaseException | None) -> None:
        self._error = error
        self._traceback = None if error is None else error.__traceback__
        if error is not None:
            _log.info("error reported to the coordinator: %r", error)

    # Other processes, see `Endpoint`

    def take_report(self, report: bytes) -> bool:
        """Stop because a proxy asks for it; return False if the proxy has to raise the exception itself.

        Args:
            report: The pickled exception, or nothing.
        """
        error = failures.unpack(report) if report else None
        try:
            self.request_stop(error)
        except BaseException as raised:
            if raised is not error:
                raise
            return False
        return True

    def take_state(self, stopping: bool) -> None:
        """Follow the state of the owner.

        Args:
            stopping: True if a stop was asked for there.
        """
        if not stopping:
            self._clear()
            return
        with self._changed:
            callbacks = self._begin_stop(None)
        for callback in callbacks:
            _call(callback)

    def leave_parent(self) -> None:
        """Forget the parent's members, and the lock that its threads may hold."""
        self._changed = Condition()
        self._joined = False
        self._keep(None)
        self._members, self._callbacks = {}, []
        self._scope = CancellationScope()

    def _report(self, error: BaseException | None) -> None:
        """Ask the owner to stop; raise the exception here if nobody would see it there."""
        note = f"reported to the coordinator by process {os.getpid()}"
        if not self._endpoint.report(b"" if error is None else failures.pack(error, note)) and error is not None:
            raise error

    def __reduce__(self) -> tuple[Any, ...]:
        address = self._endpoint.address()
        _by_address[address] = self
        return _at, (address,)

    def __repr__(self) -> str:
        state = "joined" if self._joined else "stopping" if self._stopping else "running"
        error = "" if self._error is None else f", {self._error!r}"
        return f"<{type(self).__name__}: {state}, {len(self._members)} registered{error}>"


def _exception_types(types: Iterable[type[BaseException]] | None) -> tuple[type[BaseException], ...]:
    """Return the classes that mean a clean end; None: the end of input.

    Raises:
        TypeError: One is no class of exceptions.
    """
    if types is None:
        return (OutOfRangeError,)
    found = tuple(types) if isinstance(types, Iterable) else (types,)
    for type_ in found:
        if not (isinstance(type_, type) and issubclass(type_, BaseException)):
            raise TypeError(f"clean_stop_exception_types must hold exception classes, got {type_!r}")
    return found


def _reported(ex: BaseException | ExcInfo | None) -> BaseException | None:
    """Return the exception in an argument of `Coordinator.request_stop`.

    Raises:
        TypeError: There is none in it.
    """
    error = ex[1] if isinstance(ex, tuple) and len(ex) == 3 else ex
    if error is not None and not isinstance(error, BaseException):
        raise TypeError(f"request_stop takes an exception, sys.exc_info() or None, got {ex!r}")
    return error


def _call(callback: StopCallback) -> None:
    """Call a stop callback; its error is logged, for the others have to be called and the first report has to win."""
    try:
        callback()
    except Exception:
        _log.exception("a stop callback failed: %r", callback)


def _report_stragglers(stragglers: list[str], ignore: bool) -> None:
    message = f"Coordinator stopped with threads still running: {' '.join(stragglers)}"
    if not ignore:
        raise RuntimeError(message)
    _log.info(message)


_by_address: weakref.WeakValueDictionary[Address, Coordinator] = weakref.WeakValueDictionary()


def _at(address: Address) -> Coordinator:
    """Return the coordinator of an address: the original in its owner, elsewhere its one proxy."""
    coordinator = _by_address.get(address)
    if coordinator is None:
        coordinator = _by_address[address] = Coordinator()
        coordinator._endpoint = Endpoint(coordinator, address)
    return coordinator
