"""Deferring signal handlers where an exception out of nowhere would leave something behind that nobody knows of.

Ctrl-C raises between any two bytecodes of the main thread: between a process that was just started and the line that
notes it, for instance. In such places handlers wait: a signal is noted, and handled as soon as the work is done. Where
that may take long (a source on its way through a socket, workers that are waited for) they may run:

    with defer_signals():             # start or stop something
        ...
        allow_signals(poll.poll)      # what is raised in there leaves through the block, which cleans up in peace
        ...

In other threads than the main one nothing is done: no handler runs there. But the kernel may hand a signal of the
process to any thread that does not block it (where the main one has another one pending, or was stopped when it came),
and that does not end the wait of the main thread, in which the handler is to run. So our own threads block signals.
"""

import _thread
import contextlib
import functools
import gc
import signal
import threading
import traceback

# Those of `signal` make an Enum of each answer: 40 times slower.
from _signal import getsignal  # type: ignore[import-not-found]
from _signal import signal as set_handler
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, starmap
from types import FrameType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_SIGNALS = tuple(map(int, signal.valid_signals()))
# Those that a thread makes itself.
_ERRORS = {"SIGABRT", "SIGBUS", "SIGEMT", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}
_OF_PROCESS = {number for number in signal.valid_signals() if getattr(number, "name", "") not in _ERRORS}
_CO_VARARGS = 0x4  # as in `inspect`, which takes long to import
_handlers: dict[int, Any] = {}  # those of the user that are replaced now
_seen: list[Any] = []  # all handlers, as they were found the last time
_to_replace: list[int] = []  # the signals of those that can be called: nearly always the same few
_came: list[int] = []
_came_amid_collection: list[signal.Signals] = []  # to be handled behind it
_is_deferring = False
_delivers_late = False  # no call may let handlers run


def block_signals() -> None:
    """Have signals of the process come to other threads than this one, from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OF_PROCESS)


@contextlib.contextmanager
def unblock_signals() -> Iterator[None]:
    """A context in which all signals may come: what the user's code starts there inherits that."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_PROCESS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class defer_signals:  # noqa: N801  # a context manager, spelled as those of contextlib are
    """A context in which no handler of the user runs, so that no signal raises."""

    def __enter__(self) -> Self:
        global _is_deferring
        self._is_outermost = not _is_deferring and _is_main_thread()
        if self._is_outermost:
            try:
                # The flag first, as at the end: a garbage collection may run in the middle, and a finalizer in it that
                # defers signals, too, is inside of this block then, and does as if alone while handlers are put back.
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
    # Not by `threading.current_thread`: if a handler raises a KeyError in there, it puts another object in the place of
    # the main thread's, for good.
    return threading.get_ident() == threading.main_thread().ident


def are_signals_deferred() -> bool:
    """Return whether signal handlers are deferred in this thread."""
    return _is_deferring and _is_main_thread()


def allow_signals(call: Callable[_P, _T], /, *args: _P.args, **options: _P.kwargs) -> _T:
    """Make a call in which signals are handled at once, although they are deferred around it."""
    global _is_deferring
    if not _is_deferring or _delivers_late or not _is_main_thread():
        return call(*args, **options)
    struck: list[BaseException] = []  # one at most; in a variable it would hold this frame, and that the error
    try:
        _is_deferring = False
        restore()
        _deliver()
        result = call(*args, **options)
    except BaseException as error:
        struck = [error]
    is_replaced = False
    while not is_replaced:  # a handler may strike once more, at the first step of any function that is called here
        try:
            _is_deferring = True
            _replace()
            is_replaced = True
        except BaseException as error:
            struck = struck or [error]
    if struck:
        raise struck.pop()
    return result


def deliver_after_return(call: Callable[[], object]) -> None:
    """Make a call, and have the signals that come meanwhile handled when the caller has returned to C code.

    For callbacks of weak references, in which what a handler raises would be lost. The caller returns at once.
    """
    global _is_deferring, _delivers_late
    if not _is_main_thread():
        call()
        return
    if _is_deferring:  # a collection amid work of ours, which handles at its end what comes in here
        before, _delivers_late = _delivers_late, True
        try:
            _replace_and(call)  # it may come while the work around it is about to replace them
        finally:
            _delivers_late = before
        return
    try:
        _is_deferring = _delivers_late = True
        _replace_and(call)
    finally:
        is_collecting = bool(_came) and _is_collecting()
        _is_deferring = _delivers_late = False
        restore()
        came, _came[:] = tuple(map(signal.Signals, _came)), ()
        if came and is_collecting:
            _deliver_behind_collection(came)
        else:
            # They are pending from here on, and Python does not look for signals before the next call behind this.
            [*map(_thread.interrupt_main, came)]


