"""The arithmetic of a mix: which dataset provides the element at each index, and how many of its elements precede it.

All functions are pure. The positions of a mix are divided into blocks of a few hundred. Each block has a
*quota* of each dataset and a separate order, which depends on the seed. Quotas depend only on the weights. The number
of a dataset's elements before an index is therefore a product, for the blocks before, plus a count within one block. It
is computed for any index without keeping state.

Weights with simple ratios (0.7 and 0.3; ten equal ones) divide a block exactly. Other weights leave some positions of
each block over. The left-over positions of all blocks form a second mix. Its weights are the truncated fractions. It
has a single repeated block of 65,536 positions. There, the positions of each dataset are evenly spaced, and rounding
goes to the largest remainders. A weight of 0.0001 therefore receives one of 10,000 positions, although a block has only
512.

The length of a mix does not depend on the seed, either: the last block is shorter, with quotas limited to the elements
that the datasets have left.

The random words of a block's order are a hash of the seed and the index of the block. Creating a random generator
would take longer than everything else: 14 us.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np

from mpqueue.seeding.seeds import WORD, sequence_of
from mpqueue.seeding.words import mixed
from mpqueue.seeding.words import shuffled as in_order

Counts: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

MOST_POSITIONS = 512
_LEFT_POSITIONS = 1 << 16
_FEW_DATASETS = 64  # a binary search for each of these costs less than counting 65,536 positions
_PICKS = 0x7069636B73  # separates these random numbers from all others of the seed
_POSITIONS = np.arange(MOST_POSITIONS, dtype=np.uint64)


class LeftOver:
    """The datasets that receive the left-over positions of all blocks.

    Args:
        parts: The share of each dataset; the sum is 1.
    """

    def __init__(self, parts: Sequence[Fraction]) -> None:
        quotas = np.array([int(part * _LEFT_POSITIONS) for part in parts], np.int64)
        left = [part * _LEFT_POSITIONS - int(part * _LEFT_POSITIONS) for part in parts]
        largest = sorted(range(len(parts)), key=left.__getitem__, reverse=True)
        quotas[largest[: _LEFT_POSITIONS - int(quotas.sum())]] += 1
        self._whole = quotas
        datasets = np.arange(len(parts)).repeat(quotas)
        starts = np.cumsum(quotas) - quotas
        evenly = (np.arange(_LEFT_POSITIONS) - starts.repeat(quotas) + 0.5) / np.maximum(1, quotas).repeat(quotas)
        self._order = datasets[np.argsort(evenly, kind="stable")]
        # The positions of each dataset in a row, so that a binary search finds the number of those before a position.
        positions = np.argsort(self._order, kind="stable")
        self._starts, self._keys = starts, self._order[positions] * _LEFT_POSITIONS + positions

    def before(self, position: int) -> Counts:
        """Return, for each dataset, the number of its positions before a position."""
        if len(self._whole) <= _FEW_DATASETS:
            counts: Counts = self.before_each(position, np.arange(len(self._whole)))
            return counts
        block, inside = divmod(position, _LEFT_POSITIONS)
        return self._whole * block + np.bincount(self._order[:inside], minlength=len(self._whole))

    def before_each(self, positions: Any, datasets: Any) -> Any:
        """Return the number of a dataset's positions before a position, for each pair of position and dataset."""
        blocks, inside = np.divmod(positions, _LEFT_POSITIONS)
        counts = np.searchsorted(self._keys, datasets * _LEFT_POSITIONS + inside) - self._starts[datasets]
        return counts + self._whole[datasets] * blocks

    def of(self, position: int, count: int) -> Counts:
        """Return the datasets of ``count`` consecutive positions, in ascending order."""
        start = position % _LEFT_POSITIONS
        end = start + count
        if end <= _LEFT_POSITIONS:
            return np.sort(self._order[start:end])
        return np.sort(np.concatenate((self._order[start:], self._order[: end - _LEFT_POSITIONS])))


