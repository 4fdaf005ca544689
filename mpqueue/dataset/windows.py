"""The stage `window`: lists of consecutive elements of a virtual shard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.merging import Merging
from mpqueue.dataset.nodes import LinkNode
from mpqueue.dataset.stages import Block, Token


class WindowStage(Merging):
    """Lists of ``size`` elements; each begins ``stride`` elements after the one before."""

    node: "WindowNode"

    def pull(self, count: int) -> Block:  # noqa: ARG002 - always one window
        """Return the next window."""
        while self.fill(self.node.size):
            window = self.open[: self.node.size]
            del self.open[: self.node.stride]
            made = self.made_of(window)
            if made[1]:
                return made
        return [], []

    def join(self, values: list[Any], tokens: Sequence[Token]) -> list[Any]:  # noqa: ARG002 - it draws no numbers
        """Return a window."""
        return values


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class WindowNode(LinkNode):
    """Lists of consecutive elements.

    Attributes:
        size: The number of elements.
        stride: The number of elements between the beginnings of two windows, at most the size.
    """

    name: ClassVar[str] = "window"
    makes_stream: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    lane_stage: ClassVar[Any] = WindowStage
    size: int
    stride: int
