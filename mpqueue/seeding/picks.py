"""The picks of a shuffle buffer: which of its elements is returned next.

The picks are a function of (seed, epoch, lane, stage) and their indices. A block of picks is a block of
NumPy's Philox, with the index of the block as its counter. So a snapshot contains the index of the next pick, but no
generator state. Picks are raw bits, which are the same in all versions of NumPy, scaled by a product. In a buffer of a
million elements, the probabilities of two elements differ by at most a 4,000th.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np

from mpqueue.seeding.seeds import sequence_of

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
_BLOCK = 1 << 11
_PICKS = 0x7069636B73  # separates these numbers from those for samples
_DRAIN = 1 << 62  # a block after all picks

ELEMENTS = "held"  # the key of the elements in the saved state of a buffer


class Picks:
    """Random numbers of a stage in a lane, accessible by index.

    Args:
        seed: Seed of the stage.
        epoch: The epoch.
        lane: Index of the lane, over all ranks.
    """

    def __init__(self, seed: int, epoch: int, lane: int) -> None:
        words = sequence_of(seed, epoch, (lane << 40) + _PICKS)
        self._begin(words.generate_state(2, np.uint64))

    @classmethod
    def of(cls, key: Sequence[int]) -> Self:
        """Return the picks of a key."""
        picks = cls.__new__(cls)
        picks._begin(np.array(key, np.uint64))
        return picks

    @property
    def key(self) -> list[int]:
        """The two integers that the picks are derived from."""
        return list(self._key.tolist())

    def _begin(self, key: np.ndarray[Any, Any]) -> None:
        self._key = key
        self._of: tuple[int, int] = (-1, 0)
        self._picks: Numbers = np.empty(0, np.int64)

    def _bits(self, block: int, count: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
        # The index of the block is the highest word of the counter. Philox counts up in the lowest one, so that blocks
        # do not overlap.
        philox: Any = np.random.Philox(key=self._key, counter=[0, 0, 0, block])
        bits: np.ndarray[Any, np.dtype[np.uint32]] = philox.random_raw(-(-count // 2)).view(np.uint32)[:count]
        return bits

    def take(self, first: int, count: int, bound: int) -> Numbers:
        """Return ``count`` picks from number ``first`` on, each below ``bound``."""
        block, start = divmod(first, _BLOCK)
        picks = self._scaled(block, bound)[start : start + count]
        while len(picks) < count:
            block += 1
            picks = np.concatenate((picks, self._scaled(block, bound)[: count - len(picks)]))
        return picks

    def _scaled(self, block: int, bound: int) -> Numbers:
        if self._of != (block, bound):
            scaled = self._bits(block, _BLOCK).astype(np.uint64) * np.uint64(bound) >> np.uint64(32)
            self._of, self._picks = (block, bound), scaled.astype(np.int64)
        return self._picks

    def order(self, count: int) -> list[int]:
        """Return a permutation."""
        order: list[int] = np.argsort(self._bits(_DRAIN, count), kind="stable").tolist()
        return order

    def latest(self, count: int, bound: int) -> Numbers:
        """Return the number of the last pick of each position among the first ``count`` picks, or -1 without a pick."""
        last = np.full(bound, -1, np.int64)
        missing, end = bound, count
        while end > 0 and missing:
            first = max(0, end - max(_BLOCK, bound))
            picks = self._of_range(first, end, bound)
            latest = np.full(bound, -1, np.int64)
            latest[picks] = np.arange(first, end)  # NumPy keeps the last one of several values for a position
            last = np.where(last < 0, latest, last)
            missing, end = int(np.count_nonzero(last < 0)), first
        return last

    def _of_range(self, first: int, end: int, bound: int) -> Numbers:
        blocks = [self._scaled(block, bound) for block in range(first // _BLOCK, -(-end // _BLOCK))]
        start = first // _BLOCK * _BLOCK
        return np.concatenate(blocks)[first - start : end - start]


class SavedBuffer(NamedTuple):
    """The state of a shuffle buffer, as it is saved.

    Attributes:
        held: The elements, in their order in the buffer.
        pick: The index of the next pick.
        draining: The input is exhausted, and the buffer has the first elements of its last order left.
        key: The key of the picks.
        size: The number of elements that the buffer can have, or had when its input ended.
    """

    held: Sequence[Any]
    pick: int
    draining: bool
    key: Sequence[int]
    size: int

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self | None:
        """Return the buffer in plain data; None: it is not the state of a buffer."""
        return cls(*map(state.__getitem__, cls._fields)) if state.keys() >= set(cls._fields) else None

    @property
    def has_picked(self) -> bool:
        """True if the picks determine the order of the elements."""
        return (self.size or 0) >= len(self.held)

    def by_arrival(self) -> list[int]:
        """Return the elements, which are integers, in the order of their arrival."""
        return list(np.array(self.held, np.int64)[self._arrivals(len(self.held))].tolist())

    def by_position(self, arrived: Sequence[int]) -> list[int]:
        """Return elements in their order in the buffer: the inverse of `by_arrival`."""
        held = np.empty(len(arrived), np.int64)
        held[self._arrivals(len(arrived))] = arrived
        return list(held.tolist())

    def _arrivals(self, count: int) -> Numbers:
        """Return the positions of the first ``count`` elements in the buffer, in the order of their arrival."""
        picks = Picks.of(self.key)
        latest = picks.latest(self.pick, self.size)
        arrived = np.where(latest < 0, np.arange(self.size), self.size + latest)
        if self.draining:
            arrived = arrived[picks.order(self.size)]
        return np.argsort(arrived[:count], kind="stable")
