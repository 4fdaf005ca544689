"""The samples of a batch, from the position of the batch: computed in workers, and where a batch is explained."""

from collections.abc import Callable

from mpqueue.plan.ids.batch_samples import ENDLESS, BatchSamples
from mpqueue.plan.options.batching import Batching
from mpqueue.seeding.permutation import SampleOrder


class EpochSamples:
    """The samples of each batch of a source of samples.

    Args:
        seed: Seed of the shuffled order.
        batching: How samples become batches.
        world: Number of ranks that share the batches of an epoch.
        length_of: Returns the number of samples of an epoch; None: endless. It may change between epochs.
    """

    def __init__(self, seed: int, batching: Batching, world: int, length_of: Callable[[int], int | None]) -> None:
        self._batching, self._length_of = batching, length_of
        self.order = SampleOrder(seed, shuffle=batching.shuffle, world=world)
        self._of: tuple[int, int] = (-1, 0)  # an epoch, and its number of samples

    def forget_length(self) -> None:
        """Forget the number of samples, which may have changed."""
        self._of = (-1, 0)

    def of(self, epoch: int, index: int) -> BatchSamples:
        """Return the samples of a batch, by its position over all ranks."""
        if self._of[0] != epoch:
            length = self._length_of(epoch)
            self._of = epoch, ENDLESS if length is None else length
        size, length = self._batching.batch_size, self._of[1]
        assert size is not None
        first = index * size
        count = size if self._batching.fills else min(size, length - first)
        return BatchSamples(first, self.order.indices(epoch, length, first, count))
