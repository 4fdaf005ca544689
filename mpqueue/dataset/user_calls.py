"""How a stage of a lane calls user code: random numbers, retry markers, errors."""

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpqueue.engine.skips import Skipped, may_skip
from mpqueue.samples.leaves import no_sample
from mpqueue.seeding.seeds import place_of
from mpqueue.system.exceptions import add_note, cause_of
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.retry_markers import RetryBegin

VERDICTS = {bool, np.bool_}
Token = Any


class UserCalls:
    """The calls of user code by a stage; a base of `mpqueue.dataset.stages.LaneStage`."""

    run: Any
    node: Any
    number: int
    line: str
    seed: int
    clock: Any

    def begin(self, token: Token) -> None:
        """Seed the random generators for an element in this stage."""
        self.run.begin(self.seed, self.run.epoch, place_of(token))

    def mark(self, token: Token) -> None:
        """Record the element in its retry marker, if crashes are being attributed to single samples."""
        if self.is_single:
            self.begin(token)

    @property
    def is_single(self) -> bool:
        """True if samples must be computed one by one; see `mpqueue.worker.retry_markers`."""
        begin = self.run.begin
        return type(begin) is RetryBegin and begin.is_single

    @property
    def may_run_ahead(self) -> bool:
        """True to read ahead of the requested elements."""
        begin = self.run.begin
        return self.run.runs_ahead and (type(begin) is not RetryBegin or begin.runs_ahead)

    @property
    def is_alone(self) -> bool:
        """True while an element has a retry marker: a crash must not be attributed to another element."""
        begin = self.run.begin
        return type(begin) is RetryBegin and not begin.runs_ahead

    def is_excluded(self, stage: Any, token: Token) -> bool:
        """Return whether an element of a stage that has raised has an excluded sample: its error is not raised."""
        keep = self.run.gate.keep
        return keep is not None and not keep(stage.sample_ids([token]))[0]

    def leaves_out(self, error: BaseException, *tokens: Token) -> bool:
        """Handle an error of user code: return True if its elements are skipped, False if the error must be raised."""
        # Also for an error that is raised: the note names the sample.
        add_note(error, self.error_note(*tokens))
        skip = self.run.skip
        if skip is None or not may_skip(error):
            return False
        skip(Skipped.because_of(error, *tokens))
        return True

    def error_note(self, *tokens: Token) -> str:
        """Return the note of an error: stage, sample and lane."""
        # At most eight tokens: a row of packed text may have hundreds.
        which = f"sample {tokens[0]!r}" if len(tokens) == 1 else f"samples {', '.join(map(repr, tokens[:8]))}"
        more = ", ..." if len(tokens) > 8 else ""
        lane = f"lane {self.run.lane} of {self.run.num_lanes}"
        return f"raised by stage {self.number}, {self.line}, for {which}{more} of epoch {self.run.epoch} in {lane}"

    def refuse_none(self, token: Token) -> TypeError:
        """Return the error for an element that is None and cannot be part of a batch."""
        before = self.node.input
        hint = "did `__getitem__` forget to return?" if before.is_indexed else "did its function forget to return?"
        return no_sample(f"element {token!r} of stage {self.number - 1}, {before.line()},", hint)

    def _made(self, tokens: Sequence[Token], make: Callable[[], Any]) -> list[Any]:
        """Return the result made of several elements in a list, or an empty list if they are skipped.

        Raises:
            BaseException: The result could not be made, and errors are not skipped.
        """
        started = self.clock.start()
        try:
            self.mark(tokens[0])
            return [make()]
        except BaseException as error:
            if passes_at_once(error):
                raise
            if not self.leaves_out(error, *tokens):
                raise never_an_end(error) from cause_of(error)
            return []
        finally:
            self.clock.stop(started)


def no_verdict(line: str, result: Any) -> TypeError:
    """Return the error for a filter that did not return a bool."""
    if result is None:
        description = "None: did you forget `return`?"
    elif isinstance(result, np.ndarray):
        description = f"an array: {reprlib.repr(result)}. Use .all() or .any()"
    else:
        description = f"{type(result).__name__}: {reprlib.repr(result)}. Convert it with bool(...)"
    return TypeError(f"{line} must return True or False for each sample, got {description}")
