"""The end of a process that runs the user's code, by `os._exit`: what it has inherited is cleaned up by its parent.

A child that this code has forked, and that returns into ours or raises there, is a copy of its parent without any part
in the parent's work: it leaves at once, by `leave_as_child`. Otherwise it would do that work once more (a batch that
comes twice, an element of a queue that nobody has made), or wait for threads that it has not.
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from mpqueue.system.own_process import ProcessMark, make_mark

_Result = TypeVar("_Result")


def exit_code_of(leaving: SystemExit) -> int:
    """Return the exit code that Python would give for it."""
    return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)


def leave(code: int) -> NoReturn:
    """End this process, after what it has printed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed, or None: there is nobody to tell
            continue
    os._exit(code & 0xFF)


def leave_as_child(error: BaseException | None = None) -> NoReturn:
    """End a child that user code has forked, as Python ends a program.

    Args:
        error: What the user's code raised there; None: it has returned.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = exit_code_of(error)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    leave(code)


def without_children(call: Callable[..., _Result], own: ProcessMark | None = None) -> Callable[..., _Result]:
    """Return what does the same in this process, but from which no child returns that the call forks.

    Args:
        call: The user's code.
        own: A mark of this process, if there is one.
    """
    own = make_mark() if own is None else own

    def guarded(*arguments: Any) -> _Result:
        try:
            result = call(*arguments)
        except BaseException as error:
            if not own[0]:
                leave_as_child(error)
            raise
        if not own[0]:
            leave_as_child()
        return result

    return guarded
