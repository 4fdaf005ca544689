"""Coroutines that do not continue: a sample that takes too long, and a call that blocks the event loop.

The stack of a thread does not show where a coroutine awaits. So the thread that waits for a coroutine reports that
after `AWAITS_S`, and a warning about a slow batch shows the report.
"""

import reprlib
from _thread import get_ident
from collections.abc import Callable
from typing import Any

from mpqueue.errors import BatchTimeout
from mpqueue.system.log import warn

BLOCKED_S = 1.0
AWAITS_S = 5.0


def sample_text(position: int, index: Any) -> str:
    """Return the description of a sample."""
    return f"the sample of index {index!r}, at place {position} of the epoch"


def element_text(*arguments: Any) -> str:
    """Return the description of a call of a dataset's function."""
    return f"a coroutine of the dataset with the arguments {reprlib.repr(arguments)}"


class SampleHung(BaseException):
    """A sample took longer than ``batch_timeout``: it is not an error of the source, and the batch is tried again.

    Args:
        position: The sample's position in the epoch.
        index: Its index.
        timeout_s: The time.
        stack: Where the sample waits.
    """

    def __init__(self, position: int, index: Any, timeout_s: float, stack: str) -> None:
        super().__init__(f"{sample_text(position, index)}, took over {timeout_s:g} s")
        self._timeout_s, self._stack = timeout_s, stack

    def as_timeout(self, index: int, epoch: int) -> BatchTimeout:
        """Return the error for the batch of this sample."""
        # In the text, because notes of this class are not pickled.
        return BatchTimeout(index, epoch, self._timeout_s, f"{self}\n{self._stack}")


def blocked_text(line: str, stack: str) -> str:
    """Return the warning for a line of code that blocks the event loop."""
    return (
        f"{line} has blocked the event loop for more than {BLOCKED_S:g} s, so that no other sample of this worker goes "
        f"on: await an asynchronous call there, or move the call to a thread with `asyncio.to_thread`\n{stack.rstrip()}"
    )


def tell_blocked(text: str) -> None:
    """Log the warning."""
    warn(text, "Arrays, open files, remote data", "Coroutines")


tell: Callable[[str], object] = tell_blocked
"""In a worker process: reports the warning to the trainer, which logs each line of code once."""


_awaited: dict[int, str] = {}  # by thread


def note_awaited(text: str) -> None:
    """Keep the report of this thread; an empty one ends it."""
    if text:
        _awaited[get_ident()] = text
    else:
        _awaited.pop(get_ident(), None)


def awaited_by(thread: int) -> str:
    """Return the report of a thread of this process; empty if it does not wait for a coroutine."""
    return _awaited.get(thread, "")


tell_awaited: Callable[[str], object] = note_awaited
"""In a worker process: sends the report to the trainer."""
