"""The order of an epoch that is shuffled by blocks of neighbours, computed position by position.

The blocks are permuted, a number of consecutive blocks form a group, and the elements of a group are permuted::

    elements   0 1 2 | 3 4 5 | 6 7 8 | 9           blocks of three; the last one is short
    blocks     6 7 8 | 9 | 0 1 2 | 3 4 5           permuted; the position of the short block changes with the epoch
    groups     8 9 6 7 |  | 3 1 5 0 2 4            of two blocks, each permuted

So a reader has the blocks of one group open, and a sample moves anywhere in the epoch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mpqueue.seeding.permutation import Indices, SampleOrder, is_run, mixed_number

_MOST_GROUPS = 4  # with a kept permutation
# Groups of at most this number of elements are permuted at once: 12 ns per element, and a network needs 60.
_MAX_SHUFFLED = 1 << 18


class Part(NamedTuple):
    """The part of a request that belongs to one group.

    Attributes:
        group: The index of the group.
        rows: Which of the requested positions they are.
        inside: Their elements, counted from the first element of the group's first block.
    """

    group: int
    rows: Any
    inside: Any


class BlockOrder:
    """The orders of successive epochs, with blocks of equal size.

    Args:
        seed: The order depends only on the seed and the epoch.
        size: Number of elements in a block.
        num_blocks: Number of blocks in a group.
    """

    def __init__(self, seed: int, size: int, num_blocks: int) -> None:
        self._seed, self._size, self._num_blocks = seed, size, num_blocks
        self._blocks = SampleOrder(seed, shuffle=True)
        self._inner: dict[tuple[int, int, int], SampleOrder] = {}
        # The group of the latest request: (epoch, length), first place, number of elements, and index.
        self._latest: tuple[tuple[int, int], int, int, int] = (-1, -1), 0, 0, 0

    def at(self, epoch: int, length: int, positions: Sequence[int]) -> Indices:
        """Return the indices at any positions."""
        groups, inside = np.empty(len(positions), np.int64), np.empty(len(positions), np.int64)
        for part in self.by_group(epoch, length, positions):
            groups[part.rows], inside[part.rows] = part.group, part.inside
        return self._elements(epoch, length, groups, inside)

    def by_group(self, epoch: int, length: int, positions: Sequence[int]) -> list[Part]:
        """Return the positions of each group. Positions in one group, in ascending steps, take a few microseconds."""
        if not len(positions):
            return []
        known, start, size, group = self._latest
        first, last = positions[0], positions[-1]
        if known == (epoch, length) and start <= first <= last < start + size:
            order = self._order_in(epoch, group, size)
            if is_run(positions):
                return [Part(group, slice(None), order.run_at(epoch, size, first - start, len(positions)))]
            if type(positions) is range:
                steps = range(first - start, last - start + 1, positions.step)
                return [Part(group, slice(None), order.at(epoch, size, steps))]
        asked = np.asarray(positions, np.int64)
        groups, starts, sizes = self._groups_of(epoch, length, asked)
        positions_in, parts = asked - starts, []
        for group in sorted(set(groups.tolist())):
            (found,) = np.nonzero(groups == group)
            size = int(sizes[found[0]])
            those = positions_in[found]
            run = bool((those[1:] - those[:-1] == 1).all())  # a batch: its block of indices is kept
            parts.append(Part(group, found, self._order_in(epoch, group, size).array_at(epoch, size, those, run)))
        self._latest = (epoch, length), int(starts[-1]), int(sizes[-1]), int(groups[-1])
        return parts

    def blocks_of(self, epoch: int, length: int, group: int) -> list[range]:
        """Return the elements of each block of a group, in the order of the blocks."""
        missing, short = self._short(epoch, length)
        count = length // self._size + (missing > 0)
        blocks = np.arange(group * self._num_blocks, min((group + 1) * self._num_blocks, count))
        sizes = np.where((blocks == short) & (missing > 0), self._size - missing, self._size)
        firsts = self._elements(epoch, length, np.full(len(blocks), group), np.cumsum(sizes) - sizes)
        return [range(first, first + size) for first, size in zip(firsts.tolist(), sizes.tolist(), strict=True)]

    def _order_in(self, epoch: int, group: int, size: int) -> SampleOrder:
        key = epoch, group, size
        if key not in self._inner:
            while len(self._inner) >= _MOST_GROUPS:
                self._inner.pop(next(iter(self._inner)))
            seed = mixed_number(self._seed, epoch, group + 1)
            self._inner[key] = SampleOrder(seed, shuffle=True, max_shuffled=_MAX_SHUFFLED)
        return self._inner[key]

    def _groups_of(self, epoch: int, length: int, positions: Indices) -> tuple[Indices, Indices, Indices]:
        """Return the group of each position, its first place, and its number of elements."""
        span = self._size * self._num_blocks
        missing, short = self._short(epoch, length)
        group_of_short = short // self._num_blocks
        # Only the short block makes a group smaller. Later groups begin earlier by the missing elements.
        end = min((group_of_short + 1) * span - missing, length)
        groups = np.where(positions < end, positions // span, (positions + missing) // span)
        starts = groups * span - np.where(groups > group_of_short, missing, 0)
        ends = np.minimum((groups + 1) * span - np.where(groups >= group_of_short, missing, 0), length)
        return groups, starts, ends - starts

    def _elements(self, epoch: int, length: int, groups: Indices, inside: Indices) -> Indices:
        """Return the elements at positions in the blocks of groups, which are not permuted."""
        missing, short = self._short(epoch, length)
        first = groups * self._num_blocks  # the position of the group's first block
        before = (short - first) * self._size  # the elements before the short block, if it is in this group
        is_after = (groups == short // self._num_blocks) & (inside >= before + self._size - missing) & (missing > 0)
        moved = inside + np.where(is_after, missing, 0)
        blocks = first + moved // self._size
        num_whole = length // self._size
        is_short = (blocks == short) & (missing > 0)
        whole = np.where(is_short, 0, blocks - ((blocks > short) & (missing > 0)))
        chosen = self._blocks.array_at(epoch, num_whole, whole, False) if num_whole > 1 else whole * 0
        return np.where(is_short, num_whole, chosen) * self._size + moved % self._size

    def _short(self, epoch: int, length: int) -> tuple[int, int]:
        """Return how many elements the short block lacks, and its position among the blocks; 0 without a short one."""
        num_whole, rest = divmod(length, self._size)
        if not rest:
            return 0, num_whole
        return self._size - rest, mixed_number(self._seed, epoch, 0) % (num_whole + 1)


class UnevenOrder(BlockOrder):
    """The orders of successive epochs, with blocks of given sizes. It has a table of the blocks of an epoch.

    Args:
        seed: The order depends only on the seed and the epoch.
        sizes: Number of elements in each block.
        num_blocks: Number of blocks in a group.
    """

    def __init__(self, seed: int, sizes: Indices, num_blocks: int) -> None:
        super().__init__(seed, 1, num_blocks)
        self._sizes, self._first = sizes, np.cumsum(sizes) - sizes
        self._table: tuple[Any, ...] = (-1,)  # an epoch, its blocks in order, and the ends of blocks and groups

    def _of(self, epoch: int) -> tuple[Indices, Indices, Indices]:
        if self._table[0] != epoch:
            blocks = np.arange(len(self._sizes))
            order = self._blocks.array_at(epoch, len(blocks), blocks, False) if len(blocks) > 1 else blocks
            ends = np.cumsum(self._sizes[order])
            step = self._num_blocks
            last = np.minimum(np.arange(step, len(ends) + step, step), len(ends)) - 1
            self._table = epoch, order, ends, ends[last]
        _, order, ends, of_groups = self._table
        return order, ends, of_groups

    def _groups_of(self, epoch: int, length: int, positions: Indices) -> tuple[Indices, Indices, Indices]:
        _, _, ends = self._of(epoch)
        groups = np.searchsorted(ends, positions, side="right")
        sizes = np.diff(ends, prepend=0)[groups]
        return groups, ends[groups] - sizes, sizes

    def _elements(self, epoch: int, length: int, groups: Indices, inside: Indices) -> Indices:
        order, ends, of_groups = self._of(epoch)
        positions = inside + np.concatenate([[0], of_groups])[groups]
        blocks = np.searchsorted(ends, positions, side="right")
        found = order[blocks]
        elements: Indices = self._first[found] + positions - (ends[blocks] - self._sizes[found])
        return elements

    def blocks_of(self, epoch: int, length: int, group: int) -> list[range]:
        """Return the elements of each block of a group, in the order of the blocks."""
        order, _, _ = self._of(epoch)
        blocks = order[group * self._num_blocks : (group + 1) * self._num_blocks]
        firsts, sizes = self._first[blocks].tolist(), self._sizes[blocks].tolist()
        return [range(first, first + size) for first, size in zip(firsts, sizes, strict=True)]
