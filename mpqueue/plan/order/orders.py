"""Orders: which samples each batch of each rank has.

::

    BatchesOrder   items of the source are batches; their indices follow from (seed, epoch, position)
    SamplesOrder   a work item is the position of a batch; the workers know which samples that means
    DrawnOrder     the trainer draws the indices of a batch from a sampler, and the work item carries them
    StreamOrder    elements of lanes, each with its own order

An order does not depend on where a run is, nor on its history: these are arguments. Positions of a point count this
rank's batches; a saved state counts the batches of all ranks, see `mpqueue.plan.position.ranks`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.ids.history import History
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.options.batching import Batching
from mpqueue.plan.options.options import Options
from mpqueue.plan.position.cursors import (
    FROM_BEGINNING,
    Cursor,
    Edit,
    EpochCursor,
    Others,
    RankStart,
    ResumePoint,
    WorkItem,
)
from mpqueue.plan.position.ranks import Ranks, Wrapped
from mpqueue.plan.sources.sources import Items, Source

if TYPE_CHECKING:
    from mpqueue.plan.order.epoch_samples import EpochSamples
    from mpqueue.plan.position.draws import Draws
    from mpqueue.plan.position.exclusions import Round


@dataclass(frozen=True, kw_only=True, eq=False)
class Order(ABC):
    """The batches of a source, in their order.

    Attributes:
        source: The source.
        options: The options about samples and ranks; options that became stages of a dataset have their defaults.
        ranks: The batches that are dealt here, out of all ranks' batches.
        seed: The seed of shuffled orders and random numbers.
        batching: How samples become batches; None: items are batches.
        lanes: Number of lanes of a stream over all ranks; None: one for each worker, or the source has an index.
        epoch_batches: Number of batches of an endless stream that are dealt here per epoch; None: an epoch ends with
            the source.
        has_index: Each batch has an index and can be computed independently of the others.
        is_drawn: A sampler determines the order.
    """

    source: Source
    options: Options
    ranks: Ranks
    seed: int = 0
    batching: Batching | None = None
    lanes: int | None = None
    epoch_batches: int | None = None

    has_index: ClassVar[bool] = True
    is_drawn: ClassVar[bool] = False

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return an order with these fields.

        Raises:
            ValueError: The epoch is empty, or the ranks cannot have equal parts.
        """
        return cls(**fields)

    @property
    def kind(self) -> str:
        """The kind of the order, for saved states."""
        return "shuffled" if self.options.shuffle else self.source.order

    def renewed(self, seed: int | None = None) -> Self:
        """Return the order with another seed, or for a loop that begins: the source may have grown."""
        return replace(self, seed=self.seed if seed is None else seed)

    def note_length(self, epoch: int) -> None:
        """Keep the number of samples of an epoch that begins, because the source may change in its middle."""

    @abstractmethod
    def length(self, epoch: int | None = None) -> int | None:
        """Return the number of batches per epoch that are dealt here; None: endless or unknown.

        Args:
            epoch: An epoch, which weights of a mixture may have made longer or shorter; None: one without changes.

        Raises:
            TypeError: The source or its sampler has no length.
        """

    def draws(self) -> "Draws | None":
        """Return a run's draws from the sampler; None: no sampler."""
        return None

    @abstractmethod
    def cursor(
        self, workers: int, backend: BackendName, draws: Any = None, *, barrier: bool = False, edit: Edit | None = None
    ) -> Cursor:
        """Return a cursor at the beginning of the order.

        Args:
            workers: Number of workers. Streams without ``lanes`` have one lane for each worker.
            backend: The backend of the workers.
            draws: The run's draws from a sampler.
            barrier: No work item of the next epoch is dealt before it is opened.
            edit: The result of `edit`.
        """

    def edit(self, history: History) -> Edit | None:
        """Return the function that completes each work item that is dealt; None: none need that.

        It adds samples that do not follow from the position of a batch, and removes the excluded samples.
        """
        return None

    @abstractmethod
    def first_sample(self, point: ResumePoint, at: int | None) -> int | None:
        """Return the index of the first sample of a mixture with new weights; None: of a stream.

        Args:
            point: This rank's point.
            at: See `mpqueue.Loader.set_weights`.

        Raises:
            ValueError: Sample ``at`` was returned before the point, or the source is a stream.
        """

    def check_ids(self, samples: SampleSet) -> None:
        """Raise a `ValueError` for a sample that the source does not have."""
        self.source.check_ids(samples)

    def samples_of(self, work_item: WorkItem) -> SampleIds:
        """Return the ids of the samples of a batch for a message; empty if they are its index, or unknown."""
        return ()

    def inequality(self) -> tuple[float, float] | None:
        """Return how unequal the work of the ranks is, as in `Statistics.balance`; None without a balance."""
        return None

    def identity(self) -> list[Any]:
        """Return the values that identify a run, as plain data: seed, length, batches, and lanes."""
        try:
            length = self.length()
        except TypeError:
            length = None
        return [self.seed, length, "None" if self.batching is None else self.batching.described()]


