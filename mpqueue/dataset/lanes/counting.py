"""The base of stages of a lane that count the elements of their input."""

from collections.abc import Iterator, Sequence
from typing import Any

from mpqueue.dataset.description.nodes import StageNode
from mpqueue.dataset.lanes.stages import Block, LaneStage, LinkStage, Token
from mpqueue.worker.runners.lanes import LaneRun


class CountedStage(LinkStage):
    """A stage that counts the elements of its input.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: StageNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._count = 0  # number of elements read

    def _take(self, count: int) -> Block:
        block = self._input.pull(count)
        self._count += len(block[1])
        self.num_in += len(block[1])
        return block

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the number of elements read from the input."""
        states.append({"count": self._count})
        self._input.get_state(states, held)

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._count = next(states)["count"]
        self._input.set_state(states)
