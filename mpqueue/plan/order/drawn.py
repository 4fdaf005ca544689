"""The order of a sampler: the trainer draws the indices of each batch from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.options.batching import Batching
from mpqueue.plan.options.checks import known_length
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.orders import EpochLengths, IndexOrder
from mpqueue.plan.position.cursors import (
    FROM_BEGINNING,
    Cursor,
    DrawnRound,
    Edit,
    Others,
    RankStart,
    ResumePoint,
    WorkItem,
)
from mpqueue.plan.position.drawn_cursor import DrawnCursor, DrawsEpochs
from mpqueue.plan.position.ranks import Ranks
from mpqueue.plan.sources.sources import Items

if TYPE_CHECKING:
    from mpqueue.plan.position.draws import Draws
    from mpqueue.plan.position.exclusions import Round


class DrawnLengths(EpochLengths):
    """The lengths of the epochs of a sampler.

    Args:
        source, batching, seed: See `EpochLengths`.
        options: The options, with the sampler.
    """

    def __init__(self, source: Items, batching: Batching | None, seed: int, options: Options) -> None:
        super().__init__(source, batching, seed)
        self._options = options

    def renewed(self, seed: int | None = None) -> "DrawnLengths":
        """Return the same lengths."""
        return self

    def note(self, epoch: int) -> None:
        """Ignore the epoch: the sampler determines the length of an epoch."""

    def total(self, epoch: int | None = None) -> int | None:
        """Return the number of batches of an epoch over all ranks.

        Raises:
            TypeError: The sampler has no length.
        """
        options = self._options
        drawn: Any = options.sampler if options.batch_sampler is None else options.batch_sampler
        length = known_length(drawn)
        if length is None:
            raise TypeError(f"{type(drawn).__name__} has no len(): the number of batches is known after an epoch")
        return length if options.batch_sampler is not None else self._batches_of(length)

    def check_drop(self, ranks: Ranks, length: str = "") -> None:
        """Raise a `ValueError` if ``drop_last`` drops all batches of a sampler that has indices."""
        # A sampler that is empty now may return indices later. Its epochs check that.
        num_indices = known_length(self._options.sampler)
        if num_indices:
            super().check_drop(ranks, f"the sampler has {num_indices} indices")


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnOrder(IndexOrder):
    """The trainer draws the indices of each batch from a sampler."""

    is_drawn = True

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return an order with these fields.

        Raises:
            ValueError: ``drop_last`` drops all batches.
        """
        lengths = DrawnLengths(fields["source"], fields.get("batching"), 0, fields["options"])
        return super().of(lengths=lengths, **fields)

    @property
    def kind(self) -> str:
        """The kind of the sampler."""
        return "sampler" if self.options.batch_sampler is None else "batch_sampler"

    def check_ids(self, samples: SampleSet) -> None:
        """Accept all keys: a sampler may return any keys."""

    def draws(self) -> "Draws":
        """Return a run's draws from the sampler."""
        from mpqueue.plan.position.draws import Draws  # imported here: it imports all about random numbers in samplers

        options = self.options
        are_lists = options.batch_sampler is not None
        sampler = options.batch_sampler if are_lists else options.sampler
        assert sampler is not None
        return Draws(sampler, options.batch_size, self.ranks, self.source.runs, are_lists=are_lists)

    def cursor(
        self, workers: int, backend: BackendName, draws: DrawsEpochs | None = None, *, barrier: bool = False,
        edit: Edit | None = None,
    ) -> Cursor:  # fmt: skip
        """Return a cursor at the beginning of the order."""
        assert draws is not None
        return DrawnCursor(draws.draw, barrier=barrier, edit=edit)

    def point_at(
        self, epoch: int, batch: int, base: RankStart = FROM_BEGINNING, draws: "Draws | None" = None
    ) -> ResumePoint:
        """Return the point before a batch of this rank; the arguments and errors are as in `work_at`."""
        assert draws is not None
        if not batch and draws.is_new(epoch):
            return ResumePoint(epoch)  # its order is drawn when it begins
        return super().point_at(epoch, batch, base, draws)

    def work(self, epoch: int, position: int, base: RankStart, draws: "Draws | None") -> tuple[WorkItem, Others]:
        """Return a work item with the indices that the sampler returns for it, and the other ranks' batches."""
        assert draws is not None
        index, listed, _, others = draws.batch_at(epoch, base, position, self.ranks)
        return WorkItem(0, epoch, position, index, -1, listed), others

    def round(self, work_item: WorkItem, others: Others) -> "Round":
        """Return the round of a work item, from its drawn batches."""
        from mpqueue.plan.position.exclusions import Round

        assert isinstance(others, DrawnRound)

        def batches(drawn: Sequence[tuple[int, BatchSamples | None]]) -> list[WorkItem]:
            return [WorkItem(0, work_item.epoch, 0, index, -1, listed) for index, listed in drawn]

        return Round(batches(others.batches), self.ranks.in_round(work_item.position)[1], lambda: batches(others.first))
