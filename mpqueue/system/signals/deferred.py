"""Deferred signal handlers, for code that an exception from a handler would leave in an unknown state.

Ctrl-C may raise between any two bytecodes of the main thread: for instance between the start of a process and the line
that records it. In such code, handlers are deferred: a signal is recorded, and handled when the work is done. Steps
that may take long (sending a source through a socket, waiting for workers) allow them:

    with defer_signals():             # start or stop something
        ...
        allow_signals(poll.poll)      # an exception of a handler leaves the block, which cleans up undisturbed
        ...

*Guarded steps.* After an exception of a handler, the next call restarts at the last batch that a call has returned:
see NOTE [ Interrupts ] in `mpqueue.engine.pipeline`. So code need not undo its steps. A restart does not mend these:

- *A held lock* makes all threads hang: `mpqueue.system.signals.locks`, or a block as above.
- *A leaked process*, thread, pipe or descriptor was started or opened, and not recorded: a block as above.
- *A stream that ends early*, or a wrong answer that is kept, if an exception of a handler is taken for an error: see
  `mpqueue.system.signals.interrupts`.

In other threads than the main one, these functions have no effect, because no handler runs there.
"""

import _thread
import os
import signal
import threading
import weakref

# The functions of `signal` create an Enum for each result: 40 times slower.
from _signal import getsignal, valid_signals  # type: ignore[import-not-found]
from _signal import signal as set_handler
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.signals.masks import set_signal_mask

_P = ParamSpec("_P")
_T = TypeVar("_T")

_SIGNALS: tuple[int, ...] = tuple(valid_signals())
_handlers: dict[int, Any] = {}  # the user's handlers that are replaced now
_seen: list[Any] = []  # all handlers at the last check
_to_replace: list[int] = []  # signals with a callable handler: nearly always the same few
_pending: list[int] = []  # signals that arrived while they were deferred
# The outermost block, while it defers signals. It is collected with its block: an exception may leave a block without
# `defer_signals.__exit__`, if handlers raise repeatedly, and then no code would restore them.
_outermost: "weakref.ref[defer_signals] | None" = None
_delivers_late = False  # `allow_signals` has no effect


class defer_signals:  # noqa: N801  # a context manager, spelled as in contextlib
    """A context that defers the user's signal handlers, so that no signal raises."""

    def __enter__(self) -> Self:
        global _outermost
        self._is_outermost = not _is_deferring() and is_main_thread()
        if self._is_outermost:
            try:
                # The block first, and in reverse order at the end. A garbage collection may run in between. A finalizer
                # that defers signals itself then counts as nested, and does not restore the handlers.
                _outermost = weakref.ref(self)
                _replace()
            except BaseException:
                _outermost = None
                restore()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _outermost
        if self._is_outermost:
            _outermost = None
            restore()
            _deliver()


def _is_deferring() -> bool:
    block = _outermost  # once: the main thread may replace it between two reads by a different thread
    return block is not None and block() is not None


def is_main_thread() -> bool:
    """Return whether this is the main thread, where handlers run."""
    # Not `threading.current_thread`: if a handler raises a KeyError in it, it replaces the main thread's object
    # permanently.
    return threading.get_ident() == threading.main_thread().ident


def are_signals_deferred() -> bool:
    """Return whether signal handlers are deferred in this thread."""
    return _is_deferring() and is_main_thread()


def allow_signals(call: Callable[_P, _T], /, *args: _P.args, **options: _P.kwargs) -> _T:
    """Call a function with signals handled at once, although they are deferred in the surrounding block."""
    global _outermost
    if not _is_deferring() or _delivers_late or not is_main_thread():
        return call(*args, **options)
    raised: list[BaseException] = []  # one at most. A variable would create a reference cycle of frame and error
    block = _outermost
    try:
        _outermost = None
        restore()
        _deliver()
        result = call(*args, **options)
    except BaseException as error:
        raised = [error]
    is_replaced = False
    while not is_replaced:  # a handler may raise again, at the first step of each function that is called here
        try:
            _outermost = block
            _replace()
            is_replaced = True
        except BaseException as error:
            raised = raised or [error]
    if raised:
        raise raised.pop()
    return result


def deliver_after_return(call: Callable[[], object]) -> None:
    """Call a function, and handle the signals that arrive in it after the caller has returned to C code.

    For callbacks of weak references and of forks, where an exception of a handler would be lost, with the rest of the
    callback. The caller must return at once.
    """
    global _outermost, _delivers_late
    if not is_main_thread():
        call()
        return
    block, before, was_late = defer_signals(), _outermost, _delivers_late
    was_deferring = _is_deferring()
    try:
        _outermost, _delivers_late = before if was_deferring else weakref.ref(block), True
        _replace_and(call)
    finally:
        if not was_deferring:  # otherwise the surrounding block handles them
            restore()  # before the block ends: until then, they do not run here
        _outermost, _delivers_late = before, was_late
        if not was_deferring:
            arrived, _pending[:] = tuple(_pending), ()
            # They are pending from here on, and Python does not check for signals before the next call.
            [*map(_thread.interrupt_main, arrived)]  # type: ignore[arg-type]  # the stubs want an Enum


def _replace_and(call: Callable[[], object]) -> None:
    """Call a function with handlers replaced, even if a handler has raised while it was replaced."""
    try:
        _replace()
    finally:
        call()


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
    # No block, but this handler: it has raised repeatedly while a block ended, which could not restore the others.
    if _handlers and not _is_deferring():
        restore()
        _deliver()


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
    global _outermost, _delivers_late
    _outermost, _delivers_late = None, False
    restore()


# The parent handles them.
os.register_at_fork(after_in_child=_pending.clear)


def _deliver() -> None:
    # One by one: the handler may raise, and the others are handled at the end of the next block.
    while _pending:
        # Not by a call of the handler: after a signal, Python passes it the interrupted frame.
        signal.raise_signal(_pending.pop(0))


@context_manager
def block_and_defer(signals: AbstractSet[int]) -> Iterator[None]:
    """Block signals inside the context for a process that is started there, and defer the others."""
    # Deferred: a handler that raises as the block begins would leave the signals blocked, or leak the process.
    with defer_signals():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            yield
        finally:
            set_signal_mask(before)


def known_handlers() -> list[Any]:
    """Return all handlers of the user: the current ones, the replaced ones, and the ones at the last check."""
    return [*_seen, *_handlers.values(), *map(getsignal, _SIGNALS)]
