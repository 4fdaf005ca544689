"""The calls of user code by a stage of a lane: random numbers, retry markers, errors.

A stage has such an object, which does not refer to the stage: a cycle would keep its helper threads running.
"""

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpqueue.dataset.lanes.stage_work import StageClock
from mpqueue.engine.skips import Skipped, may_skip
from mpqueue.samples.leaves import no_sample
from mpqueue.seeding.seeds import position_of
from mpqueue.system.signals.exceptions import add_note, cause_of
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.runners.lanes import LaneRun

VERDICTS = {bool, np.bool_}
Token = Any


class UserCalls:
    """The calls of user code by a stage.

    Args:
        run: The run that the lane was opened with.
        stage_index: The index of the stage.
        line: The description of the stage.
        seed: The seed of its random numbers.
        clock: The time that the stage itself worked.
    """

    __slots__ = ("_begin", "_clock", "_line", "_run", "_seed", "_stage_index")

    def __init__(self, run: LaneRun, stage_index: int, line: str, seed: int, clock: StageClock) -> None:
        self._run, self._stage_index, self._line, self._seed, self._clock = run, stage_index, line, seed, clock
        self._begin = run.begin

    def begin(self, token: Token) -> None:
        """Seed the random generators for an element in this stage."""
        self._begin(self._seed, self._run.epoch, position_of(token))

    def mark(self, token: Token) -> None:
        """Record the element in its retry marker, if crashes are being attributed to single samples."""
        if self._run.is_single:
            self.begin(token)

    def made(self, tokens: Sequence[Token], make: Callable[[], Any]) -> list[Any]:
        """Return the result made of several elements in a list, or an empty list if they are skipped.

        Raises:
            BaseException: The result could not be made, and errors are not skipped.
        """
        started = self._clock.start()
        try:
            self.mark(tokens[0])
            return [make()]
        except BaseException as error:
            if passes_at_once(error):
                raise
            if not self.handles(error, *tokens):
                raise never_an_end(error) from cause_of(error)
            return []
        finally:
            self._clock.stop(started)

    def handles(self, error: BaseException, *tokens: Token) -> bool:
        """Handle an error of user code: return True if its elements are skipped, False if the error must be raised."""
        self.note(error, *tokens)  # also if it is raised
        return self.skips(error, *tokens)

    def note(self, error: BaseException, *tokens: Token) -> None:
        """Add a note to an error: stage, samples and lane."""
        # At most eight tokens: a row of packed text may have hundreds.
        which = f"sample {tokens[0]!r}" if len(tokens) == 1 else f"samples {', '.join(map(repr, tokens[:8]))}"
        more = ", ..." if len(tokens) > 8 else ""
        run = self._run
        lane = f"lane {run.lane} of {run.num_lanes}"
        add_note(
            error,
            f"raised by stage {self._stage_index}, {self._line}, for {which}{more} of epoch {run.epoch} in {lane}",
        )

    def skips(self, error: BaseException, *tokens: Token) -> bool:
        """Report elements as skipped because of an error; return False if the error must be raised."""
        skip = self._run.skip
        if skip is None or not may_skip(error):
            return False
        skip(Skipped.because_of(error, *tokens))
        return True


def no_element(before: Any, stage_index: int, token: Token) -> TypeError:
    """Return the error for an element that is None and cannot be part of a batch.

    Args:
        before: The description of the stage that returned it.
        stage_index: The index of that stage.
        token: The token of the element.
    """
    hint = "did `__getitem__` forget to return?" if before.is_indexed else "did its function forget to return?"
    return no_sample(f"element {token!r} of stage {stage_index}, {before.line()},", hint)


def no_verdict(line: str, result: Any) -> TypeError:
    """Return the error for a filter that did not return a bool."""
    if result is None:
        description = "None: did you forget `return`?"
    elif isinstance(result, np.ndarray):
        description = f"an array: {reprlib.repr(result)}. Use .all() or .any()"
    else:
        description = f"{type(result).__name__}: {reprlib.repr(result)}. Convert it with bool(...)"
    return TypeError(f"{line} must return True or False for each sample, got {description}")
