"""The coordinator: stops a program's threads and processes together, and reports the cause.

::

    a thread, a runner, a worker           the coordinator             the thread that joins
    ───────────────────────────           ───────────────             ─────────────────────
    with coord.stop_on_exception():
      while not coord.should_stop():
        raises an error ──request_stop(error)──►  RUNNING → STOPPING
                                               keeps the first error,
                                               runs the stop callbacks,
                                               cancels the scope ──► ends blocked queue calls and gets
                                                                     join: waits for the members, raises the error

One condition protects the state, and each wait is for this condition, without polling. Its lock is reentrant, because a
signal handler may request a stop while the interrupted thread holds the lock. Callbacks and members are called without
the lock, since they may take other locks.

The process that creates a coordinator owns it. In other processes it is a proxy: a coordinator for the threads of that
process, which follows the owner's state and sends reports to the owner. An `Endpoint` connects them.
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

from mpqueue.engine.stopping import checked_wait
from mpqueue.errors import OutOfRangeError
from mpqueue.system.log import logger_of
from mpqueue.system.signals.condition import Condition
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.exceptions import matches, set_traceback, traceback_of
from mpqueue.system.user_code.exception_texts import named_text_of
from mpqueue.tf1.coordination.cancellation import CancellationScope
from mpqueue.tf1.coordination.coordinator_proxy import Endpoint
from mpqueue.tf1.coordination.members import Ending, Member, StopCallback, check_member, name_of, stoppers
from mpqueue.transport.credentials import Address
from mpqueue.worker import failures

_log = logger_of(__name__)

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Coordinator:
    """Stops threads and processes together, and raises the cause in `join`.

    Any thread may call any method. The first `request_stop` makes `should_stop` return True and runs the stop
    callbacks. If it reports an exception, `join` raises the exception. Later reports have no effect.

    A source may capture the coordinator; it may be pickled and sent to another process, or inherited by a fork. There,
    `should_stop`, `wait_for_stop` and the callbacks follow the process that created it. `request_stop` and
    `stop_on_exception` report to that process, and exceptions keep their type. Members belong to the process that
    registered them. If the process that created the coordinator exits, the others stop.

    Example:
        Two threads, one of which fails::

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
        clean_stop_exception_types: Exceptions that mean a normal end. Reporting such an exception, or a subclass, is a
            stop without an exception. None: ``(OutOfRangeError,)``, the end of input.

    Raises:
        TypeError: ``clean_stop_exception_types`` is not an iterable of exception classes.

    Follows: ``tf.train.Coordinator``, except that an exception that was never raised may be reported, and that there is
        no polling.
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

    # Requesting a stop, and checking for it

    def request_stop(self, ex: BaseException | ExcInfo | None = None) -> None:
        """Request a stop, and report the cause.

        The first call runs the stop callbacks in this thread, in the order of their registration. Later calls have no
        effect. After `join`, no thread would receive a report, so this method raises the exception instead.

        Args:
            ex: The exception, or a result of ``sys.exc_info()``. An exception of a clean type counts as None.

        Raises:
            TypeError: ``ex`` is neither an exception nor a result of ``sys.exc_info()``.
            BaseException: ``ex`` itself, if the coordinator was joined already.
        """
        error = _reported(ex)
        if not self._endpoint.is_owner:
            self._report(error)
            return
        if error is not None and matches(error, *self._clean_stop_exception_types):
            error = None
        # After Ctrl-C in this block, the stop would be set without any notification, and later calls have no effect.
        with defer_signals():
            with self._changed:
                if self._joined and error is not None:
                    raise error
                callbacks = self._begin_stop(error)
            for callback in callbacks:
                _call(callback)

    def _begin_stop(self, error: BaseException | None) -> list[StopCallback]:
        """Change the state; return the functions to call after the lock was released."""
        if self._stopping:
            _note("Stopping already. This report is ignored: %s", error)
            return []
        self._keep(error)
        self._stopping = True
        self._endpoint.send_state(stopping=True)
        self._changed.notify_all()
        free_blocked = functools.partial(self._scope.cancel_soon, "the coordinator stops")
        return [*self._callbacks, *stoppers(self._members.values()), free_blocked]

    def should_stop(self) -> bool:
        """Return True after a stop was requested. It is cheap enough for any loop."""
        self._endpoint.follow()
        return self._stopping

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Block until a stop is requested.

        Args:
            timeout: Maximum time to wait in seconds. None: wait indefinitely.

        Returns:
            True if a stop was requested.

        Raises:
            TypeError: ``timeout`` is not a number.
            ValueError: ``timeout`` is NaN.
        """
        limit = checked_wait(timeout)
        self._endpoint.follow()
        return self._changed.wait_for(lambda: self._stopping, limit)

    @contextlib.contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """Report each exception of the ``with`` block, and suppress it.

        A call of the block that blocks in a queue ends at the stop. It raises `CancelledError` after the stop callbacks
        have run. Calls that need not wait are not affected.
        """
        self._endpoint.follow()
        try:
            with self.scope.active():
                yield
        except BaseException as error:  # also KeyboardInterrupt, which `join` raises in the waiting thread
            self.request_stop(error)

    @property
    def scope(self) -> CancellationScope:
        """The scope that cancels blocked calls at the stop; for internal use."""
        return self._scope

    @property
    def reason(self) -> str:
        """Class and message of the reported exception, or an empty string; for internal use."""
        error = self._error
        return "" if error is None else named_text_of(error)

    def clear_stop(self) -> None:
        """Reset the stop, its exception and the join, so that the coordinator can be used again.

        Raises:
            RuntimeError: This process has not created the coordinator.
        """
        if not self._endpoint.is_owner:
            raise RuntimeError("clear_stop() must be called in the process that created the coordinator.")
        self._clear()

    def _clear(self) -> None:
        with self._changed:
            self._keep(None)
            self._stopping = self._joined = False
            self._scope = CancellationScope()
            self._endpoint.send_state(stopping=False)

    def raise_requested_exception(self) -> None:
        """Raise the reported exception, at each call. Return if no exception was reported."""
        with self._changed:
            if self._error is not None:
                # Restore the original traceback: otherwise each raise would add the frames of this one.
                set_traceback(self._error, self._traceback)
                raise self._error

    # Members and callbacks

    def add_stop_callback(self, callback: StopCallback) -> None:
        """Register a callback for the stop. If a stop was requested already, call it at once.

        The callback runs in the thread that requests the stop and must not block. It is intended for calls such as
        ``queue.close(cancel_pending_enqueues=True)``. Its exceptions are logged. `join` removes all callbacks.

        Args:
            callback: A callable without arguments.

        Raises:
            TypeError: ``callback`` is not callable.
        """
        if not callable(callback):
            raise TypeError(f"callback must be a callable without arguments, got {callback!r}.")
        self._endpoint.follow()
        with self._changed:
            self._callbacks.append(callback)
            stopping = self._stopping
        if stopping:
            _call(callback)

    def remove_stop_callback(self, callback: StopCallback) -> None:
        """Remove a callback.

        Args:
            callback: A callback that was passed to `add_stop_callback`.

        Raises:
            ValueError: The callback is not registered.
        """
        with self._changed:
            self._callbacks.remove(callback)

    def register_thread(self, thread: Member) -> None:
        """Register a thread, a process, an enqueuer or a loader, which `join` waits for.

        If it has a method ``request_stop``, the method is called at the stop. `join` removes all members.

        Args:
            thread: A `threading.Thread`, a `multiprocessing.Process`, or any object with ``is_alive()`` and
                ``join(timeout)``.

        Raises:
            TypeError: The object does not have ``is_alive()`` and ``join(timeout)``.
        """
        check_member(thread)
        self._endpoint.follow()
        with self._changed:
            self._members[id(thread)] = thread
            stopping = self._stopping
        if stopping:
            for callback in stoppers([thread]):
                _call(callback)

    # Joining

    def join(
        self,
        threads: Iterable[Member] | None = None,
        stop_grace_period_secs: float = 120,
        ignore_live_threads: bool = False,
    ) -> None:
        """Block until all members have finished. After a stop request, wait at most for the grace period.

        Without a stop request, it waits indefinitely. Members that are registered during the call are not included.
        Afterwards all registered members and callbacks are removed. A second `join` raises the exception again.

        Args:
            threads: Members to wait for, in addition to registered ones.
            stop_grace_period_secs: Time in seconds for the members to finish after the stop request, or after this call
                if it is later.
            ignore_live_threads: Return without an error if members are still running after the grace period.

        Raises:
            BaseException: The reported exception. It takes precedence over the next error.
            RuntimeError: Members are still running after the grace period (the message names them), or the current
                thread is a member.
            TypeError: ``threads`` is not a list, a member cannot be joined, or the grace period is not a number.
            ValueError: The grace period is NaN.
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
        """True if `join` has returned or raised since the last `clear_stop`."""
        return self._joined

    def _all_members(self, threads: Iterable[Member] | None) -> list[Member]:
        if not isinstance(threads, Iterable | None):
            raise TypeError(f"threads must be a list of threads or None, got {threads!r}.")
        extra = {id(member): member for member in threads or ()}
        for member in extra.values():
            check_member(member)
        with self._changed:
            members = [*(self._members | extra).values()]
        if threading.current_thread() in members:
            raise RuntimeError(f"{name_of(threading.current_thread())} cannot join itself.")
        return members

    def _keep(self, error: BaseException | None) -> None:
        self._error = error
        self._traceback = None if error is None else traceback_of(error)
        if error is not None:
            _note("Error reported to the coordinator: %s", error)

    # Other processes; see `Endpoint`

    def take_report(self, report: bytes) -> bool:
        """Stop because of a proxy's report; return False if the proxy must raise the exception itself.

        Args:
            report: The pickled exception, or ``b""``.
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
        """Follow a state of the owner.

        Args:
            stopping: True if a stop was requested in the owner.
        """
        if not stopping:
            self._clear()
            return
        with self._changed:
            callbacks = self._begin_stop(None)
        for callback in callbacks:
            _call(callback)

    def leave_parent(self) -> None:
        """Discard the parent's members, and replace locks that its threads may hold."""
        self._changed = Condition()
        self._joined = False
        self._keep(None)
        self._members, self._callbacks = {}, []
        self._scope = CancellationScope()

    def _report(self, error: BaseException | None) -> None:
        """Report to the owner; raise the exception here if the owner cannot handle it."""
        note = f"reported to the coordinator by process {os.getpid()}"
        if not self._endpoint.report(b"" if error is None else failures.pack(error, note)) and error is not None:
            raise error

    def __reduce__(self) -> tuple[Any, ...]:
        address = self._endpoint.address()
        _by_address[address] = self
        return _at, (address,)

    def __repr__(self) -> str:
        state = "joined" if self._joined else "stopping" if self._stopping else "running"
        error = "" if self._error is None else f", {named_text_of(self._error)}"
        return f"<{type(self).__name__}: {state}, {len(self._members)} registered{error}>"


