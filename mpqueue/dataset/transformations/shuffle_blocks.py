"""A shuffle by blocks of neighbours, see `mpqueue.Dataset.shuffle`.

A full shuffle reads each sample from another position of a file. By blocks, the samples of a batch are from a few
blocks. They are read in one of two ways:

- *sample by sample* (`BlockReader`): the samples of a request, in ascending order;
- *by blocks* (`GroupReader`), if the source has ``get_blocks``, as the sources of `mpqueue.files`. Each process reads
  the blocks of a group when it needs one of their samples, and keeps them until it needs the next group. So
  ``blocks * block`` samples are in memory, as they are stored, and each is decoded when it is requested.
"""

import reprlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mpqueue.dataset.description.nodes import LinkNode, StageNode, Traits
from mpqueue.dataset.indexed.readers import IndexedRun, Positions, ReaderMaker, SourceNode, SourceReader
from mpqueue.dataset.indexed.reordering import PickReader
from mpqueue.seeding.block_order import BlockOrder, UnevenOrder
from mpqueue.system.log import warn
from mpqueue.system.process_cache import ProcessCache
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.exception_texts import named_text_of
from mpqueue.worker import context

_MAX_ORDERS = 64


class _Columns:
    """Samples that are dicts, by column. They are indexed by a list of positions.

    Args:
        columns: The columns.
        name: The function that has returned them, for errors.

    Raises:
        TypeError: A column is not indexed by a list of positions.
        ValueError: The columns have different lengths.
    """

    def __init__(self, columns: dict[Any, Any], name: str) -> None:
        for key, column in columns.items():
            if isinstance(column, list | tuple) or not hasattr(column, "__getitem__"):
                raise TypeError(
                    f"column {key!r} of {name} must be an array, or another object that is indexed by a list of "
                    f"places, got {type(column).__name__}"
                )
        lengths = {key: len(column) for key, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of {name} must have equal lengths, got {lengths}")
        self._columns, self._length = columns, next(iter(lengths.values()), 0)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, positions: Sequence[int]) -> list[dict[Any, Any]]:
        """Return the samples at these positions."""
        taken = [column[positions] for column in self._columns.values()]
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*taken, strict=True)]


