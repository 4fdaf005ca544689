"""Reading ahead before the first stage that merges elements.

A block costs about 2 us in each stage, whatever its size. Without this stage, a batch of 256 after a filter takes a
block of 256 and several small blocks for the elements that the filter removed: twice the time with a shuffle buffer.

Elements that were read ahead wait here, and a snapshot contains their tokens. The block size does not affect the
elements or their order, and no merging stage has seen them, so exclusions do not depend on it either. It does mean that
user functions are called for some elements earlier than the batch that contains them is requested:

- Before a snapshot, there is none for some elements, so that the snapshot is short.
- At most 0.5 ms of work is done ahead. Slow elements, such as photographs, are computed on demand.
- A request for a single element takes a single element. Large arrays are copied one by one and must not pile up here.
- With ``skip``, there is no read-ahead: a skipped sample is reported with the batch that misses it.
- While an element has a retry marker because it crashed a worker, there is no read-ahead: the crash would be attributed
  to that element.
- After a source that is itself a stream, there is no such stage: its next element may take long to arrive.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mpqueue.dataset.held import as_saved, together
from mpqueue.dataset.nodes import LinkNode
from mpqueue.dataset.stages import Block, LaneStage, LinkStage, Token
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker.lanes import LaneRun

_MOST_AHEAD, _MOST_BATCHES = 1024, 8
_AHEAD_NS = 500_000


def read_ahead(source: LaneStage, node: LinkNode, run: LaneRun) -> LaneStage:
    """Return the input of a stage that makes batches, which reads ahead if it may."""
    may = not node.facts.has_stream and node.input.facts.merged is None and run.skip is None
    return AheadStage(source, node, run) if may else source


class AheadStage(LinkStage):
    """A stage that reads more elements of its input than requested while they are cheap.

    Args:
        source: The input.
        node: The stage that makes batches of the elements.
        run: The run that the lane was opened with.
    """

    def __init__(self, source: LaneStage, node: Any, run: LaneRun) -> None:
        super().__init__(source, node, run)
        run.ahead.is_used = True
        self._most = min(_MOST_AHEAD, _MOST_BATCHES * node.size)
        self._each_ns = _AHEAD_NS  # time per element of the last block
        self._values: list[Any] = []
        self._tokens: Sequence[Token] = ()
        self._at = 0  # index of the next element to return

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        if self._at == len(self._tokens):
            is_ahead = count > 1 and self.run.ahead.is_on and self.may_run_ahead
            num_elements = max(count, min(self._most, _AHEAD_NS // self._each_ns)) if is_ahead else count
            # Clear the block before the call: if the input raises, elements that were returned must not be returned
            # again.
            started, self._at, self._values, self._tokens = clock_ns(), 0, [], ()
            self._values, self._tokens = self._input.pull(num_elements)
            if not self._tokens:
                return [], ()
            self._each_ns = 1 + (clock_ns() - started) // len(self._tokens)
        first, self._at = self._at, min(self._at + count, len(self._tokens))
        return self._values[first : self._at], self._tokens[first : self._at]

    def count_to(self, rows: list[StageRow]) -> None:
        """Add the rows of the stages before this stage, which has no row itself."""
        self._input.count_to(rows)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the elements that were read ahead."""
        ahead = self._tokens[self._at :]
        states.append({"ahead": as_saved(ahead)})
        self._input.get_state(states, together(held, ahead))

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state, and compute the waiting elements again."""
        state = next(states)
        self._input.set_state(states)
        self._values, self._tokens = self._input.held(state["ahead"])
