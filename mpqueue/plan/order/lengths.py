"""The lengths of the epochs of a source with an index: numbers of its items, and of batches over all ranks."""

from mpqueue.plan.options.batching import Batching
from mpqueue.plan.position.ranks import Ranks
from mpqueue.plan.sources.sources import Source


class EpochLengths:
    """The lengths of epochs. Those that have begun keep theirs, because the source may change in their middle.

    Args:
        source: The source.
        batching: How samples become batches; None: items are batches.
        seed: The seed of the run, which may determine the length of an epoch of a mixture.
    """

    def __init__(self, source: Source, batching: Batching | None, seed: int) -> None:
        self._source, self._batching, self._seed = source, batching, seed
        self._noted: dict[int, int | None] = {}  # by epoch: the number of items when it began

    def renewed(self, seed: int | None = None) -> "EpochLengths":
        """Return the lengths of a run with a seed, or of a loop that begins, without those of earlier epochs."""
        return type(self)(self._source, self._batching, self._seed if seed is None else seed)

    def note(self, epoch: int) -> None:
        """Keep the length of an epoch that begins."""
        self._noted[epoch] = self._source.length_in(epoch, self._seed)

    def items(self, epoch: int) -> int | None:
        """Return the number of items of an epoch, when it began or now; None: endless."""
        return self._noted[epoch] if epoch in self._noted else self._source.length_in(epoch, self._seed)

    def batches(self, epoch: int) -> int | None:
        """Return the number of batches of an epoch over all ranks, when it began or now; None: endless."""
        return self._batches_of(self.items(epoch))

    def total(self, epoch: int | None = None) -> int | None:
        """Return the present number of batches of an epoch over all ranks; None: endless.

        Args:
            epoch: An epoch, which weights of a mixture may have made longer or shorter; None: one without changes.

        Raises:
            TypeError: The source or its sampler has no length.
        """
        source = self._source
        return self._batches_of(source.length() if epoch is None else source.length_in(epoch, self._seed))

    def _batches_of(self, num_items: int | None) -> int | None:
        return num_items if num_items is None or self._batching is None else self._batching.num_batches(num_items)

    def items_in(self, batches: int) -> int:
        """Return the number of items in this many full batches."""
        return batches * (1 if self._batching is None else self._batching.batch_size or 1)

    def check_drop(self, ranks: Ranks, length: str = "") -> None:
        """Raise a `ValueError` if ``drop_last`` drops all batches.

        Args:
            ranks: The batches of each rank.
            length: A description of the length, for the message.
        """
        if len(ranks.numbers(self.total())):
            return
        world, is_item = ranks.shard.world, self._batching is None
        length = length or f"there are {self._source.length()} {'batches' if is_item else 'samples'}"
        raise ValueError(
            f"drop_last leaves no batch: {length}, and "
            f"{'a batch needs' if world == 1 else 'one batch for each rank needs'} {world * self.items_in(1)}"
        )
