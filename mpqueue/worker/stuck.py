"""Coroutines that do not go on: a sample that takes too long, and a call that blocks the event loop."""

from collections.abc import Callable
from typing import Any

from mpqueue.errors import BatchTimeout
from mpqueue.system.log import warn

BLOCKED_S = 1.0


class SampleHung(BaseException):
    """A sample took longer than ``batch_timeout``: it is no error of the source, and the batch is tried again.

    Args:
        place: The place of the sample in the epoch.
        index: Its index.
        timeout_s: The time.
        stack: Where the sample waits.
    """

    def __init__(self, place: int, index: Any, timeout_s: float, stack: str) -> None:
        super().__init__(f"the sample of index {index!r}, at place {place} of the epoch, took over {timeout_s:g} s")
        self._timeout_s, self._stack = timeout_s, stack

    def as_timeout(self, unit: int, epoch: int) -> BatchTimeout:
        """Return the error for the batch of this sample."""
        # In the text, because notes of this class are not pickled.
        return BatchTimeout(unit, epoch, self._timeout_s, f"{self}\n{self._stack}")


def blocked_text(line: str, stack: str) -> str:
    """Return the warning for a line of code that blocks the event loop."""
    return (
        f"{line} has blocked the event loop for more than {BLOCKED_S:g} s, so that no other sample of this worker goes "
        f"on: await an asynchronous call there, or move the call to a thread with `asyncio.to_thread`\n{stack.rstrip()}"
    )


def tell_blocked(text: str) -> None:
    """Log the warning."""
    warn(text, "Read data from S3 and other object stores", "Coroutines")


tell: Callable[[str], object] = tell_blocked
"""In a worker process: reports the warning to the trainer, which logs each line of code once."""