def _is_collecting() -> bool:
    """Return whether a collection is under way: no other one begins then."""
    phases: list[str] = []

    def note(phase: str, _info: object) -> None:
        phases.append(phase)

    gc.callbacks.append(note)
    gc.collect(0)
    gc.callbacks.remove(note)
    return not phases


def _deliver_behind_collection(came: Iterable[signal.Signals]) -> None:
    """Have signals handled when all finalizers and callbacks of the collection that is under way have run.

    What a handler raises in one of those would be lost, too: that of another loader, or one in `gc.callbacks`, where
    JAX has one.
    """
    _came_amid_collection.extend(came)
    # One callback for all: each that takes itself out of the list has Python pass over the one behind it.
    if _deliver_at_its_end not in gc.callbacks:
        gc.callbacks.append(_deliver_at_its_end)


def _deliver_at_its_end(_phase: str, _info: object) -> None:
    if gc.callbacks[-1] is not _deliver_at_its_end:  # behind what was added later, too, which is called before this
        gc.callbacks.append(_deliver_at_its_end)
        return
    # Out of the last place: Python passes over the callback behind one that takes itself out.
    while _deliver_at_its_end in gc.callbacks:
        gc.callbacks.remove(_deliver_at_its_end)
    came, _came_amid_collection[:] = tuple(_came_amid_collection), ()
    [*map(_thread.interrupt_main, came)]  # as above: nothing behind this


def _replace_and(call: Callable[[], object]) -> None:
    """Make a call with handlers replaced; also if one has raised before it was."""
    try:
        _replace()
    finally:
        call()


def is_of_handler(error: BaseException) -> bool:
    """Return whether a signal handler raised this exception, or it was raised because of one of a handler.

    The traceback of such an exception leads through the handler. A handler is recognized if it is set now. Because it
    may have set another one in its place, it is also recognized by its arguments: the number of a signal, and the very
    frame that Python interrupted.

    Code that takes the exception of a handler for one of its own errors, such as a ``ValueError``, raises another
    exception because of it. That exception is recognized if it has passed through the frame that caught the first one.
    An exception that the caller was handling before does not count.
    """
    codes = _codes_of_handlers()
    pending, seen = [error], {id(error)}
    while pending:
        error = pending.pop()
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if any(frame.f_code in codes for frame in frames) or any(starmap(_is_call_by_signal, pairwise(frames))):
            return True
        for reason in (error.__cause__, error.__context__):
            if reason is not None and id(reason) not in seen and reason.__traceback__ is not None:
                seen.add(id(reason))
                if reason.__traceback__.tb_frame in frames:
                    pending.append(reason)
    return False


def _codes_of_handlers() -> set[Any]:
    codes = set()
    for number in _SIGNALS:
        handler: Any = _handlers.get(number) or getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if callable(handler):
            function = handler if hasattr(handler, "__code__") else getattr(handler, "__call__", None)  # noqa: B004
            codes.add(getattr(function, "__code__", None))  # of a method: that of its function
    return codes


def _is_call_by_signal(caller: FrameType, called: FrameType) -> bool:
    local = called.f_locals
    code = called.f_code
    given: list[Any] = [local.get(name) for name in code.co_varnames[: code.co_argcount]]
    if code.co_flags & _CO_VARARGS:
        given += local.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount]) or ()
    return any(number in _SIGNALS and frame is caller for number, frame in pairwise(given) if type(number) is int)


def _replace() -> None:
    global _seen, _to_replace
    struck: list[BaseException] = []  # a list, as in `allow_signals`
    found = [*map(getsignal, _SIGNALS)]
    if found != _seen:  # one comparison instead of a look at each: 3 us of 10
        _to_replace = [number for number, handler in zip(_SIGNALS, found, strict=True) if callable(handler)]
        _seen = found
    for number in _to_replace:
        # Until it is ours: one that strikes before may have put another in its place.
        while callable(handler := getsignal(number)) and handler is not _note:
            _handlers[number] = handler
            try:
                set_handler(number, _note)
            except BaseException as error:
                struck = struck or [error]  # of a handler that is still there: the others are to be replaced, too
    if struck:
        raise struck.pop()


def _note(number: int, _frame: object) -> None:
    _came.append(number)


def restore() -> None:
    """Put the user's handlers back. They do not see what came meanwhile: a forked child has nothing to do with it."""
    struck: list[BaseException] = []  # a list, as in `allow_signals`
    while _handlers:
        try:
            for number, handler in list(_handlers.items()):
                set_handler(number, handler)
                _handlers.pop(number, None)  # a finalizer may have done so
        except BaseException as error:  # of a handler that is back already
            struck = struck or [error]
    if struck:
        raise struck.pop()


def _deliver() -> None:
    # One by one: the handler may raise, and the others come at the end of the next block.
    while _came:
        signal.raise_signal(_came.pop(0))
