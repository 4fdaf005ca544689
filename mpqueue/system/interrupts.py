"""Deferred signal handlers, for code that an exception from a handler would leave in an unknown state.

Ctrl-C may raise between any two bytecodes of the main thread: for instance between the start of a process and the line
that records it. In such code, handlers are deferred: a signal is recorded, and handled when the work is done. Steps
that may take long (sending a source through a socket, waiting for workers) allow them:

    with defer_signals():             # start or stop something
        ...
        allow_signals(poll.poll)      # an exception of a handler leaves the block, which cleans up undisturbed
        ...

In other threads than the main one, these functions have no effect, because no handler runs there. But the kernel may
deliver a signal of the process to any thread that does not block it, if the main thread has another pending signal or
is stopped. That does not end a wait of the main thread, where the handler must run. So this package's threads block
signals.
"""

import _thread
import functools
import gc
import os
import signal
import sys
import threading
import traceback

# `signal.getsignal` and `signal.signal` create an Enum for each result: 40 times slower.
from _signal import getsignal  # type: ignore[import-not-found]
from _signal import signal as set_handler
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import pairwise, starmap
from types import FrameType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from mpqueue.system.contexts import context_manager
from mpqueue.system.exceptions import cause_of, context_of, matches, members_of, traceback_of

_P = ParamSpec("_P")
_T = TypeVar("_T")
_E = TypeVar("_E", bound=BaseException)

_SIGNALS = tuple(map(int, signal.valid_signals()))
# Signals that a thread causes itself.
_ERRORS = {"SIGABRT", "SIGBUS", "SIGEMT", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}
OF_PROCESS = {number for number in signal.valid_signals() if getattr(number, "name", "") not in _ERRORS}
_CO_VARARGS = 0x4  # as in `inspect`, which takes long to import
_handlers: dict[int, Any] = {}  # the user's handlers that are replaced now
_seen: list[Any] = []  # all handlers at the last check
_to_replace: list[int] = []  # signals with a callable handler: nearly always the same few
_pending: list[int] = []  # signals that arrived while they were deferred
_pending_after_collection: list[signal.Signals] = []  # to be handled after the garbage collection
_is_deferring = False
_delivers_late = False  # `allow_signals` has no effect


def block_signals() -> None:
    """Block the signals of the process in this thread, so that other threads receive them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, OF_PROCESS)


def set_signal_mask(blocked: AbstractSet[int] = frozenset()) -> None:
    """Block these signals in this thread, and no others.

    Raises:
        BaseException: The handler of a signal that was blocked until now has raised. The mask is set.
    """
    pending = signal.sigpending() - blocked
    if not pending:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return
    # One by one: of several, the kernel puts all frames on the stack before a handler returns. The stack that
    # `faulthandler` installs has room for three frames of a CPU with AVX-512 (3.4 KB each), and the fourth signal would
    # end the process by SIGSEGV.
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {pending.pop()})
    finally:
        set_signal_mask(blocked)


@context_manager
def unblock_signals() -> Iterator[None]:
    """Unblock all signals inside the context, so that user code starts processes with this setting."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_PROCESS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class defer_signals:  # noqa: N801  # a context manager, spelled as those of contextlib are
    """A context that defers the user's signal handlers, so that no signal raises."""

    def __enter__(self) -> Self:
        global _is_deferring
        self._is_outermost = not _is_deferring and _is_main_thread()
        if self._is_outermost:
            try:
                # The flag first, and in reverse order at the end. A garbage collection may run in between. A finalizer
                # that defers signals itself then counts as nested, and does not restore the handlers.
                _is_deferring = True
                _replace()
            except BaseException:
                _is_deferring = False
                restore()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _is_deferring
        if self._is_outermost:
            _is_deferring = False
            restore()
            _deliver()


def _is_main_thread() -> bool:
    # Not `threading.current_thread`: if a handler raises a KeyError in it, it replaces the main thread's object
    # permanently.
    return threading.get_ident() == threading.main_thread().ident


def are_signals_deferred() -> bool:
    """Return whether signal handlers are deferred in this thread."""
    return _is_deferring and _is_main_thread()