class Shares:
    """The quotas of blocks.

    Args:
        weights: A weight for each dataset; the sum must be above 0.

    Attributes:
        size: The number of positions in a block.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        exact = [
            Fraction(repr(weight)) for weight in weights
        ]  # 0.3 means three tenths, not the nearest binary fraction
        total = sum(exact)
        parts = [weight / total for weight in exact]
        common = math.lcm(*(part.denominator for part in parts))
        self.size = common * (MOST_POSITIONS // common) if common <= MOST_POSITIONS else MOST_POSITIONS
        exact_positions = [part * self.size for part in parts]
        self._whole = np.array([int(positions) for positions in exact_positions], np.int64)
        self._num_left = self.size - int(self._whole.sum())
        left = [(positions - int(positions)) / max(1, self._num_left) for positions in exact_positions]
        self._left = LeftOver(left) if self._num_left else None
        self._regular = np.arange(len(parts)).repeat(self._whole)

    @functools.cached_property
    def used(self) -> Counts:
        """The datasets that have a share, without datasets of weight 0."""
        return np.flatnonzero(self.before(1 << 40))

    def before(self, block: int) -> Counts:
        """Return the number of elements of each dataset before a block."""
        counts = self._whole * block
        return counts if self._left is None else counts + self._left.before(block * self._num_left)

    def before_each(self, blocks: Any, datasets: Any) -> Any:
        """Return the number of a dataset's elements before a block, for each pair of block and dataset.

        Args:
            blocks: An array of block indices, or one index.
            datasets: An array of the same length, or one index.
        """
        counts = self._whole[datasets] * blocks
        return counts if self._left is None else counts + self._left.before_each(blocks * self._num_left, datasets)

    def quotas(self, block: int) -> Counts:
        """Return the number of elements of each dataset in a block."""
        return self._whole if self._left is None else self.before(block + 1) - self.before(block)

    def datasets(self, block: int) -> Counts:
        """Return the datasets of the positions of a block, each repeated by its quota, in ascending order.

        The cost depends on the size of the block, not on the number of datasets.
        """
        if self._left is None:
            return self._regular
        left = self._left.of(block * self._num_left, self._num_left)
        return np.sort(np.concatenate((self._regular, left))) if len(self._regular) else left


@functools.lru_cache(maxsize=256)
def _key_of(*words: int) -> int:
    return int(sequence_of(*words, _PICKS).generate_state(1, np.uint64)[0])


def shuffled(datasets: Counts, *words: int) -> Counts:
    """Return the datasets of the positions of a block in an order that depends on the words.

    Args:
        datasets: The dataset of each position, in ascending order.
        *words: The key of the sequence of blocks, and the index of the block.
    """
    *stream, block = words
    if not len(datasets):
        return datasets
    first = np.array(_key_of(*stream) + block * MOST_POSITIONS & WORD, np.uint64)
    random = mixed(_POSITIONS[: len(datasets)] + first)
    return in_order(random, datasets.view(np.uint64), int(datasets[-1])).view(np.int64)


def apportioned(quotas: Counts, positions: int) -> Counts:
    """Return the quotas of a shorter block, by largest remainders; the first of equal ones is preferred."""
    size = int(quotas.sum())
    scaled = quotas * positions
    scaled_quotas: Counts = scaled // size
    left = positions - int(scaled_quotas.sum())
    scaled_quotas[np.argsort(-(scaled % size), kind="stable")[:left]] += 1
    return scaled_quotas


class Extent:
    """The extent of a mix, or of a phase of a mix with one weight per dataset: its length and its last block.

    Args:
        shares: The quotas.
        lengths: The lengths of the datasets; None for an endless one.
        stop: "first": no dataset starts again. "all": the smallest number of positions that includes each dataset
            completely.
            "never": endless.
        before: The number of elements of each dataset before the phase; None if it is the first phase.
        most: The maximum number of positions, because another phase follows; None if it is the last phase.
        needed: The datasets that "all" includes completely; None for all with a share.

    Attributes:
        length: The number of positions; None if endless.
        ends_mix: Whether the mix ends in this phase. Otherwise, the phase has ``most`` positions.
    """

    def __init__(
        self, shares: Shares, lengths: Sequence[int | None], stop: Literal["first", "all", "never"], *,
        before: Counts | None = None, most: int | None = None, needed: Counts | None = None,
    ) -> None:  # fmt: skip
        self.shares = shares
        self._last: tuple[float, Counts | None] = math.inf, None
        self.length: int | None = None
        self.ends_mix = True
        if stop == "first":
            self._end_at_first(lengths, before, most)
        elif stop == "all":
            self._end_after_all(lengths, before, most, shares.used if needed is None else needed)
        else:
            self._limit(most)

    def _end_at_first(self, lengths: Sequence[int | None], before: Counts | None, most: int | None) -> None:
        shares = self.shares
        known = [part for part in shares.used.tolist() if lengths[part] is not None]
        if not known:
            self._limit(most)
            return
        have = np.array([lengths[part] for part in known], np.int64)
        if before is not None:
            have -= before[known]
        block = self._find(lambda block: bool((shares.before(block)[known] <= have).all()))
        self._end_in(block, have - shares.before(block)[known], known, most, fills=False)

    def _end_after_all(
        self, lengths: Sequence[int | None], before: Counts | None, most: int | None, needed: Counts
    ) -> None:
        shares = self.shares
        known = needed.tolist()
        if any(lengths[part] is None for part in known):
            self._limit(most)
            return
        have = np.array([lengths[part] for part in known], np.int64)
        if before is not None:
            have -= before[known]
            if (have <= 0).all():  # the earlier phases include all of them
                self.length = 0
                return
        if needed is not shares.used:
            is_used = np.isin(needed, shares.used)
            if (have[~is_used] > 0).any():  # a later phase reads the rest of these
                self._limit(most)
                return
            known, have = needed[is_used].tolist(), have[is_used]
        block = self._find(lambda block: bool((shares.before(block)[known] < have).any()))
        self._end_in(block, have - shares.before(block)[known], known, most, fills=True)

    def _limit(self, most: int | None) -> None:
        """Make the mix continue after this phase."""
        self.length, self.ends_mix = most, False
        if most is not None:
            block, positions = divmod(most, self.shares.size)
            if positions:
                self._last = block, apportioned(self.shares.quotas(block), positions)

    def _end_in(self, block: int, left: Counts, known: list[int], most: int | None, *, fills: bool) -> None:
        """End the mix in a block, unless the next phase begins before that."""
        size = self.shares.size
        limit = size if most is None else min(size, most - block * size)
        if limit <= 0:
            self._limit(most)
            return
        quotas = self._cut(self.shares.quotas(block), left, known, limit, fills=fills)
        positions = int(quotas.sum())
        if limit < size and (positions > limit if fills else positions == limit):
            self._limit(most)
            return
        self._last = block, quotas
        self.length = block * size + positions

    @staticmethod
    def _find(holds: Any) -> int:
        """Return the last block before which the condition holds; it holds before block 0."""
        above = 1
        while holds(above):
            above *= 2
        low = above // 2
        while above - low > 1:
            middle = (low + above) // 2
            low, above = (middle, above) if holds(middle) else (low, middle)
        return low

    def _cut(self, quotas: Counts, left: Counts, known: list[int], limit: int, *, fills: bool) -> Counts:
        """Return the quotas of the last block: as many positions as remain, or the fewest that use up the datasets.

        At most ``limit`` positions remain. The fewest may be more.
        """
        size, mine = self.shares.size, quotas[known]
        # Largest remainders differ by less than one from the exact share, which bounds the number of positions.
        left = np.minimum(left, size)
        bounds = (left - 1 if fills else left + 1) * size // np.maximum(mine, 1)
        if fills:
            positions = max(1, int(bounds[mine > 0].max()))
            while (apportioned(quotas, positions)[known] < left).any():
                positions += 1
        else:
            positions = min(limit, int(bounds[mine > 0].min()))
            while (apportioned(quotas, positions)[known] > left).any():
                positions -= 1
        return apportioned(quotas, positions)

    def quotas(self, block: int) -> Counts:
        """Return the number of elements of each dataset in a block."""
        last, quotas = self._last
        return quotas if block == last and quotas is not None else self.shares.quotas(block)

    def order(self, block: int, *words: int) -> Counts:
        """Return the dataset of each position of a block.

        Args:
            block: The index of the block.
            *words: The key of the sequence of blocks, which determines the order.
        """
        last, quotas = self._last
        if block == last and quotas is not None:
            datasets: Counts = np.arange(len(quotas)).repeat(quotas)
        else:
            datasets = self.shares.datasets(block)
        return shuffled(datasets, *words, block)

    def counts(self, positions: int, *words: int) -> Counts:
        """Return the number of elements of each dataset in the first positions.

        Args:
            positions: The number of positions, at most `length`.
            *words: The key of the sequence of blocks.
        """
        block, inside = divmod(positions, self.shares.size)
        counts = self.shares.before(block)
        return counts + np.bincount(self.order(block, *words)[:inside], minlength=len(counts)) if inside else counts

    def counts_of_all(self) -> Counts:
        """Return the number of elements of each dataset in all positions of an extent with an end."""
        assert self.length is not None
        block, inside = divmod(self.length, self.shares.size)
        if not inside:
            return self.shares.before(block)
        return self.shares.before(block) + self.quotas(block)


def ranks_of(order: Counts) -> Counts:
    """Return, for each position of a block, the number of earlier positions in the block with the same dataset."""
    positions = np.argsort(order, kind="stable")
    starts = np.flatnonzero(np.diff(order[positions], prepend=-1))
    ranks = np.empty_like(order)
    ranks[positions] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return ranks


@functools.lru_cache(maxsize=64)
def shares_of(weights: tuple[float, ...]) -> Shares:
    """Return the quotas of blocks, cached by weights."""
    return Shares(weights)