class BlockReader(PickReader):
    """The elements of its input in an order by blocks. The samples of a request are read in ascending order."""

    node: "BlockShuffleNode"

    def __init__(self, node: "BlockShuffleNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._orders: dict[int, BlockOrder] = {}  # by seed

    def before(self, positions: Positions, run: IndexedRun) -> list[int]:
        """Return the indices of these elements in the input."""
        indices: list[int] = self._order(run).at(run.epoch, self._length(), positions).tolist()
        return indices

    def _length(self) -> int:
        assert self.length is not None
        return self.length

    def _order(self, run: IndexedRun) -> BlockOrder:
        seed = self.order_seed(run)
        if seed not in self._orders:
            if len(self._orders) >= _MAX_ORDERS:
                del self._orders[next(iter(self._orders))]
            self._orders[seed] = order_of(self.node, seed, self._length())
        return self._orders[seed]

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices."""
        indices = np.array(self.before(positions, run), np.int64)
        order = indices.argsort()
        values: list[Any] = [None] * len(positions)
        for at, value in zip(order.tolist(), self.input.at(indices[order].tolist(), run), strict=True):
            values[at] = value
        return values


class _Group(NamedTuple):
    """A group of blocks of an epoch, as it was read after a number of repeats of batches, see `context.num_repeats`."""

    seed: int
    epoch: int
    length: int
    group_index: int
    num_repeats: int = 0


class GroupReader(BlockReader):
    """The elements in an order by blocks, of a source that returns whole blocks."""

    input: SourceReader
    _groups: ProcessCache

    def __init__(self, node: "BlockShuffleNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        # One for all threads of a process. If there are several, they share a batch. At the end of a group, the first
        # that reads the next one must not take the old one away from the others: each end cost up to two readings.
        made = ProcessCache(1), threading.get_ident()
        self._groups, first_thread = maker.shared.setdefault(id(node), made)
        if first_thread != threading.get_ident():
            self._groups.max_size = max(self._groups.max_size, 2)
        self._latest = _Group(-1, -1, -1, -1)
        self._is_told = False

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices."""
        # `dataset[i]` does not need the other samples of 16 blocks. A loader reads groups for single samples, too:
        # numbers that are drawn for a group must not depend on the requests of a worker.
        if run.is_alone and len(positions) == 1:
            return super().at(positions, run)
        self.input.check_length(run)
        values: list[Any] = [None] * len(positions)
        parts = self._order(run).by_group(run.epoch, self._length(), positions)
        if type(positions) is range and positions.step > 1:
            # Lanes take turns. When the first one has reached the next group, the others still need those before.
            self._groups.max_size = max(self._groups.max_size, len(parts) + 1)
        for part in parts:
            group = _Group(self.seed(run), run.epoch, self._length(), part.group, context.num_repeats())
            latest, self._latest = self._latest, group
            if latest.seed not in {-1, group.seed}:  # two stages read this one in turn
                self._groups.max_size = max(self._groups.max_size, 2)
            is_whole = type(part.rows) is slice
            found = self._of_group(group, part.inside, positions[0 if is_whole else part.rows[0]], run)
            if found is None:
                return super().at(positions, run)
            if is_whole:
                return found
            for index, value in zip(part.rows.tolist(), found, strict=True):
                values[index] = value
        return values

    def _of_group(self, group: _Group, inside: Sequence[int], first: int, run: IndexedRun) -> list[Any] | None:
        """Return elements of a group, including that at position ``first``; None to read them sample by sample."""
        rows = self._groups.get(group, lambda group: (self._read(group.group_index, run), 1))
        if rows is None:
            return None
        try:
            # As for a group: whether this worker has just read the group must make no difference.
            run.begin(self.seed(run), run.epoch, ~int(first))
            found = list(rows[inside]) if run.fixed is None else run.fixed.unless_drawn(lambda: list(rows[inside]))
            if found is None:
                return None
        except Exception as error:
            if is_interrupt(error):
                raise
            # Of one of these samples. Read one by one, it names its sample, and leaves the others.
            self._warn(error)
            return None
        if len(found) != len(inside):
            raise ValueError(f"{self._name()} returned {len(found)} samples for {len(inside)} places")
        return found

    def _read(self, group: int, run: IndexedRun) -> Any:
        """Return the samples of a group of blocks, to be indexed by a list; None if they cannot be read together."""
        source: Any = self.input.node.source
        blocks = self._order(run).blocks_of(run.epoch, self._length(), group)
        # Numbers that it draws do not depend on the worker that reads it, or on the first request.
        run.begin(self.input.seed(run), run.epoch, ~blocks[0].start)
        try:
            if run.fixed is None:
                rows = source.get_blocks(blocks)
            else:
                rows = run.fixed.unless_drawn(source.get_blocks, blocks)
                if rows is None:  # a cached element must not depend on the other elements
                    return None
        except Exception as error:  # perhaps of a sample that this request does not need
            if is_interrupt(error):
                raise
            self._warn(error)
            return None
        count = sum(map(len, blocks))
        if isinstance(rows, dict):
            rows = _Columns(rows, self._name())
        if isinstance(rows, list | tuple) or not hasattr(rows, "__getitem__"):
            raise TypeError(
                f"{self._name()} must return an array, another object that is indexed by a list of places, or a dict "
                f"of these, got {type(rows).__name__}"
            )
        if len(rows) != count:
            raise ValueError(f"{self._name()} must return the {count} samples of these blocks, got {len(rows)}")
        return rows

    def _name(self) -> str:
        return f"{type(self.input.node.source).__name__}.get_blocks"

    def _warn(self, error: BaseException) -> None:
        if self._is_told:
            return
        self._is_told = True
        warn(
            f"{self._name()} cannot read a group of blocks ({named_text_of(error)}): its samples are read one by one, "
            "which takes longer",
            "Shuffles",
            "Shuffle in blocks",
        )


def reader_of(node: "BlockShuffleNode", maker: ReaderMaker) -> BlockReader:
    """Return the reader of a shuffle by blocks."""
    is_by_blocks = isinstance(node.input, SourceNode) and hasattr(type(node.input.source), "get_blocks")
    return (GroupReader if is_by_blocks else BlockReader)(node, maker)


def order_of(node: "BlockShuffleNode", seed: int, length: int) -> BlockOrder:
    """Return the order of a shuffle by blocks of a number of elements."""
    # Larger numbers have the same order, and NumPy's integers have 64 bits.
    if isinstance(node.block, str):
        sizes = group_sizes(node.input)
        return UnevenOrder(seed, sizes, min(node.blocks, len(sizes) + 1))
    block = min(node.block, length + 1)
    return BlockOrder(seed, block, min(node.blocks, length // block + 1))


def group_sizes(node: StageNode) -> Any:
    """Return the number of samples in each row group of a source.

    Raises:
        ValueError: The stage does not follow a source with row groups, or they do not have all samples of the source.
    """
    source = node.source if isinstance(node, SourceNode) else None
    if not hasattr(type(source), "group_sizes"):
        raise ValueError(
            'block="group" needs a source with row groups, such as mpqueue.files.Parquet, directly before the shuffle: '
            "pass a number of neighbours, or shuffle before the other stages"
        )
    assert source is not None
    sizes, length = np.asarray(source.group_sizes(), np.int64), node.length_by(())
    if sizes.ndim != 1 or (sizes < 0).any() or sizes.sum() != length:
        raise ValueError(
            f"{type(source).__name__}.group_sizes must return the size of each group, 0 or more, with the sum "
            f"{length}, the length of the source, got {reprlib.repr(sizes.tolist())} with the sum {sizes.sum()}"
        )
    return sizes


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BlockShuffleNode(LinkNode):
    """The elements in an order that is shuffled by blocks.

    Attributes:
        block: Number of neighbours in a block, or "group".
        blocks: Number of blocks in a group.
    """

    name: ClassVar[str] = "shuffle"
    traits: ClassVar[Traits] = Traits(passes_elements=True, draws_order=True, keeps_order=False)
    reader: ClassVar[Any] = staticmethod(reader_of)
    block: int | str
    blocks: int

    def _shown(self) -> Iterator[str]:
        yield f"block={self.block!r}"
        yield f"blocks={self.blocks}"
