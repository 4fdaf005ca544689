"""Calls that are interrupted at a random moment by a real signal with a handler that raises."""

import os
import random
import signal
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from helpers.injected_exceptions import Struck, StruckByAlarm, StruckException, StruckLimit, is_ours, runs_package_code

from parts.soak.rounds import Deviation

_OTHERS = f"{os.sep}site-packages{os.sep}"
_SCALES = (2e-5, 2e-4, 1e-3)
_AGAIN = 0.1  # fraction of the strikes that are followed by a second one at once
_SHOWN = 12  # stack frames to print
_KINDS = (Struck, StruckException, StruckLimit)
# Code that expects an error may mistake these for it, and raise another exception or none.
_LIKE_ERRORS = {StruckException, StruckLimit}


class Alarms(StruckByAlarm):
    """Calls that a signal interrupts while a frame of the engine is active, within the context of this object.

    Args:
        chance: Chooses the moments and the exceptions.

    Attributes:
        count: The number of strikes.
        num_replaced: The number of strikes that reached the caller as another exception, or not at all.
    """

    def __init__(self, chance: random.Random) -> None:
        super().__init__(Struck)
        self._chance = chance
        self.count, self.num_replaced = 0, 0
        # The last strike in the call: its exception, whether it must reach the caller, and the place where it was
        # raised.
        self._raised: type[Struck] | None = None
        self._must_arrive, self._where = False, ""

    def _strike(self, _number: int, frame: FrameType) -> None:
        if not self._is_armed or not runs_package_code(frame):
            return
        stack = [each for each, _ in traceback.walk_stack(frame)]
        self.count += 1
        self._is_armed = self._chance.random() < _AGAIN
        self._raised = self._chance.choice(_KINDS)
        self._must_arrive = self._raised not in _LIKE_ERRORS and not _is_of_others(stack)
        self._where = " < ".join(f"{one.f_code.co_qualname}:{one.f_lineno}" for one in stack[:_SHOWN])
        if self._is_armed:
            signal.setitimer(signal.ITIMER_REAL, self._chance.uniform(1e-6, _SCALES[0]))
        raise self._raised

    def call(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return the result of a call in a list, or an empty list if the call was interrupted.

        Raises:
            Deviation: The caller did not get the exception of the handler.
            StopIteration: Raised by the call, also after a strike, because a premature end is an end, too.
        """
        self._raised = None
        try:
            signal.setitimer(signal.ITIMER_REAL, self._chance.uniform(1e-6, self._chance.choice(_SCALES)))
            self._is_armed = True
            found = [function(*arguments)]
            self._is_armed = False
        except BaseException as error:
            self._is_armed = False
            if not isinstance(error, Struck):
                self._note_replaced(error)
            if self._raised is None or isinstance(error, StopIteration):
                raise
            return []
        finally:
            self._is_armed = False
        self._note_replaced()
        return found

    def _note_replaced(self, error: BaseException | None = None) -> None:
        if self._raised is None:
            return
        if self._must_arrive:
            raise Deviation(
                f"the caller got {error!r} instead of {self._raised.__name__}, raised in {self._where}"
            ) from error
        self.num_replaced += 1


def _is_of_others(stack: list[FrameType]) -> bool:
    """Return whether the engine has called another package, such as torch, which may catch any exception."""
    for frame in stack:
        if is_ours(frame):
            return False
        if _OTHERS in frame.f_code.co_filename:
            return True
    return False
