"""The arithmetic of a mix: which dataset each place takes its element from, and how many it took before. Pure.

Places lie in blocks of some hundred. Each block has a *quota* of each dataset, and an order of its own, which follows
from the seed. Quotas follow from the weights alone. So how many elements of a dataset lie before a place is a product,
for the blocks before, and a count within one block: at any place, without memory.

Weights that are simple ratios (0.7 and 0.3; ten equal ones) divide a block exactly. Others leave some places of each
block over. To whom these go is a mix of its own, of the fractions that were cut off: its places are all left-over
places, block after block. It has one block of 65,536 places, again and again, in which each dataset has its places at
equal distances; what is left over of that goes to the largest remainders. So a weight of 0.0001 has one of 10,000
places, although a block has 512.

How long a mix is does not depend on the seed either: the last block is shorter, with quotas that fit into what the
datasets have left.

A single element of a mix of ten, anywhere, takes 40 µs. So an order is not drawn from a new generator, which costs
17 µs to make: one generator for each thread is given a state that follows from the numbers of the block.
"""

import functools
import math
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np

from mpqueue.seeding.seeds import sequence_of

Counts: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_MOST_PLACES = 512
_LEFT_PLACES = 1 << 16
_PICKS = 0x7069636B73  # separates these numbers from all others of the seed
_WORD = 0xFFFFFFFFFFFFFFFF
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class LeftOver:
    """The datasets to which the left-over places of all blocks go.

    Args:
        parts: The part of each dataset, which sum up to 1.
    """

    def __init__(self, parts: Sequence[Fraction]) -> None:
        quotas = np.array([int(part * _LEFT_PLACES) for part in parts], np.int64)
        left = [part * _LEFT_PLACES - int(part * _LEFT_PLACES) for part in parts]
        largest = sorted(range(len(parts)), key=left.__getitem__, reverse=True)
        quotas[largest[: _LEFT_PLACES - int(quotas.sum())]] += 1
        self._whole = quotas
        datasets = np.arange(len(parts)).repeat(quotas)
        starts = np.cumsum(quotas) - quotas
        evenly = (np.arange(_LEFT_PLACES) - starts.repeat(quotas) + 0.5) / np.maximum(1, quotas).repeat(quotas)
        self._order = datasets[np.argsort(evenly, kind="stable")]
        # The places of each dataset, in a row. So the number of those before a place is found by a binary search.
        places = np.argsort(self._order, kind="stable")
        self._starts, self._keys = starts, self._order[places] * _LEFT_PLACES + places

    def before(self, place: int) -> Counts:
        """Return the number of places of each dataset before a place."""
        block, inside = divmod(place, _LEFT_PLACES)
        return self._whole * block + np.bincount(self._order[:inside], minlength=len(self._whole))

    def before_each(self, places: Any, datasets: Any) -> Any:
        """Return the number of places of a dataset before a place, for each pair of both."""
        blocks, inside = np.divmod(places, _LEFT_PLACES)
        found = np.searchsorted(self._keys, datasets * _LEFT_PLACES + inside) - self._starts[datasets]
        return found + self._whole[datasets] * blocks

    def of(self, place: int, count: int) -> Counts:
        """Return the datasets of places in a row, ascending."""
        start = place % _LEFT_PLACES
        end = start + count
        if end <= _LEFT_PLACES:
            return np.sort(self._order[start:end])
        return np.sort(np.concatenate((self._order[start:], self._order[: end - _LEFT_PLACES])))


