"""The stage `filter`: the elements that a function accepts."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar

import numpy as np

from mpqueue.dataset.description.nodes import Function, LaneOpening, LinkNode, Traits
from mpqueue.dataset.indexed.applying import apply_to
from mpqueue.dataset.lanes.applied import Applied
from mpqueue.dataset.lanes.stages import Block, LaneStage, Token
from mpqueue.dataset.lanes.threaded import ThreadedStage
from mpqueue.dataset.lanes.user_calls import VERDICTS, no_verdict
from mpqueue.worker.failures import passes_at_once
from mpqueue.worker.runners.lanes import LaneRun


class FilterStage(Applied):
    """The elements that a function accepts by returning True."""

    node: "FilterNode"

    def pull(self, count: int) -> Block:
        """Return the next elements that are kept."""
        while True:
            values, tokens = self._take(count)
            if not tokens:
                return values, tokens
            verdicts = self._judge(values, tokens)
            out = list(compress(values, verdicts))
            if out:
                kept = _kept(tokens, verdicts)
                self.num_out += len(out)
                self.search.end()
                return out, kept
            self.search.note(self, len(tokens))

    def _judge(self, values: list[Any], tokens: Sequence[Token]) -> list[Any]:
        started = self.clock.start()
        run = self.run
        verdicts: list[Any] = []
        error: BaseException | None = None
        try:
            apply_to(values, tokens, self.node.function, run.begin, self.seed, run.epoch, verdicts)
        except BaseException as raised:
            if passes_at_once(raised):
                raise
            error = raised
        # An invalid verdict precedes the error, which was raised later in the block.
        kinds = set(map(type, verdicts))  # one check per block, at 10 ns per sample
        if not kinds <= VERDICTS:
            error = self._invalid_verdict(verdicts)
        if error is not None:
            done = len(verdicts)
            self._keep(error, values[done:], tokens[done:])
        self.clock.stop(started)
        return verdicts if kinds <= {bool} else list(map(bool, verdicts))

    def _invalid_verdict(self, verdicts: list[Any]) -> TypeError:
        """Return the error of the first invalid verdict, and remove it and all later ones."""
        at = next(at for at, verdict in enumerate(verdicts) if type(verdict) not in VERDICTS)
        invalid = verdicts[at]
        del verdicts[at:]
        return no_verdict(self.line, invalid)


def _kept(tokens: Sequence[Token], verdicts: list[Any]) -> Sequence[Token]:
    """Return the tokens of the kept elements. Indices of a root become an array, which needs no object per token."""
    # After an error, there are fewer verdicts than tokens, and the mask would not fit.
    if type(tokens) is range and len(verdicts) == len(tokens):
        positions = np.arange(tokens.start, tokens.stop, tokens.step)
        return array("q", positions[np.frombuffer(bytes(verdicts), np.bool_)].tobytes())
    return list(compress(tokens, verdicts))


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class FilterNode(LinkNode):
    """The elements that a function accepts by returning True.

    Attributes:
        function: The function.
        threads: The number of threads that call the function.
        concurrency: The number of coroutines that call it; 0 for a plain function.
    """

    name: ClassVar[str] = "filter"
    traits: ClassVar[Traits] = Traits(flows=True, makes_stream=True, passes_elements=True)
    function: Function
    threads: int = 1
    concurrency: int = 0

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> LaneStage:  # noqa: ARG002
        """Open this stage and those before it in a lane."""
        source = opening.input(self, run)
        if self.threads == 1 and not self.concurrency:
            return FilterStage(source, self, run)
        return ThreadedStage(source, self, run, self.function, is_filter=True)
