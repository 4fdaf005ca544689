"""Whether an exception is an interrupt: a signal handler has raised it, in the middle of other code.

If an interrupt is taken for an error of a source, a file or a connection, a stream ends early, or a wrong answer is
kept. So an ``except BaseException`` raises, or calls `is_interrupt`; so does a clause around code of the user. In
``files/``, `not_of_handler` does so for the errors of a read.
"""

import functools
import sys
import traceback
from typing import Any, TypeVar

from mpqueue.system.signals.deferred import is_main_thread, known_handlers
from mpqueue.system.signals.exceptions import matches, traceback_of

_E = TypeVar("_E", bound=BaseException)


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception interrupts this thread, rather than being an error of the code that it runs.

    That is a KeyboardInterrupt in the main thread, or an exception of a function that is a signal handler. A
    KeyboardInterrupt that the code raises itself cannot be distinguished from it.
    """
    return (is_main_thread() and matches(error, KeyboardInterrupt)) or is_of_handler(error)


def ends_iterator(error: BaseException) -> bool:
    """Return whether an exception ends an iterator that a framework owns.

    Any `Exception` does, even if a handler raised it. After Ctrl-C, the program may call ``next`` again.
    """
    return matches(error, Exception) or not is_interrupt(error)


def is_of_handler(error: BaseException) -> bool:
    """Return whether the traceback of an exception has a frame of a function that is a signal handler."""
    codes = _codes_of_handlers()
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(traceback_of(error)))


def not_of_handler(*kinds: type[_E]) -> tuple[type[_E], ...]:
    """Return the kinds for an ``except`` clause about files, or no kinds for an interrupt, such as a TimeoutError."""
    error = sys.exception()  # the one that is being matched
    return () if error is not None and is_interrupt(error) else kinds


def _codes_of_handlers() -> set[Any]:
    codes = set()
    # Also the handlers at the last check: a handler may have removed itself before it raised.
    for known in known_handlers():
        handler: Any = known
        while isinstance(handler, functools.partial):
            handler = handler.func
        if callable(handler):
            function = handler if hasattr(handler, "__code__") else getattr(handler, "__call__", None)  # noqa: B004
            codes.add(getattr(function, "__code__", None))  # a method has its function's code
    return codes
