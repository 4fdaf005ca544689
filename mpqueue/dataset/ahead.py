"""Elements that cost little are taken in large blocks: what stands before a stage that makes batches.

A block costs some 2 us in each stage, whatever its size. A batch of 256 behind a filter was made of a block of 256,
one of 37 for what the filter had left out of it, one of 5 and one of 1; now it is a quarter of a block of 1,024, which
takes 0.92 of the time with blocks of 512 (map, filter, shuffle(1000), batch(256) of ints). What lies ahead waits here,
and a snapshot has its tokens: which elements come, and in which order, knows nothing of blocks. But functions of the
user's are called for some elements before the batch is asked for that these are in:

- No more than `_LONG_NS` of work is done ahead. Elements that take long, as photographs do, are taken as they are asked
  for.
- One that is asked for alone is taken alone: arrays that are large are copied one by one, and are not to pile up here.
- Where errors are skipped nothing is ahead: a sample that is left out is told with the batch in which it was missed.
- Where an element is marked, because it has killed a worker, nothing is ahead: that would be blamed on it.
- Before a source that is a stream itself there is no such stage: what it gives next may be long in coming.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mpqueue.dataset.held import as_saved, together
from mpqueue.dataset.nodes import BatchNode
from mpqueue.dataset.stages import Block, LaneStage, LinkStage, Token, tokens_of
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker.lanes import LaneRun

_MOST, _MOST_BATCHES = 1024, 8
_LONG_NS = 500_000


class AheadStage(LinkStage):
    """The elements of its input, of which it takes more than it is asked for while they cost little.

    Args:
        source: The input.
        node: The stage that makes batches of them.
        run: What the lane was opened with.
    """

    def __init__(self, source: LaneStage, node: BatchNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._most = 0 if run.skip is not None else min(_MOST, _MOST_BATCHES * node.size)
        self._each_ns = _LONG_NS  # what an element of the last block took
        self._values: list[Any] = []
        self._tokens: Sequence[Token] = ()
        self._at = 0  # the next one of them

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        if self._at == len(self._tokens):
            ahead = min(self._most, _LONG_NS // self._each_ns) if self.may_run_ahead else 0
            # What is asked for alone is large, and is not to pile up here.
            ask = max(count, ahead) if count > 1 else 1
            started, self._at = clock_ns(), 0
            self._values, self._tokens = [], ()
            # Emptied before the call: if the input raises, nothing is left here that was given already.
            self._values, self._tokens = self._input.pull(ask)
            if not self._tokens:
                return [], ()
            self._each_ns = 1 + (clock_ns() - started) // len(self._tokens)
        first, self._at = self._at, min(self._at + count, len(self._tokens))
        return self._values[first : self._at], self._tokens[first : self._at]

    def count_to(self, rows: list[StageRow]) -> None:
        """Add the rows of the stages before it: it has none."""
        self._input.count_to(rows)

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens that wait."""
        ahead = self._tokens[self._at :]
        states.append({"ahead": as_saved(ahead)})
        self._input.save_to(states, together(held, ahead))

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved; what waited is computed again."""
        state = next(states)
        self._input.load_from(states)
        self._tokens = tokens_of(state["ahead"])
        self._values = self._input.rebuild(self._tokens) if self._tokens else []
