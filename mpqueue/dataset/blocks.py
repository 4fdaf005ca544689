"""A shuffle by blocks of neighbours, see `mpqueue.plan.blocks.Blocks`.

A full shuffle reads each sample from another place of a file. By blocks, the samples of a batch are from a few blocks,
which a file reads at once. If the stage follows a source of `mpqueue.files`, each worker reads each block once: the
row groups of Parquet remain in the source's cache, decoded. Of other blocks, the reader keeps the samples of the open
group: at most ``blocks * block`` are in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mpqueue.dataset.indexed import IndexedRun, Places, ReaderMaker, SourceNode
from mpqueue.dataset.nodes import LinkNode, StageNode
from mpqueue.dataset.picking import PickReader
from mpqueue.plan.blocks import Block
from mpqueue.seeding.block_order import BlockOrder, UnevenOrder
from mpqueue.system.interrupts import not_of_handler

_MAX_ORDERS = 64
_MISSING = object()


class BlockReader(PickReader):
    """The elements of its input in an order by blocks."""

    node: "BlockShuffleNode"

    def __init__(self, node: "BlockShuffleNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._orders: dict[int, BlockOrder] = {}  # by seed
        source: Any = node.input.source if isinstance(node.input, SourceNode) else None
        self._is_of_files = hasattr(type(source), "group_sizes")
        self._bounds = None
        keeps = getattr(source, "keep_groups", None)
        if self._is_of_files and not (node.block == "group" and keeps is not None and keeps(node.blocks)):
            self._bounds = _bounds_of(source, node.block)
        # Of the open group: samples that were not returned, by index, and the blocks that were read.
        self._kept: dict[int, Any] = {}
        self._read: set[int] = set()
        self._open: tuple[int, int, int] = (-1, -1, -1)  # seed, epoch and group

    def before(self, places: Places, run: IndexedRun) -> list[int]:
        """Return the indices of these elements in the input."""
        indices: list[int] = self._order(run).at(run.epoch, self._length(), places).tolist()
        return indices

    def _length(self) -> int:
        assert self.length is not None
        return self.length

    def _order(self, run: IndexedRun) -> BlockOrder:
        seed = self.seed(run)
        if seed not in self._orders:
            if len(self._orders) >= _MAX_ORDERS:
                del self._orders[next(iter(self._orders))]
            self._orders[seed] = order_of(self.node, seed)
        return self._orders[seed]

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices: those of each group together, in ascending order."""
        if not len(places):
            return []
        indices, groups = self._order(run).with_groups(run.epoch, self._length(), places)
        order = indices.argsort()
        values: list[Any] = [None] * len(places)
        of_groups = sorted(set(groups.tolist())) if self._is_of_files else [-1]  # -1: all are read together
        for group in of_groups:
            part = order if len(of_groups) == 1 else order[groups[order] == group]
            wanted = indices[part].tolist()
            if self._bounds is None:
                found = self.input.at(wanted, run)
            else:
                found = self._taken(wanted, (self.seed(run), run.epoch, group), run)
            for number, value in zip(part.tolist(), found, strict=True):
                values[number] = value
        return values

    def _taken(self, indices: list[int], group: tuple[int, int, int], run: IndexedRun) -> list[Any]:
        """Return samples of a group that are kept, after their blocks were read."""
        assert self._bounds is not None
        if group != self._open:
            self._kept, self._read, self._open = {}, set(), group
        for block in np.unique(np.searchsorted(self._bounds, indices, side="right") - 1).tolist():
            if block not in self._read:
                self._read.add(block)
                whole = range(int(self._bounds[block]), int(self._bounds[block + 1]))
                try:
                    self._kept.update(zip(whole, self.input.at(whole, run), strict=True))
                except not_of_handler(Exception):  # of another sample, which this request does not need
                    pass
        # Taken out, because later stages may change it, and a batch that is computed again needs the stored one.
        values = [self._kept.pop(index, _MISSING) for index in indices]
        return [
            self.input.at([index], run)[0] if value is _MISSING else value
            for index, value in zip(indices, values, strict=True)
        ]


def order_of(node: "BlockShuffleNode", seed: int) -> BlockOrder:
    """Return the order of a shuffle by blocks."""
    if isinstance(node.block, str):
        return UnevenOrder(seed, group_sizes(node.input), node.blocks)
    return BlockOrder(seed, node.block, node.blocks)


def group_sizes(node: StageNode) -> Any:
    """Return the number of samples in each row group of a source.

    Raises:
        ValueError: The stage does not follow a source with row groups.
    """
    source = node.source if isinstance(node, SourceNode) else None
    if not hasattr(type(source), "group_sizes"):
        raise ValueError(
            'block="group" needs a source with row groups, such as mpqueue.files.Parquet, directly before the shuffle: '
            "pass a number of neighbours, or shuffle before the other stages"
        )
    assert source is not None
    return source.group_sizes()


def _bounds_of(source: Any, block: Any) -> Any:
    """Return the bounds of the blocks of files, whose reader keeps them; None for other sources."""
    if not hasattr(type(source), "group_sizes"):
        return None
    if block == "group":
        return np.concatenate([[0], np.cumsum(source.group_sizes())])
    return np.append(np.arange(0, len(source), block), len(source))


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BlockShuffleNode(LinkNode):
    """The elements in an order that is shuffled by blocks.

    Attributes:
        block: Number of neighbours in a block, or "group".
        blocks: Number of blocks in a group.
    """

    name: ClassVar[str] = "shuffle"
    passes_elements: ClassVar[bool] = True
    draws_order: ClassVar[bool] = True
    reader: ClassVar[Any] = BlockReader
    block: Block
    blocks: int

    @property
    def keeps_order(self) -> bool:
        """False: the order is another one."""
        return False

    def _shown(self) -> Iterator[str]:
        yield f"block={self.block!r}"
        yield f"blocks={self.blocks}"
