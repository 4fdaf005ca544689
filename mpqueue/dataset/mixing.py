"""The arithmetic of a mix: which dataset each place takes its element from, and how many it took before. Pure.

Places lie in blocks of some hundred. Each block has a *quota* of each dataset, and an order of its own, which follows
from the seed. Quotas follow from the weights alone. So how many elements of a dataset lie before a place is a product,
for the blocks before, and a count within one block: at any place, without memory.

Weights that are simple ratios (0.7 and 0.3; ten equal ones) divide a block exactly. Others leave some places of each
block over. To whom these go is a mix of its own, of the fractions that were cut off: its places are all left-over
places, block after block. After three levels what is still left over is a billionth of a place, and goes to the
largest remainders. So a weight of 0.0001 has one of 10,000 places, although a block has 512.

How long a mix is does not depend on the seed either: the last block is shorter, with quotas that fit into what the
datasets have left.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np

from mpqueue.engine.seeds import sequence_of_words

Counts: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_MOST_PLACES = 512
_LEVELS = 3
_PICKS = 0x7069636B73  # separates these numbers from all others of the seed
_MAX_BLOCKS = 8


class Shares:
    """The quotas of blocks.

    Args:
        weights: One for each dataset, of any sum above 0.
        level: How many mixes this one is the left-over of.

    Attributes:
        size: Places of a block.
    """

    def __init__(self, weights: Sequence[float | Fraction], level: int = 0) -> None:
        # By its decimals: 0.3 is three tenths then, and not the binary fraction next to it.
        exact = [Fraction(repr(w)) if isinstance(w, float) else Fraction(w) for w in weights]
        total = sum(exact)
        parts = [weight / total for weight in exact]
        common = math.lcm(*(part.denominator for part in parts))
        self.size = common * (_MOST_PLACES // common) if common <= _MOST_PLACES else _MOST_PLACES
        wanted = [part * self.size for part in parts]
        self._whole = np.array([int(places) for places in wanted], np.int64)
        left = [places - int(places) for places in wanted]
        self._num_left = self.size - int(self._whole.sum())
        self._rest: Shares | None = None
        self._level = level
        self._blocks: dict[int, Counts] = {}
        if not self._num_left:
            return
        if level + 1 < _LEVELS:
            self._rest = Shares(left, level + 1)
        else:
            largest = sorted(range(len(left)), key=left.__getitem__, reverse=True)
            self._whole[largest[: self._num_left]] += 1
            self._num_left = 0

    def before(self, block: int) -> Counts:
        """Return the number of elements of each dataset before a block."""
        counts = self._whole * block
        return counts if self._rest is None else counts + self._rest._before_place(block * self._num_left)

    def quotas(self, block: int) -> Counts:
        """Return the number of elements of each dataset in a block."""
        if self._rest is None:
            return self._whole
        first = block * self._num_left
        return self._whole + self._rest._before_place(first + self._num_left) - self._rest._before_place(first)

    def _before_place(self, place: int) -> Counts:
        block, inside = divmod(place, self.size)
        counts = self.before(block)
        return counts + np.bincount(self._order(block)[:inside], minlength=len(counts)) if inside else counts

    def _order(self, block: int) -> Counts:
        """The order of a block of left-over places: the same for every seed."""
        order = self._blocks.get(block)
        if order is None:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            order = self._blocks[block] = shuffled(self.quotas(block), 0, 0, self._level, block)
        return order


def shuffled(quotas: Counts, *words: int) -> Counts:
    """Return the numbers of the datasets, each as often as its quota says, in an order that follows from the words."""
    order = np.repeat(np.arange(len(quotas)), quotas)
    np.random.Generator(np.random.PCG64(sequence_of_words(*words, _PICKS))).shuffle(order)
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


@functools.lru_cache(maxsize=64)
def extent_of(
    weights: tuple[float, ...], lengths: tuple[int | None, ...], stop: Literal["first", "all", "never"]
) -> Extent:
    """Return the blocks of a mix; the same for whoever asks again, because it takes a millisecond to find them."""
    return Extent(Shares(weights), lengths, stop)
