"""The program's standard streams, which it may have closed, set to None, or replaced by an object without ``flush``.

A message that cannot be written is dropped: its event is handled, and an exception of the stream would replace it.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec

_P = ParamSpec("_P")


def flush_streams() -> None:
    """Flush the standard output and the standard error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S112 - it has no buffer, or the program's next write raises the error
            continue


def is_lost(stream: Any) -> bool:
    """Return whether a stream cannot be written to."""
    try:
        stream.write("")
    except Exception:  # None, closed, or an object of the program that writes to a closed file
        return True
    return False


def call_unless_lost(write: Callable[_P, object], /, *args: _P.args, **options: _P.kwargs) -> None:
    """Call a function that may write to the standard error; ignore its error if the stream cannot be written to.

    Raises:
        Exception: The error of the function.
    """
    try:
        write(*args, **options)
    except Warning:  # the program turns warnings into errors
        raise
    except Exception:
        if not is_lost(sys.stderr):
            raise


def write_error(text: str) -> None:
    """Write to the standard error."""
    call_unless_lost(lambda: sys.stderr.write(text))


def warn_caller(text: str, kind: type[Warning]) -> None:
    """Issue a warning for the first caller outside of this package."""
    from mpqueue.system.callers import outside_stacklevel  # rare, and a start need not import it

    level = outside_stacklevel()
    call_unless_lost(warnings.warn, text, kind, level + 1)
