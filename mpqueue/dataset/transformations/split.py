"""The stage `split`: a random part of an indexed dataset.

A hash of the seed and the index of an element is a number from 0 to 1. A part has the elements with numbers in its
range. So samples that are appended change no other sample's part.

To find the n-th element of a part, its elements are counted in blocks of indices. A process keeps the counts (2 bytes
for 1,000 elements of the input) and the indices of the blocks that it read last.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from mpqueue.dataset.description.nodes import LinkNode, Traits
from mpqueue.dataset.indexed.readers import IndexedRun, Positions, ReaderMaker
from mpqueue.dataset.indexed.reordering import PickReader
from mpqueue.seeding.seeds import sequence_of

Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_SPLIT = 0x73706C6974  # separates these numbers from all others of the seed
_BITS = 53  # of a number from 0 to 1, as in a float
_BLOCK, _AT_ONCE, _MAX_BLOCKS = 4096, 256, 1024
_GOLDEN, _FIRST, _SECOND = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_WORD = 0xFFFFFFFFFFFFFFFF


def bounds_of(fractions: Sequence[float]) -> list[tuple[float, float]]:
    """Return the range of indices of each part."""
    ends = [math.fsum(fractions[: index + 1]) for index in range(len(fractions))]
    # Sums such as 0.7 + 0.2 + 0.1 are not exactly 1, and no element may be lost.
    if math.isclose(ends[-1], 1):
        ends[-1] = 1.0
    return list(zip([0.0, *ends], ends, strict=False))


class Members:
    """The indices with numbers in a range, in ascending order.

    Args:
        seed: The seed.
        low: The start of the range.
        high: The end of the range, exclusive.
    """

    def __init__(self, seed: int, low: float, high: float) -> None:
        (self._key,) = sequence_of(seed & _WORD, _SPLIT).generate_state(1, np.uint64)
        self._low, self._high = (np.uint64(round(bound * (1 << _BITS))) for bound in (low, high))
        self._ends: Indices = np.empty(0, np.int64)  # the number of members up to the end of each complete block
        self._inside = functools.lru_cache(_MAX_BLOCKS)(self._members_of_block)

    def count(self, length: int) -> int:
        """Return the number of members below an index."""
        num_blocks, rest = divmod(length, _BLOCK)
        ends = self._ends_of(num_blocks)
        count = int(ends[num_blocks - 1]) if num_blocks else 0
        return count + int(np.searchsorted(self._inside(num_blocks), rest)) if rest else count

    def at(self, positions: Sequence[int], length: int) -> list[int]:
        """Return the members at these positions, which are below the result of `count` for this length."""
        ranks = np.asarray(positions, np.int64)
        # Not `self._ends` as it is: a reader of a shorter source, in another thread, may have replaced it.
        ends = self._ends_of(length // _BLOCK)
        blocks = np.searchsorted(ends, ranks, side="right")
        indices = np.empty_like(ranks)
        for block in set(blocks.tolist()):
            rows = np.flatnonzero(blocks == block)
            first = int(ends[block - 1]) if block else 0
            indices[rows] = self._inside(block)[ranks[rows] - first].astype(np.int64) + block * _BLOCK
        found: list[int] = indices.tolist()
        return found

    def _ends_of(self, num_blocks: int) -> Indices:
        """Return the ends of at least this number of blocks.

        They depend on the range alone. So one object serves all sources, and several threads may extend it.
        """
        ends = self._ends
        while len(ends) < num_blocks:
            more = min(_AT_ONCE, num_blocks - len(ends))
            counts = self._are_members(len(ends), more).sum(axis=1)
            ends = np.concatenate([ends, np.cumsum(counts) + (ends[-1] if len(ends) else 0)])
        self._ends = ends
        return ends

    def _members_of_block(self, block: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
        return np.flatnonzero(self._are_members(block, 1)[0]).astype(np.uint16)

    def _are_members(self, first: int, count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return whether each index of some blocks is a member, with a row per block."""
        words = np.arange(first * _BLOCK, (first + count) * _BLOCK, dtype=np.uint64)
        # The finalizer of SplitMix64.
        words *= _GOLDEN
        words += self._key
        for shift, factor in ((30, _FIRST), (27, _SECOND)):
            words ^= words >> np.uint64(shift)
            words *= factor
        words ^= words >> np.uint64(31)
        words >>= np.uint64(64 - _BITS)
        return ((words >= self._low) & (words < self._high)).reshape(count, _BLOCK)


@functools.lru_cache(maxsize=64)
def members_of(seed: int, low: float, high: float) -> Members:
    """Return the members of a range, shared by all readers of this process."""
    return Members(seed, low, high)


class SplitReader(PickReader):
    """The elements of a part."""

    def __init__(self, node: "SplitNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._members = node.members()

    def before(self, positions: Positions, run: IndexedRun) -> Positions:
        """Return the indices of these elements of the part."""
        return self._members.at(positions, self.input.length or 0)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SplitNode(LinkNode):
    """A random part of the elements, in order.

    Attributes:
        low: The start of the range of the part's numbers.
        high: The end of the range, exclusive.
        seed: The seed of the numbers.
    """

    name: ClassVar[str] = "split"
    traits: ClassVar[Traits] = Traits(passes_elements=True, keeps_prefix=True)
    reader: ClassVar[Any] = SplitReader
    low: float
    high: float
    seed: int

    def members(self) -> Members:
        """Return the indices of the part in the input."""
        return members_of(self.seed, self.low, self.high)

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of elements of the part."""
        (length,) = lengths
        return None if length is None else self.members().count(length)

    def _shown(self) -> Iterator[str]:
        yield f"{self.low:g} to {self.high:g}"
        yield f"seed={self.seed}"
