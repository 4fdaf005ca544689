"""Facts about batches of samples that workers get once, with the source."""

from collections.abc import Callable
from typing import Any, NamedTuple

FIND_THREADS = 0


class SamplePlan(NamedTuple):
    """The way from samples to batches.

    Attributes:
        batch_size: Samples of a batch; None where a sampler of batches says it for each.
        shuffle: A new order for each epoch.
        collate: The user's function from a list of samples to a batch.
        drops: A last batch with fewer samples is dropped.
        fills: The last batches are filled up from the beginning of the order, so that all ranks have equally many.
        skips: Samples that raise are left out.
        threads: In so many threads a worker computes the samples of a batch; `FIND_THREADS`: the trainer says it.
    """

    batch_size: int | None
    shuffle: bool = False
    collate: Callable[[list[Any]], Any] | None = None
    drops: bool = False
    fills: bool = False
    skips: bool = False
    threads: int = 1

    def num_batches(self, num_samples: int) -> int:
        """The number of batches of so many samples, over all ranks and before the end is filled up."""
        assert self.batch_size is not None
        return num_samples // self.batch_size if self.drops else -(-num_samples // self.batch_size)