def _exception_types(types: Iterable[type[BaseException]] | None) -> tuple[type[BaseException], ...]:
    """Return the exception classes that mean a normal end.

    Raises:
        TypeError: An item is not an exception class.
    """
    if types is None:
        return (OutOfRangeError,)
    classes = tuple(types) if isinstance(types, Iterable) else (types,)
    for type_ in classes:
        if not (isinstance(type_, type) and issubclass(type_, BaseException)):
            raise TypeError(f"clean_stop_exception_types must contain exception classes, got {type_!r}.")
    return classes


def _reported(ex: BaseException | ExcInfo | None) -> BaseException | None:
    """Return the exception in the argument of `Coordinator.request_stop`, or None.

    Raises:
        TypeError: The argument has a wrong type.
    """
    error = ex[1] if isinstance(ex, tuple) and len(ex) == 3 else ex
    if error is not None and not matches(error, BaseException):
        raise TypeError(f"ex must be an exception, a result of sys.exc_info() or None, got {ex!r}.")
    return error


def _note(text: str, error: BaseException | None) -> None:
    if _log.isEnabledFor(logging.INFO):
        _log.info(text, None if error is None else named_text_of(error))


def _call(callback: StopCallback) -> None:
    """Call a stop callback and log its exception: other callbacks must still run, and the first report counts."""
    # Signal handlers are deferred, so that each exception is the callback's own. A SystemExit is logged like any other:
    # it would skip the other callbacks, or end the thread that serves other processes.
    with defer_signals():
        try:
            callback()
        except BaseException:
            _log.exception("A stop callback failed: %r", callback)


def _report_stragglers(stragglers: list[str], ignore: bool) -> None:
    message = f"Coordinator stopped with threads still running: {' '.join(stragglers)}"
    if not ignore:
        raise RuntimeError(message)
    _log.info(message)


_by_address: weakref.WeakValueDictionary[Address, Coordinator] = weakref.WeakValueDictionary()


def _at(address: Address) -> Coordinator:
    """Return the coordinator with an address: the original in its owner, a single proxy in other processes."""
    coordinator = _by_address.get(address)
    if coordinator is None:
        coordinator = _by_address[address] = Coordinator()
        coordinator._endpoint = Endpoint(coordinator, address)
    return coordinator
