"""The picks of a shuffle buffer: which of its elements is returned next.

The picks follow from (seed, epoch, virtual shard, stage) and their numbers. A block of picks is a block of NumPy's
Philox, whose counter is the number of the block. So a snapshot has the number of the next pick, and no state of a
generator. Picks are raw bits, which no version of NumPy changes, and are scaled by a product: for a buffer of a million
elements one element is picked more often than another by a 4,000th at most.
"""

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np

from mpqueue.seeding.seeds import sequence_of

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
_BLOCK = 1 << 11
_PICKS = 0x7069636B73  # separates these numbers from those of samples
_DRAIN = 1 << 62  # a block that no pick reaches


class Picks:
    """Random numbers of a stage in a virtual shard, each by its number.

    Args:
        seed: Of the stage.
        epoch: The epoch.
        lane: The number of the virtual shard among those of all ranks.
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
        """The two integers that the picks follow from."""
        return list(self._key.tolist())

    def _begin(self, key: np.ndarray[Any, Any]) -> None:
        self._key = key
        self._of: tuple[int, int] = (-1, 0)
        self._picks: Numbers = np.empty(0, np.int64)

    def _bits(self, block: int, count: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
        philox: Any = np.random.Philox(key=self._key, counter=[0, 0, 0, block])
        bits: np.ndarray[Any, np.dtype[np.uint32]] = philox.random_raw(-(-count // 2)).view(np.uint32)[:count]
        return bits

    def take(self, first: int, count: int, bound: int) -> Numbers:
        """Return the picks of these numbers, each below ``bound``."""
        block, start = divmod(first, _BLOCK)
        found = self._scaled(block, bound)[start : start + count]
        while len(found) < count:
            block += 1
            found = np.concatenate((found, self._scaled(block, bound)[: count - len(found)]))
        return found

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
        """Return the number of the last pick of each place among the first ``count`` picks, or -1 if there is none."""
        found = np.full(bound, -1, np.int64)
        missing, end = bound, count
        while end > 0 and missing:
            first = max(0, end - max(_BLOCK, bound))
            picks = self._of_range(first, end, bound)
            latest = np.full(bound, -1, np.int64)
            latest[picks] = np.arange(first, end)  # of those for one place the last one stays
            found = np.where(found < 0, latest, found)
            missing, end = int(np.count_nonzero(found < 0)), first
        return found

    def _of_range(self, first: int, end: int, bound: int) -> Numbers:
        blocks = [self._scaled(block, bound) for block in range(first // _BLOCK, -(-end // _BLOCK))]
        start = first // _BLOCK * _BLOCK
        return np.concatenate(blocks)[first - start : end - start]


def arrivals(state: dict[str, Any], count: int) -> Numbers:
    """Return the arrival numbers of the elements that a buffer holds.

    Args:
        state: The item of a `ShuffleStage` in a snapshot.
        count: Number of elements that are held.
    """
    picks, size, num_picks = Picks.of(state["key"]), state["size"], state["pick"]
    latest = picks.latest(num_picks, size)
    arrived = np.where(latest < 0, np.arange(size), size + latest)
    if state["draining"]:  # what is left are the first elements of the order in which the buffer is drained
        arrived = arrived[picks.order(size)]
    return arrived[:count]