class Shares:
    """The quotas of blocks.

    Args:
        weights: One for each dataset, of any sum above 0.

    Attributes:
        size: Places of a block.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        exact = [Fraction(repr(weight)) for weight in weights]  # 0.3 is three tenths, not the binary fraction near it
        total = sum(exact)
        parts = [weight / total for weight in exact]
        common = math.lcm(*(part.denominator for part in parts))
        self.size = common * (_MOST_PLACES // common) if common <= _MOST_PLACES else _MOST_PLACES
        wanted = [part * self.size for part in parts]
        self._whole = np.array([int(places) for places in wanted], np.int64)
        self._num_left = self.size - int(self._whole.sum())
        left = [(places - int(places)) / max(1, self._num_left) for places in wanted]
        self._left = LeftOver(left) if self._num_left else None
        self._regular = np.arange(len(parts)).repeat(self._whole)

    def before(self, block: int) -> Counts:
        """Return the number of elements of each dataset before a block."""
        counts = self._whole * block
        return counts if self._left is None else counts + self._left.before(block * self._num_left)

    def before_each(self, blocks: Any, datasets: Any) -> Any:
        """Return the number of elements of a dataset before a block, for each pair of both.

        Args:
            blocks: An array of the numbers of blocks, or one number.
            datasets: An array of the same length, or one number.
        """
        counts = self._whole[datasets] * blocks
        return counts if self._left is None else counts + self._left.before_each(blocks * self._num_left, datasets)

    def quotas(self, block: int) -> Counts:
        """Return the number of elements of each dataset in a block."""
        return self._whole if self._left is None else self.before(block + 1) - self.before(block)

    def datasets(self, block: int) -> Counts:
        """Return the datasets of the places of a block, each as often as its quota says, ascending.

        A block has some hundred places. So this takes no longer where there are 10,000 datasets.
        """
        if self._left is None:
            return self._regular
        left = self._left.of(block * self._num_left, self._num_left)
        return np.sort(np.concatenate((self._regular, left))) if len(self._regular) else left


class _Generators(threading.local):
    def __init__(self) -> None:
        self.bits = np.random.PCG64(0)
        self.generator = np.random.Generator(self.bits)


_generators = _Generators()


@functools.lru_cache(maxsize=256)
def _keys_of(*words: int) -> tuple[int, int]:
    first, second = sequence_of(*words, _PICKS).generate_state(2, np.uint64).tolist()
    return first, second


def _mixed(word: int) -> int:
    """The finalizer of SplitMix64."""
    word = (word ^ word >> 30) * _FIRST & _WORD
    word = (word ^ word >> 27) * _SECOND & _WORD
    return word ^ word >> 31


def shuffled(datasets: Counts, *words: int) -> Counts:
    """Return the datasets of the places of a block in an order that follows from the words.

    Args:
        datasets: The dataset of each place, ascending.
        *words: Of the stream of blocks; the last one is the number of the block.
    """
    *stream, block = words
    first, second = _keys_of(*stream)
    step = block * _GOLDEN
    state = _mixed(first + step & _WORD) << 64 | _mixed(second + step & _WORD)
    _generators.bits.state = {
        "bit_generator": "PCG64", "state": {"state": state, "inc": (first << 64 | second) | 1},
        "has_uint32": 0, "uinteger": 0,
    }  # fmt: skip
    order = datasets.copy()
    _generators.generator.shuffle(order)
    return order


def apportioned(quotas: Counts, places: int) -> Counts:
    """Return the quotas of a block that is shorter: by largest remainders, of equal ones the first."""
    size = int(quotas.sum())
    scaled = quotas * places
    found: Counts = scaled // size
    left = places - int(found.sum())
    found[np.argsort(-(scaled % size), kind="stable")[:left]] += 1
    return found


class Extent:
    """The blocks that a mix has.

    Args:
        shares: The quotas.
        lengths: Of the datasets; None: without end.
        stop: "first": no dataset begins anew. "all": as few places as show each dataset whole. "never": no end.

    Attributes:
        length: The number of places; None: no end.
    """

    def __init__(
        self, shares: Shares, lengths: Sequence[int | None], stop: Literal["first", "all", "never"]
    ) -> None:  # fmt: skip
        self.shares = shares
        self._last: tuple[float, Counts | None] = math.inf, None
        self.length: int | None = None
        asked = np.flatnonzero(shares.before(1 << 40))  # a weight of 0 has none, and is waited for by nobody
        known = [number for number in asked.tolist() if lengths[number] is not None]
        if stop == "never" or not known or (stop == "all" and len(known) < len(asked)):
            return
        have = np.array([lengths[number] for number in known], np.int64)
        if stop == "first":
            block = self._find(lambda block: bool((shares.before(block)[known] <= have).all()))
            left = have - shares.before(block)[known]
        else:
            block = self._find(lambda block: bool((shares.before(block)[known] < have).any()))
            left = have - shares.before(block)[known]
        quotas = self._cut(shares.quotas(block), left, known, fills=stop == "all")
        self._last = block, quotas
        self.length = block * shares.size + int(quotas.sum())

    @staticmethod
    def _find(holds: Any) -> int:
        """Return the last block before which something still holds; it holds before block 0."""
        above = 1
        while holds(above):
            above *= 2
        low = above // 2
        while above - low > 1:
            middle = (low + above) // 2
            low, above = (middle, above) if holds(middle) else (low, middle)
        return low

    def _cut(self, quotas: Counts, left: Counts, known: list[int], *, fills: bool) -> Counts:
        """Return the quotas of the last block: as many places as are left, or as few as give all that is left."""
        size, mine = self.shares.size, quotas[known]
        # Largest remainders are off by less than one from the exact share, which bounds the number of places.
        left = np.minimum(left, size)
        bounds = (left - 1 if fills else left + 1) * size // np.maximum(mine, 1)
        if fills:
            places = max(1, int(bounds[mine > 0].max()))
            while (apportioned(quotas, places)[known] < left).any():
                places += 1
        else:
            places = min(size, int(bounds[mine > 0].min()))
            while (apportioned(quotas, places)[known] > left).any():
                places -= 1
        return apportioned(quotas, places)

    def quotas(self, block: int) -> Counts:
        """Return the number of elements of each dataset in a block."""
        last, quotas = self._last
        return quotas if block == last and quotas is not None else self.shares.quotas(block)

    def order(self, block: int, *words: int) -> Counts:
        """Return the dataset of each place of a block.

        Args:
            block: The number of the block.
            *words: Of the stream of blocks; the order follows from them.
        """
        last, quotas = self._last
        if block == last and quotas is not None:
            datasets: Counts = np.arange(len(quotas)).repeat(quotas)
        else:
            datasets = self.shares.datasets(block)
        return shuffled(datasets, *words, block)


def ranks_of(order: Counts) -> Counts:
    """Return for each place of a block how many places before it in the block have the same dataset."""
    places = np.argsort(order, kind="stable")
    starts = np.flatnonzero(np.diff(order[places], prepend=-1))
    ranks = np.empty_like(order)
    ranks[places] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return ranks


@functools.lru_cache(maxsize=64)
def shares_of(weights: tuple[float, ...]) -> Shares:
    """Return the quotas of blocks; the same object for each call with these weights."""
    return Shares(weights)


@functools.lru_cache(maxsize=64)
def extent_of(
    weights: tuple[float, ...], lengths: tuple[int | None, ...], stop: Literal["first", "all", "never"]
) -> Extent:
    """Return the blocks of a mix; the same for whoever asks again, because it takes a millisecond to find them."""
    return Extent(shares_of(weights), lengths, stop)
