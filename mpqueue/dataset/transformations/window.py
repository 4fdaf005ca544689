"""The stage `window`: lists of neighbouring elements, which may overlap.

By index, window ``n`` begins at element ``n * stride``. In a stream, each virtual shard makes separate
windows, and holds at most ``size`` elements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.description.nodes import LinkNode, Traits
from mpqueue.dataset.indexed.merged import MergingReader
from mpqueue.dataset.lanes.merging import Merging
from mpqueue.dataset.lanes.stages import Block, Token


class WindowReader(MergingReader):
    """Windows by index: overlapping rows of samples that are not collated."""

    node: "WindowNode"

    def _first(self, position: int) -> int:
        return position * self.node.stride


class WindowStage(Merging):
    """Windows of the elements of a lane.

    A token is (first token, 0, other tokens...): `position_of` reads the first two items, so the random numbers belong
    to the first element, also when a later one is skipped.
    """

    node: "WindowNode"

    def pull(self, count: int) -> Block:
        """Return the next window."""
        node = self.node
        while self.fill(node.size) or (self.open and not node.drop_last):
            window = self.open[: node.size]
            del self.open[: node.stride]
            made, tokens = self.made_of(window)
            if made:
                return made, [(first, 0, *others) for first, *others in tokens]
        return [], []

    def join(self, values: list[Any], tokens: Sequence[Token]) -> list[Any]:
        """Return a window."""
        return values

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these windows, made again."""
        return super().again(_parts(tokens))

    def sample_ids(self, tokens: Sequence[Token]) -> list[SampleIds]:
        """Return the ids of the samples of each window."""
        return super().sample_ids(_parts(tokens))

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the elements that it holds."""
        super().get_state(states, _parts(held))


def _parts(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens of the elements of each window."""
    return [(first, *others) for first, _, *others in tokens]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class WindowNode(LinkNode):
    """Lists of neighbouring elements.

    Attributes:
        size: The number of elements.
        stride: The number of elements between the beginnings of two windows, at most ``size``.
        drop_last: Whether to drop windows with fewer elements.
    """

    name: ClassVar[str] = "window"
    traits: ClassVar[Traits] = Traits(merges=True, keeps_prefix=True)
    reader: ClassVar[Any] = WindowReader
    lane_stage: ClassVar[Any] = WindowStage
    collate: ClassVar[Any] = list
    size: int
    stride: int
    drop_last: bool = False

    def own_traits(self) -> Traits:
        """Return the traits: the order is kept if no element is in two windows."""
        return self.traits._replace(keeps_order=self.stride == self.size)

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of windows."""
        (length,) = lengths
        if length is None:
            return None
        return max(0, -(-(length - (self.size - 1 if self.drop_last else 0)) // self.stride))

    def num_read(self, position: int, at: int, lengths: Sequence[int | None]) -> int:
        """Return the number of elements in the windows before an index, if windows do not overlap."""
        return position * self.size
