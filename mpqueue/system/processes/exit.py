"""Exits of processes that run user code, by `os._exit`: inherited resources are cleaned up by the parent.

User code may fork. A child that returns from it into our code, or raises there, is a copy of its parent that takes no
part in the parent's work: it exits at once, by `leave_as_child`. Otherwise it would repeat that work (deliver a batch
twice, add an element to a queue), or wait for threads that it does not have.
"""

import os
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from mpqueue.system.processes.own_process import make_mark
from mpqueue.system.program_streams import flush_streams, write_error
from mpqueue.system.signals.exceptions import matches
from mpqueue.system.user_code.exception_texts import traceback_text_of

_Result = TypeVar("_Result")


def exit_code_of(leaving: SystemExit) -> int:
    """Return the exit code that Python would use for the exception."""
    return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)


def leave(code: int) -> NoReturn:
    """Flush the standard streams and exit this process."""
    flush_streams()  # `os._exit` does not flush
    # The kernel keeps eight bits of an exit code. `os._exit` raises OverflowError if a number exceeds a C int.
    os._exit(code & 0xFF)


def leave_as_child(error: BaseException | None = None) -> NoReturn:
    """Exit a child that user code has forked, as Python would exit a program.

    Args:
        error: The exception that user code raised in the child; None if it returned.
    """
    code = 0
    if matches(error, SystemExit):
        code = exit_code_of(error)
    elif error is not None:
        code = 1
        write_error(traceback_text_of(error))
    leave(code)


def without_children(call: Callable[..., _Result]) -> Callable[..., _Result]:
    """Return a function that makes the same call of user code, but exits in children that the call forks."""
    own = make_mark()

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
