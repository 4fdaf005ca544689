"""The stages `take` and `skip`.

Each uses the index of an element in the stream, see `mpqueue.dataset.transformations.enumerate`. So ``take(100)`` of a
stream in 16 lanes takes 6 or 7 elements of each. A lane that ends earlier yields fewer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.nodes import LinkNode, Traits
from mpqueue.dataset.indexed.readers import IndexedRun, LinkReader, Positions
from mpqueue.dataset.indexed.reordering import PickReader
from mpqueue.dataset.lanes.counting import CountedStage
from mpqueue.dataset.lanes.stages import Block, LaneStage
from mpqueue.worker.runners.lanes import LaneRun, share_of


class ShareStage(CountedStage):
    """A stage that uses a lane's share of the first elements.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: "TakeNode | SkipNode", run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._share = share_of(node.count, run)


class TakeStage(ShareStage):
    """A lane's share of the first elements."""

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        left = min(count, self._share - self._count)
        # Do not read past the share: the input would compute elements, or raise errors, that are not needed.
        block = self._take(left) if left > 0 else ([], [])
        self.num_out = self.num_in
        return block


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TakeNode(LinkNode):
    """The first elements.

    Attributes:
        count: The maximum number of elements.
    """

    name: ClassVar[str] = "take"
    traits: ClassVar[Traits] = Traits(passes_elements=True, keeps_positions=True)
    reader: ClassVar[Any] = LinkReader
    lane_stage: ClassVar[Any] = TakeStage
    count: int

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the length of the input, at most ``count``."""
        (length,) = lengths
        return self.count if length is None else min(length, self.count)


class SkipReader(PickReader):
    """All elements except the first ones."""

    node: "SkipNode"

    def before(self, positions: Positions, run: IndexedRun) -> Positions:  # noqa: ARG002 - the same in each epoch
        """Return the indices in the input, which are after the skipped ones."""
        count = self.node.count
        if type(positions) is range:  # from a lane: the order of regular indices is computed by the block
            return range(positions.start + count, positions.stop + count, positions.step)
        return [position + count for position in positions]


class SkipStage(ShareStage):
    """The elements after a lane's share of the first ones."""

    def pull(self, count: int) -> Block:
        """Return the next elements; the first call reads and drops the skipped ones."""
        while self._count < self._share:
            # In blocks, so that the skipped elements are not in memory all at once.
            if not self._take(min(256, self._share - self._count))[1]:
                return [], []
        block = self._take(count)
        self.num_out += len(block[1])
        return block


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SkipNode(LinkNode):
    """All elements except the first ones.

    Attributes:
        count: The number of elements to skip.
    """

    name: ClassVar[str] = "skip"
    traits: ClassVar[Traits] = Traits(passes_elements=True, keeps_prefix=True)
    reader: ClassVar[Any] = SkipReader
    lane_stage: ClassVar[Any] = SkipStage
    count: int

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of remaining elements."""
        (length,) = lengths
        return None if length is None else max(0, length - self.count)

    def num_read(self, position: int, at: int, lengths: Sequence[int | None]) -> int:  # noqa: ARG002 - see `StageNode`
        """Return the number of elements of the input before an index, with the skipped ones."""
        return position + self.count
