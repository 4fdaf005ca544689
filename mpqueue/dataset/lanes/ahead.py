"""The entry of a lane: where elements of its first stages enter a stage that holds, counts or merges elements.

Before the entry, each stage returns elements in the order of its input, and holds none. So no result depends on how far
these stages have read. After the entry, stages read only the elements that they need. The elements that they hold
therefore follow from the number of elements that the lane has returned, in any run. A shuffle buffer right after the
entry takes all elements that wait here. Before an exclusion or a snapshot, it puts back those not returned yet.

*Reading ahead.* A block costs about 2 us in each stage, whatever its size. Without reading ahead, a batch of 256 after
a filter takes a block of 256 and several small blocks for the elements that the filter removed: twice the time with a
shuffle buffer. Elements that were read ahead wait here, and a snapshot contains their tokens. User functions are called
for some elements earlier than the batch that contains them is requested:

- Before a snapshot, some elements are not read ahead, so that the snapshot is short.
- At most 0.5 ms of work is done ahead. Slow elements, such as photographs, are computed on demand.
- At most eight times as many elements are read as one of the latest calls has requested.
- A request for a single element takes a single element. Large arrays are copied one by one and must not pile up here.
- With ``skip``, elements are not read ahead: a skipped sample is reported with the batch that misses it.
- While an element has a retry marker because it crashed a worker, elements are not read ahead: the crash would be
  attributed to that element.
- A source that is itself a stream is not read ahead: its next element may take long to arrive.

*Exclusion.* Excluded samples do not enter. Samples that wait here when they are excluded are dropped, too.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mpqueue.dataset.description import nodes
from mpqueue.dataset.description.ids import Keep
from mpqueue.dataset.lanes.gates import admitted
from mpqueue.dataset.lanes.stages import Block, LaneStage, LinkStage, Token
from mpqueue.dataset.lanes.tokens import as_saved, together
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker.runners.lanes import LaneRun

_MOST_AHEAD, _MOST_REQUESTS = 1024, 8
_AHEAD_NS = 500_000


class AheadStage(LinkStage):
    """The entry of a lane, which reads more elements than requested while they are cheap.

    Args:
        source: The input.
        node: The description of the input.
        run: The run that the input was opened with.
    """

    def __init__(self, source: LaneStage, node: nodes.StageNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._may_read_ahead = run.skip is None and not node.facts.has_stream
        self._each_ns = _AHEAD_NS  # time per requested element of the last block
        self._most_requested = 0  # elements by one of the latest calls
        self._values: list[Any] = []
        self._tokens: Sequence[Token] = ()
        self._at = 0  # index of the next element to return
        self._keep: Keep | None = None  # the latest check applied to the waiting elements

    def pull(self, count: int) -> Block:
        """Return the next elements without excluded samples."""
        self._fill(count)
        first, self._at = self._at, min(self._at + count, len(self._tokens))
        return self._values[first : self._at], self._tokens[first : self._at]

    def pull_waiting(self, count: int) -> Block:
        """Do the same, but return all elements that were read ahead, too; see `put_back`."""
        self._fill(count)
        waiting = self._values[self._at :], self._tokens[self._at :]
        self._at, self._values, self._tokens = 0, [], ()
        return waiting

    def put_back(self, values: list[Any], tokens: Sequence[Token]) -> None:
        """Take back the last elements that `pull_waiting` returned."""
        self._values, self._tokens = values, tokens

    def _fill(self, count: int) -> None:
        """Read elements if none wait; there are none at the end of the input."""
        # Not only by this call: the rest of a batch may be few elements.
        self._most_requested = max(count, self._most_requested * 3 // 4)
        if self.run.gate.keep is not self._keep:
            self._keep = self.run.gate.keep
            self._values, self._tokens = admitted(self, self._values[self._at :], self._tokens[self._at :])
            self._at = 0
        while self._at == len(self._tokens) and self._read(count):
            pass

    def _read(self, count: int) -> bool:
        """Read a block; return False at the end of the input."""
        if count > 1 and self._may_read_ahead and self.run.ahead.is_on and self.run.may_run_ahead:
            most = min(_MOST_AHEAD, _MOST_REQUESTS * self._most_requested, _AHEAD_NS // self._each_ns)
            count = max(count, most)
        # Clear the block before the call: if the input raises, elements that were returned must not be returned again.
        self._at, self._values, self._tokens = 0, [], ()
        started, self._each_ns = clock_ns(), _AHEAD_NS  # if it raises, its time is unknown
        values, tokens = self._input.pull(count)
        if not tokens:
            return False
        self._each_ns = 1 + (clock_ns() - started) // count
        self._values, self._tokens = admitted(self, values, tokens)
        if self._tokens:
            self.search.end()
        return True

    def is_ahead(self) -> bool:
        """Return whether elements wait here."""
        return self._at < len(self._tokens)

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
