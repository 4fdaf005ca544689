"""The picks of a mix: which input provides each element, in a lane and in a block of an index."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.dataset.mix.arithmetic import Counts, ranks_of, shares_of, shuffled
from mpqueue.dataset.mix.schedule import WeightSpan, key_of
from mpqueue.dataset.mix.weights import Weights
from mpqueue.worker.runners.lanes import LaneRun, share_of

FEW_POSITIONS = 8  # counting for each of these costs less than ranking a whole block


class PhasePicks:
    """The inputs that provide the elements of a mix in a lane in one phase.

    Each block of picks has the quotas of the weights.

    Args:
        weights: The weights of the inputs.
        words: The key of the picks, which determines their order.

    Attributes:
        parts: The share of each input.
    """

    def __init__(self, weights: Weights, *words: int) -> None:
        self._shares, self._words = shares_of(weights), words
        self.parts = [weight / sum(weights) for weight in weights]
        self._of, self._picks = -1, [0]

    def take(self, first: int, count: int) -> list[int]:
        """Return the picks from index ``first`` on: at least 1, at most ``count``."""
        block, start = divmod(first, self._shares.size)
        if block != self._of:
            self._picks, self._of = self._order(block).tolist(), block
        return self._picks[start : start + count]

    def _order(self, block: int) -> Counts:
        return shuffled(self._shares.datasets(block), *self._words, block)


class MixPicks:
    """The inputs that provide the elements of a mix in a lane.

    Args:
        spans: The weights of the positions of the mix.
        words: See `PhasePicks`.
        run: The run that the lane was opened with.

    Attributes:
        phase: The index of the phase of the latest result of `take`; -1 before that.
    """

    def __init__(self, spans: Sequence[WeightSpan], words: tuple[int, ...], run: LaneRun) -> None:
        # Pick n of lane l is position n * lanes + l of the mix.
        self._starts = [share_of(span.start, run) for span in spans]
        self._phases = [PhasePicks(span.weights, *words, *key_of(span.start)) for span in spans]
        self._start, self._end, self.phase = 0, 0, -1

    def take(self, first: int, count: int) -> list[int]:
        """Return the picks from index ``first`` on, all of one phase: at least 1, at most ``count``."""
        if not self._start <= first < self._end:
            self.phase = phase_index = bisect_right(self._starts, first) - 1
            self._start, self._end = self._starts[phase_index], [*self._starts[1:], 1 << 63][phase_index]
        return self._phases[self.phase].take(first - self._start, min(count, self._end - first))


class MixBlock:
    """A block of a mix.

    Args:
        order: The input that provides the element at each index of the block.
    """

    __slots__ = ("_ranks", "order")

    def __init__(self, order: Counts) -> None:
        self.order = order
        self._ranks: Counts | None = None

    def ranks(self, positions: Counts) -> Any:
        """Return, for each index, the number of earlier indices in the block with the same input."""
        if self._ranks is None:
            if len(positions) <= FEW_POSITIONS:
                order = self.order
                return [int(np.count_nonzero(order[:position] == order[position])) for position in positions.tolist()]
            self._ranks = ranks_of(self.order)
        return self._ranks[positions]
