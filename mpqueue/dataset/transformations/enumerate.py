"""The stage `enumerate`.

The n-th element of lane l has the index ``n * lanes + l`` in the stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.description.nodes import LinkNode, Traits
from mpqueue.dataset.indexed.readers import IndexedRun, LinkReader, Positions
from mpqueue.dataset.lanes.counting import CountedStage
from mpqueue.dataset.lanes.stages import Block, Token


class EnumerateReader(LinkReader):
    """Pairs of an index and the element."""

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return pairs."""
        return list(zip(positions, self.input.at(positions, run), strict=True))


class EnumerateStage(CountedStage):
    """Pairs of an element's index and the element."""

    def pull(self, count: int) -> Block:
        """Return the next pairs; their tokens are (index, token)."""
        step = self.run.num_lanes
        first = self._count * step + self.run.lane
        values, tokens = self._take(count)
        self.num_out = self.num_in
        positions = range(first, first + len(tokens) * step, step)
        return list(zip(positions, values, strict=True)), list(zip(positions, tokens, strict=True))

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the number of elements read from the input."""
        super().get_state(states, [token for _, token in held])

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these pairs, computed again."""
        values = self._input.again([token for _, token in tokens])
        return [(position, value) for (position, _), value in zip(tokens, values, strict=True)]

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the elements in these pairs."""
        return self._input.sample_ids([token for _, token in tokens])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class EnumerateNode(LinkNode):
    """Pairs of an index, from 0, and the element."""

    name: ClassVar[str] = "enumerate"
    traits: ClassVar[Traits] = Traits(keeps_positions=True)
    reader: ClassVar[Any] = EnumerateReader
    lane_stage: ClassVar[Any] = EnumerateStage

    def order_line(self) -> None:
        """Return None: the stage does not affect the order."""