class EpochLengths:
    """The lengths of epochs. A running epoch keeps its length, because the source may change in the middle.

    Args:
        source: The source.
        batching: How samples become batches; None: items are batches.
        seed: The seed of the run, which may determine the length of an epoch of a mixture.
    """

    def __init__(self, source: Items, batching: Batching | None, seed: int) -> None:
        self._source, self._batching, self._seed = source, batching, seed
        self._noted: dict[int, int | None] = {}  # by epoch: the number of items when it began

    def renewed(self, seed: int | None = None) -> "EpochLengths":
        """Return the lengths of a run with a seed, or of a loop that begins, without the lengths of earlier epochs."""
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
        if len(ranks.global_positions(self.total())):
            return
        world, is_item = ranks.shard.world, self._batching is None
        length = length or f"there are {self._source.length()} {'batches' if is_item else 'samples'}"
        raise ValueError(
            f"drop_last leaves no batch: {length}, and "
            f"{'a batch needs' if world == 1 else 'one batch for each rank needs'} {world * self.items_in(1)}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexOrder(Order):
    """The order of a source with an index. Its length determines the number of batches.

    Attributes:
        lengths: The lengths of the epochs.
    """

    source: Items
    lengths: EpochLengths

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return an order with these fields.

        Raises:
            ValueError: ``drop_last`` drops all batches.
        """
        lengths = EpochLengths(fields["source"], fields.get("batching"), fields.get("seed", 0))
        order = super().of(**{"lengths": lengths} | fields)
        if order.options.drop_last:
            order.lengths.check_drop(order.ranks)
        return order

    def renewed(self, seed: int | None = None) -> Self:
        """Return the order with another seed, or without lengths that it keeps."""
        return replace(self, seed=self.seed if seed is None else seed, lengths=self.lengths.renewed(seed))

    def note_length(self, epoch: int) -> None:
        """Keep the length of the source in an epoch that begins."""
        self.lengths.note(epoch)

    def length(self, epoch: int | None = None) -> int | None:
        """Return the number of batches per epoch that are dealt here; None: endless."""
        total = self.lengths.total(epoch)
        return None if total is None else len(self.ranks.global_positions(total))

    def cursor(
        self, workers: int, backend: BackendName, draws: Any = None, *, barrier: bool = False, edit: Edit | None = None
    ) -> Cursor:
        """Return a cursor at the beginning of the order."""
        total, empty = self.lengths.total, self.source.most_empty
        return EpochCursor(
            total, self.seed, barrier=barrier, order_of=self.indices, edit=edit, length_in=total, most_empty=empty
        )

    # -- Numbers to samples

    def indices(self, epoch: int, length: int | None, base: RankStart) -> Any:
        """Return the indices of this rank's batches in an epoch; None: ascending indices from 0 to its length.

        Args:
            epoch: The epoch.
            length: Number of batches of the epoch over all ranks; None: endless.
            base: Where these ranks began the epoch.
        """
        return None if self.ranks.shard.world == 1 else self.ranks.global_positions(length, base)

    def source_index(self, epoch: int, global_position: int, total: int | None) -> int:
        """Return the index of a batch for the source, by its position in an epoch of this many batches."""
        return global_position

    def listed(self, work_item: WorkItem) -> BatchSamples:
        """Return the samples of a work item; an item of the source that is a batch counts as one sample."""
        return work_item.listed or BatchSamples(work_item.position, [work_item.source_index])

    def ids_of(self, listed: BatchSamples, epoch: int) -> SampleIds:
        """Return the ids of the samples of a batch, in the order of its rows."""
        of_each = self.source.ids.of(listed.indices, self.seed, epoch, listed.without)
        return tuple(sample for ids in of_each for sample in ids)

    def samples_of(self, work_item: WorkItem) -> SampleIds:
        """Return the ids of the samples of a batch for a message; empty if they are its index."""
        samples = self.ids_of(self.listed(work_item), work_item.epoch)
        return () if samples == (work_item.source_index,) else samples

    # -- Batches by their point

    def work_at(
        self, epoch: int, batch: int, history: History, base: RankStart = FROM_BEGINNING, draws: "Draws | None" = None
    ) -> WorkItem:
        """Return the work of any batch of this rank, without the samples that are excluded there.

        Args:
            epoch: The epoch.
            batch: The position of the batch in the epoch of its rank.
            history: The history of the run.
            base: Where these ranks began the epoch.
            draws: The run's draws from a sampler.

        Raises:
            LookupError: The epoch has no such batch, or the sampler cannot be iterated again.
        """
        work_item, others = self.work(epoch, batch, base, draws)
        return self.completed(work_item, others, self._excluding(history))

    def point_at(
        self, epoch: int, batch: int, base: RankStart = FROM_BEGINNING, draws: "Draws | None" = None
    ) -> ResumePoint:
        """Return the point before a batch of this rank; the arguments and errors are as in `work_at`."""
        # The epoch begins again there, with the length that the source has then.
        self.renewed().work(epoch, batch, base, draws)
        return ResumePoint(epoch, batch)

    def work(self, epoch: int, position: int, base: RankStart, draws: "Draws | None") -> tuple[WorkItem, Others]:
        """Return a work item as a cursor deals it, before it is completed, and the other ranks' batches."""
        total = self.lengths.batches(epoch)
        positions = self.ranks.global_positions(total, base)
        if position >= len(positions):
            raise LookupError(f"epoch {epoch} has no batch {position}: its number of batches is {len(positions)}")
        return WorkItem(0, epoch, position, self.source_index(epoch, positions[position], total)), base

    def completed(self, work_item: WorkItem, others: Others, edit: Edit | None, *, is_dealt: bool = False) -> WorkItem:
        """Return a work item with its samples, if they do not follow from its index.

        Args:
            work_item: The work item.
            others: The other ranks' batches there.
            edit: Removes the excluded samples; None: no sample is excluded.
            is_dealt: The loops return the batch, so it counts for `inequality`.
        """
        return work_item if edit is None else edit(work_item, others)

    def costs_of(self, work_item: WorkItem, base: RankStart, history: History) -> dict[str, Any]:
        """Return the part of a `BatchInfo` that needs a balance; ``base`` is where these ranks began its epoch."""
        return {}

    def first_sample(self, point: ResumePoint, at: int | None) -> int:
        """Return ``at``, or the index of the first sample of the mixture that no rank has got in a batch."""
        # A batch ahead was returned, too. Samples before it that are in no batch yet keep their weights.
        position = max((point.position, *(ahead + 1 for ahead in point.ahead)))
        unread = self.first_unread(point._replace(position=position))
        first = self.source.samples_before(self.lengths.items_in(unread))
        if at is not None and at < first:
            raise ValueError(f"at must be at least {first}, because earlier samples were returned, got {at}")
        return first if at is None else at

    def first_unread(self, point: ResumePoint) -> int:
        """Return the position of the first batch of all ranks that no rank has got."""
        return self.ranks.to_global(point._replace(ahead=())).position

    # -- Exclusions

    def edit(self, history: History) -> Edit | None:
        """Return the function that removes the samples from a work item that are excluded there; None: none are."""
        return self._excluding(history)

    def _excluding(self, history: History) -> Edit | None:
        if history.excluded is None:
            return None
        from mpqueue.plan.position.exclusions import Exclusions  # most runs exclude no samples

        return Exclusions(self, partial(self.source.ids.of, seed=self.seed), history).edit

    def round(self, work_item: WorkItem, others: Others) -> "Round":
        """Return the round of a work item; ``others`` describes the other ranks' batches."""
        from mpqueue.plan.position.exclusions import Round

        assert isinstance(others, RankStart)
        round_index, at = self.ranks.in_round(work_item.position)
        epoch, world = work_item.epoch, self.ranks.shard.world
        total = self.lengths.batches(epoch)

        def batches(positions: Sequence[int]) -> list[WorkItem]:
            return [WorkItem(0, epoch, 0, self.source_index(epoch, position, total)) for position in positions]

        of_ranks = batches(others.global_positions(range(round_index * world, (round_index + 1) * world)))
        return Round(of_ranks, at, lambda: batches(range(world)))

    def filled(self, work_item: WorkItem, other: WorkItem) -> WorkItem:
        """Return a work item with the samples of ``other``, which draw the random numbers of their new points."""
        if self.batching is None:  # an item's random numbers depend on its index
            return work_item._replace(source_index=other.source_index, listed=other.listed)
        return work_item._replace(listed=self.listed(other)._replace(first=self.listed(work_item).first, kept=None))


class BatchesOrder(IndexOrder):
    """Each item of the source is a batch."""

    def indices(self, epoch: int, length: int | None, base: RankStart) -> Any:
        """Return the indices of this rank's batches; the end is filled up from the beginning of the order."""
        world, is_shuffled = self.ranks.shard.world, self.options.shuffle
        if length is None or (world == 1 and not is_shuffled):
            return super().indices(epoch, length, base)
        import numpy as np

        from mpqueue.seeding.seeds import permutation  # with NumPy, for which no start waits

        if world == 1:
            return permutation(self.seed, epoch, length)
        positions = self.ranks.global_positions(length, base)
        if is_shuffled:
            return permutation(self.seed, epoch, length)[np.array(positions, np.int64) % length]
        return Wrapped(positions, length) if positions and positions[-1] >= length else positions

    def source_index(self, epoch: int, global_position: int, total: int | None) -> int:
        """Return the index of a batch."""
        if total is None:
            return global_position
        position = global_position % total
        return int(self._permuted(epoch, total)[position]) if self.options.shuffle else position

    def _permuted(self, epoch: int, length: int) -> Any:
        # Kept, because with exclusions each batch of a rank needs the batches of the other ranks.
        known = self._permutations
        if (epoch, length) not in known:
            known.clear()
            from mpqueue.seeding.seeds import permutation

            known[epoch, length] = permutation(self.seed, epoch, length)
        return known[epoch, length]

    @cached_property
    def _permutations(self) -> dict[tuple[int, int], Any]:
        return {}


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplesOrder(IndexOrder):
    """Workers compute batches of samples from the position of the batch."""

    batching: Batching

    @cached_property
    def samples(self) -> "EpochSamples":
        """The samples of each batch, by its position."""
        from mpqueue.plan.order.epoch_samples import EpochSamples  # imported here: mostly only workers need it

        return EpochSamples(self.seed, self.batching, self.ranks.lane_shard.world, self.lengths.items)

    def listed(self, work_item: WorkItem) -> BatchSamples:
        """Return the samples of a work item."""
        return work_item.listed or self.samples.of(work_item.epoch, work_item.source_index)