def allow_signals(call: Callable[_P, _T], /, *args: _P.args, **options: _P.kwargs) -> _T:
    """Call a function with signals handled at once, although they are deferred in the surrounding block."""
    global _is_deferring
    if not _is_deferring or _delivers_late or not _is_main_thread():
        return call(*args, **options)
    raised: list[BaseException] = []  # one at most. A variable would create a reference cycle of frame and error
    try:
        _is_deferring = False
        restore()
        _deliver()
        result = call(*args, **options)
    except BaseException as error:
        raised = [error]
    is_replaced = False
    while not is_replaced:  # a handler may raise again, at the first step of each function that is called here
        try:
            _is_deferring = True
            _replace()
            is_replaced = True
        except BaseException as error:
            raised = raised or [error]
    if raised:
        raise raised.pop()
    return result


def deliver_after_return(call: Callable[[], object], *, is_last: bool = True) -> None:
    """Call a function, and handle the signals that arrive in it after the caller has returned to C code.

    For callbacks of weak references, where an exception of a handler would be lost. The caller must return at once.

    Args:
        call: The function.
        is_last: If False, C code calls other callbacks then, and the next call of this function handles the signals.
    """
    global _is_deferring, _delivers_late
    if not _is_main_thread():
        call()
        return
    if _is_deferring:  # a collection inside a `defer_signals` block, which handles the signals later
        before, _delivers_late = _delivers_late, True
        try:
            _replace_and(call)  # the surrounding block may be about to replace the handlers
        finally:
            _delivers_late = before
        return
    try:
        _is_deferring = _delivers_late = True
        _replace_and(call)
    finally:
        is_collecting = bool(_pending) and _is_collecting()
        _is_deferring = _delivers_late = False
        restore()
        arrived: tuple[signal.Signals, ...] = ()
        if is_last:
            arrived, _pending[:] = tuple(map(signal.Signals, _pending)), ()
        if arrived and is_collecting:
            _deliver_after_collection(arrived)
        else:
            # They are pending from here on, and Python does not check for signals before the next call.
            [*map(_thread.interrupt_main, arrived)]


def _is_collecting() -> bool:
    """Return whether a garbage collection is running: no second one can start then."""
    phases: list[str] = []

    def note(phase: str, _info: object) -> None:
        # CPython returns at once from `gc.collect` if a collection is running, without calling the callbacks.
        phases.append(phase)

    gc.callbacks.append(note)
    gc.collect(0)
    gc.callbacks.remove(note)
    return not phases


def _deliver_after_collection(arrived: Iterable[signal.Signals]) -> None:
    """Handle signals after all finalizers and callbacks of the running garbage collection.

    An exception of a handler would be lost in any of them: in another loader's finalizer, or in an entry of
    `gc.callbacks`, where JAX has one.
    """
    _pending_after_collection.extend(arrived)
    # One callback for all signals: Python skips the callback after one that removes itself from the list.
    if _deliver_at_its_end not in gc.callbacks:
        gc.callbacks.append(_deliver_at_its_end)


def _deliver_at_its_end(_phase: str, _info: object) -> None:
    if gc.callbacks[-1] is not _deliver_at_its_end:  # callbacks that were added later must run before this one
        gc.callbacks.append(_deliver_at_its_end)
        return
    # Remove it from the last place, because Python skips the callback after one that removes itself.
    while _deliver_at_its_end in gc.callbacks:
        gc.callbacks.remove(_deliver_at_its_end)
    arrived, _pending_after_collection[:] = tuple(_pending_after_collection), ()
    [*map(_thread.interrupt_main, arrived)]  # the last statement, as above


def _replace_and(call: Callable[[], object]) -> None:
    """Call a function with handlers replaced, even if a handler has raised while it was replaced."""
    try:
        _replace()
    finally:
        call()


