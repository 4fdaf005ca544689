"""`BatchSamples`: the samples that a worker computes for one batch.

It has its own module, because a worker needs no other part of an order.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from mpqueue.plan.ids.batch_info import SampleId

# The number of batches of an endless source: no rank reaches it, and it fits into an index.
ENDLESS = 1 << 62


class BatchSamples(NamedTuple):
    """The samples of a batch.

    Attributes:
        first: Position of the first sample in the order of the epoch.
        indices: Keys that the source is called with.
        kept: Positions of these samples, if some samples of the batch are excluded; None: consecutive positions.
        without: Ids of samples that are excluded, if an index means an element that is made of several samples.
        cuts: The number of samples of each micro-batch, if the batch is a list of these.
    """

    first: int
    indices: Sequence[Any]
    kept: Sequence[int] | None = None
    without: frozenset[SampleId] = frozenset()
    cuts: Sequence[int] = ()

    def parts(self) -> "list[BatchSamples]":
        """Return the samples of each micro-batch, or of the batch if it has no micro-batches."""
        if not self.cuts:
            return [self]
        positions, ends = self.positions, list(itertools.accumulate(self.cuts))
        ranges = [slice(end - count, end) for end, count in zip(ends, self.cuts, strict=True)]
        return [BatchSamples(positions[at][0], self.indices[at], positions[at], self.without) for at in ranges]

    @property
    def positions(self) -> Sequence[int]:
        """Each sample's position in the order of the epoch; its random numbers depend on it."""
        return range(self.first, self.first + len(self.indices)) if self.kept is None else self.kept

    @property
    def is_empty(self) -> bool:
        """True if all samples of the batch are excluded."""
        return self.kept is not None and not self.kept