def is_of_handler(error: BaseException) -> bool:
    """Return whether a signal handler raised this exception, or one that caused it.

    The traceback of such an exception contains the frame of the handler. A handler is recognized if it is installed
    now. It may have installed a new one, so it is also recognized by its arguments: the number of a signal, and the
    frame that Python interrupted.

    Code that catches the exception of a handler as an expected error, such as a ``ValueError``, raises another
    exception because of it. That exception is recognized if it has passed through the frame that caught the first one.
    An exception that the caller was handling before does not count. An exception group is recognized by its members.
    """
    codes = _codes_of_handlers()
    pending, seen = [error], {id(error)}
    while pending:
        error = pending.pop()
        frames = [frame for frame, _ in traceback.walk_tb(traceback_of(error))]
        if any(frame.f_code in codes for frame in frames) or any(starmap(_is_call_by_signal, pairwise(frames))):
            return True
        pending += members_of(error)
        for reason in (cause_of(error), context_of(error)):
            if reason is None or id(reason) in seen or (raised := traceback_of(reason)) is None:
                continue
            seen.add(id(reason))
            if raised.tb_frame in frames:
                pending.append(reason)
    return False


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception interrupts this thread, rather than being an error of the code that it runs.

    That is an exception of a signal handler, or a KeyboardInterrupt in the main thread: Python's own handler of Ctrl-C
    is written in C, and has no frame. A KeyboardInterrupt that the code raises itself cannot be distinguished from it.
    """
    return (_is_main_thread() and _has_keyboard_interrupt(error)) or is_of_handler(error)


def _has_keyboard_interrupt(error: BaseException) -> bool:
    return matches(error, KeyboardInterrupt) or any(map(_has_keyboard_interrupt, members_of(error)))


def not_of_handler(*kinds: type[_E]) -> tuple[type[_E], ...]:
    """Return the kinds for an ``except`` clause that lets interrupts pass, such as exceptions of signal handlers.

    Example:
        The alarm of a caller, which raises a TimeoutError, is not an error of the file::

            import os
            from mpqueue.system.interrupts import not_of_handler

            try:
                size = os.stat("absent").st_size
            except not_of_handler(OSError):
                size = 0

    Args:
        kinds: The kinds of exceptions to catch.

    Returns:
        The kinds, or nothing if `is_interrupt` is True of the exception that is being matched.
    """
    # Python evaluates the expression of an `except` clause only while it handles an exception.
    error = sys.exception()
    return () if error is not None and is_interrupt(error) else kinds


def _codes_of_handlers() -> set[Any]:
    codes = set()
    for number in _SIGNALS:
        handler: Any = _handlers.get(number) or getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if callable(handler):
            function = handler if hasattr(handler, "__code__") else getattr(handler, "__call__", None)  # noqa: B004
            codes.add(getattr(function, "__code__", None))  # a method has its function's code
    return codes


def _is_call_by_signal(caller: FrameType, called: FrameType) -> bool:
    local = called.f_locals
    code = called.f_code
    arguments: list[Any] = [local.get(name) for name in code.co_varnames[: code.co_argcount]]
    if code.co_flags & _CO_VARARGS:
        arguments += local.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount]) or ()
    return any(number in _SIGNALS and frame is caller for number, frame in pairwise(arguments) if type(number) is int)


def _replace() -> None:
    global _seen, _to_replace
    raised: list[BaseException] = []  # a list, as in `allow_signals`
    handlers = [*map(getsignal, _SIGNALS)]
    if handlers != _seen:  # one comparison of two lists rather than a test of each handler saves 3 of 10 µs
        _to_replace = [number for number, handler in zip(_SIGNALS, handlers, strict=True) if callable(handler)]
        _seen = handlers
    for number in _to_replace:
        # Until it is replaced: a handler that runs before may have installed a new one.
        while callable(handler := getsignal(number)) and handler is not _note:
            _handlers[number] = handler
            try:
                set_handler(number, _note)
            except BaseException as error:
                # Raised by a handler that is still installed: the others must be replaced, too.
                raised = raised or [error]
    if raised:
        raise raised.pop()


def _note(number: int, _frame: object) -> None:
    _pending.append(number)


def restore() -> None:
    """Restore the user's handlers. They do not receive the deferred signals, which do not concern a forked child."""
    raised: list[BaseException] = []  # a list, as in `allow_signals`
    while _handlers:
        try:
            for number, handler in list(_handlers.items()):
                set_handler(number, handler)
                _handlers.pop(number, None)  # a finalizer may have done so
        except BaseException as error:  # raised by a handler that is restored already
            raised = raised or [error]
    if raised:
        raise raised.pop()


def begin_worker() -> None:
    """Restore the user's handlers in a worker that was forked inside a block, which the worker never leaves.

    Otherwise, the first block in the code of the source would replace the handlers that the source has installed.
    """
    global _is_deferring, _delivers_late
    _is_deferring = _delivers_late = False
    restore()


# The parent handles them.
os.register_at_fork(after_in_child=_pending.clear)
os.register_at_fork(after_in_child=_pending_after_collection.clear)


def _deliver() -> None:
    # One by one: the handler may raise, and the others are handled at the end of the next block.
    while _pending:
        # Not by a call of the handler: after a signal, Python passes it the interrupted frame.
        signal.raise_signal(_pending.pop(0))
