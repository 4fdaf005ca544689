"""The four kinds of plan: the batches of each rank, their order, and how a place in that order is saved.

::

    BatchesPlan    items of the source are batches; their indices follow from (seed, epoch, position)
    SamplesPlan    a work item is the number of a batch; the workers know which samples that means
    DrawnPlan      the trainer draws the indices of a batch from a sampler, and the work item carries them
    StreamPlan     elements of lanes, each with its own order

A plan is immutable. `Plan.cursor` makes the mutable part of a run, which deals work items. The run's `Draws` keep the
indices that were drawn from a sampler. Positions of a place count this rank's batches; a saved state counts those of
all ranks, see `mpqueue.plan.position.ranks`.
"""

import itertools
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.ids.history import NO_HISTORY, History
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.batching import Batching, RunnerKind
from mpqueue.plan.options.checks import known_length
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.epoch_samples import EpochSamples
from mpqueue.plan.position.cursors import (
    FROM_BEGINNING,
    BatchSamples,
    Cursor,
    DrawnRound,
    Edit,
    EpochCursor,
    Others,
    Place,
    RankStart,
    WorkItem,
)
from mpqueue.plan.position.lanes import LaneShare
from mpqueue.plan.position.ranks import Ranks, Shard, Wrapped
from mpqueue.plan.sources.sources import IN_ORDER, Source, warn_of_idle, warn_of_unequal_ranks
from mpqueue.seeding.seeds import permutation
from mpqueue.system.units import count_text

if TYPE_CHECKING:
    from mpqueue.plan.position.drawn_cursor import DrawsEpochs
    from mpqueue.plan.position.draws import Draws
    from mpqueue.plan.position.exclusions import Round, Without


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan(ABC):
    """A source and its options, resolved.

    Attributes:
        source: The source.
        options: The options about samples and ranks; options that became stages of a dataset have their defaults.
        ranks: The batches that are dealt here, out of those of all ranks.
        seed: The seed of shuffled orders and random numbers.
        seed_given: The user passed the seed; then batches computed by the caller use it, too.
        batching: How samples become batches; None: items are batches.
        calls_hooks: The run calls the source's ``on_epoch_end``; False: a fit loop calls it.
        history: The seeks, exclusions and changes of weights of the run.
        has_index: Each batch has a number and can be computed independently of the others.
    """

    source: Source
    options: Options
    ranks: Ranks
    seed: int = 0
    seed_given: bool = False
    batching: Batching | None = None
    calls_hooks: bool = True
    history: History = NO_HISTORY

    has_index: ClassVar[bool] = True
    lanes: ClassVar[int | None] = None  # lanes over all ranks; None: none, or one per worker
    epoch_batches: ClassVar[int | None] = None  # batches dealt here per epoch of an endless stream
    is_drawn: ClassVar[bool] = False  # a sampler determines the order

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return a plan with these fields.

        Raises:
            ValueError: The epoch is empty, or the ranks cannot have equal parts.
        """
        return cls(**fields)

    # -- What workers run

    @property
    def form(self) -> RunnerKind:
        """Form in which workers run the source."""
        return self.source.form(self.batching)

    @property
    def shard(self) -> Shard:
        """This rank, and the number of ranks."""
        return self.ranks.shard

    @property
    def own_rank(self) -> Shard:
        """The rank, and the number of ranks, that `BatchInfo` has."""
        return self.shard

    @property
    def worker_shard(self) -> Shard:
        """The rank that workers see: a server's workers compute the batches of all ranks."""
        return self.ranks.lane_shard

    @property
    def epoch_end(self) -> Callable[[], Any] | None:
        """The source's own ``on_epoch_end``: no work item of the next epoch is dealt before it was called."""
        return self.source.epoch_end() if self.calls_hooks else None

    @property
    def skips(self) -> bool:
        """True if samples (or batches) that raise are left out."""
        return bool(self.options.on_error == "skip")

    @property
    def ends_by_count(self) -> bool:
        """True if an epoch of a stream ends after a number of batches, and the next one continues there."""
        return self.epoch_batches is not None

    def with_seed(self, seed: int, *, given: bool = True) -> Self:
        """Return the same plan with another seed."""
        return replace(self, seed=seed, seed_given=given)

    def renewed(self) -> Self:
        """Return the same plan without lengths that it keeps, for a loop that begins: the source may have grown."""
        return replace(self)

    def note_length(self, epoch: int) -> None:
        """Keep the number of samples of an epoch that begins, because the source may change in its middle."""

    def with_history(self, history: History) -> Self:
        """Return the same plan with another history."""
        return replace(self, history=history)

    def check_ids(self, samples: SampleSet) -> None:
        """Raise a `ValueError` for a sample that the source does not have."""
        self.source.check_ids(samples)

    def inequality(self) -> tuple[float, float] | None:
        """Return how unequal the work of the ranks is, as `Statistics.balance` has it; None without a balance."""
        return None

    def prepare(self) -> None:
        """Make the source follow the history of the plan, before it is run."""
        self.source.follow(self.history)

    def first_sample(self, place: Place, at: int | None) -> int | None:
        """Return the number of the first sample of a mixture with new weights; None: of a stream.

        Args:
            place: The place of this rank.
            at: See `mpqueue.Loader.set_weights`.

        Raises:
            ValueError: Sample ``at`` was returned before the place, or the source is a stream.
        """
        raise NotImplementedError

    def samples_of(self, work_item: WorkItem) -> SampleIds:
        """Return the ids of the samples of a batch for a message; empty if they are its index, or unknown."""
        return ()

    def of_rank(self, rank: int) -> Self:
        """Return the plan of another rank."""
        return replace(self, ranks=self.ranks.of_rank(rank))

    def identity(self) -> list[Any]:
        """Return the values that identify a run, as plain data: seed, length, batches, and lanes."""
        try:
            length = self.length()
        except TypeError:
            length = None
        return [self.seed, length, "None" if self.batching is None else self.batching.described()]

    def check_workers(self, workers: int, backend: BackendName, start_method: str) -> None:
        """Check that these workers can run the source.

        Raises:
            ValueError: Each worker would run the same elements.
            TypeError: A part of the source cannot be sent to worker processes.
        """
        self.source.check_workers(workers, copies_source=kind_of(backend).copies_source)
        self.source.check_portable(workers, backend, start_method)

    def check_auto(self) -> None:
        """Raise a `ValueError` if the order depends on the number of workers, which "auto" changes."""

    def warn_of_idle(self, workers: int, backend: BackendName) -> None:
        """Warn if some of these workers would always be idle."""

    # -- The order

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
    def cursor(self, workers: int, backend: BackendName, draws: "DrawsEpochs | None" = None) -> Cursor:
        """Return a cursor at the beginning of the order.

        Args:
            workers: Number of workers. Streams without ``lanes`` have one lane for each worker.
            backend: The backend of the workers.
            draws: The run's draws from a sampler.
        """

    # -- Batches by their place

    def editor(self) -> Edit | None:
        """Return the function that removes the samples from a work item that are excluded there; None: none are.

        A server that is restarted begins before the exclusions that it adds, so that all consumers have the same.
        """
        excluded, ranks = self.history.excluded, self.ranks
        if excluded is None:
            return None
        edit_all, latest = self._editor_of(excluded, excluded), self.history.latest_exclusion(self.shard.world)

        def edit(work_item: WorkItem, others: Others) -> WorkItem:
            epoch, position = work_item.epoch, work_item.position
            is_late = (epoch, ranks.start_of_turn(position)) >= latest
            found = edit_all if is_late else self._editor_at(epoch, position)
            return work_item if found is None else found(work_item, others)

        return edit

    def _editor_at(self, epoch: int, batch: int) -> Edit | None:
        """Return the function that removes the samples that are excluded at a place; None: none are."""
        world = self.shard.world
        excluded = self.history.excluded_at(epoch, batch, world)
        if excluded is None:
            return None
        return self._editor_of(excluded, self.history.excluded_at(epoch, self.ranks.start_of_turn(batch), world))

    def _editor_of(self, excluded: SampleSet, at_start: SampleSet | None) -> Edit:
        """Return the function that removes samples from a work item.

        Args:
            excluded: The samples.
            at_start: The samples that are excluded at the start of its round; None: none are.
        """
        raise NotImplementedError

    # -- Places in the order

    def state(
        self, place: Place, draws: "Draws | None" = None, cursor: Cursor | None = None, *, ordered: bool = True
    ) -> dict[str, Any]:
        """Return a place of this rank as plain data that can be loaded with another number of ranks.

        Snapshots of lanes remain pickled, see `mpqueue.plan.states.lane_states.plain`.

        Args:
            place: The place.
            draws: The run's draws from a sampler.
            cursor: The run's cursor; None: the run has not started.
            ordered: Batches are returned in order. If False, this rank does not know which batches other ranks took
                out of order, and the state belongs to this rank.
        """
        state = self._state_of(place)
        if self.batching is not None:
            state["batch_size"] = self.batching.batch_size
        base = place.base.of(place.epoch)
        may_be_apart = not ordered or (place.is_own and self.shard.world > 1)
        if not self.has_index or place.ahead or (may_be_apart and place.position > base.first):
            state["shard"] = list(self.shard)
        state["began"] = base.number
        return state | self._added(place, state["position"], draws, cursor)

    def _state_of(self, place: Place) -> dict[str, Any]:
        return self.ranks.to_global(place).as_dict()

    def _added(self, place: Place, position: int, draws: "Draws | None", cursor: Cursor | None) -> dict[str, Any]:
        """Return the additional keys of a state of this kind of plan."""
        return {}

    def saved_as(self) -> dict[str, Any]:
        """Return the keys of a state that describe the source and its order; empty for a stream, which has a shape."""
        return {"length": self.source.length_now(), "order": self._order()}

    def _order(self) -> str:
        return "shuffled" if self.options.shuffle else self.source.order

    def place(self, states: Sequence[dict[str, Any]], workers: int, backend: BackendName) -> Place:
        """Return the place in a state: this rank's place for a stream, otherwise the place of all ranks.

        `begun_at` converts a place of all ranks to one of this rank.

        Args:
            states: One state, or those of all ranks at one moment.
            workers: Number of workers here.
            backend: The backend of the workers.

        Raises:
            TypeError: An object is not a state.
            ValueError: The states are for another batch size or another source, or a part is missing.
        """
        from mpqueue.plan.states.saved_states import place_of  # imported here: most loaders never load a state

        places = [place_of(state) for state in states]
        # Kinds first: for another kind of source, a difference in batch size or length would mislead.
        for state, place in zip(states, places, strict=True):
            self._check_kind(state, place)
        for state, place in zip(states, places, strict=True):
            self._check_same(state, place)
        return self._joined(states, places, workers, backend)

    @abstractmethod
    def begun_at(self, state: Mapping[str, Any], place: Place, draws: "Draws | None" = None) -> Place:
        """Return the place of this rank at which a run resumes from a state, or from those of all ranks.

        Args:
            state: The state; of several, the one with the earliest place.
            place: The result of `place` for the states.
            draws: The run's draws from a sampler; they are set to this place, too.
        """

    def _check_kind(self, state: Mapping[str, Any], place: Place) -> None:
        if "epoch_batches" in state:
            raise ValueError(
                "the state was saved for a stream, and the source of this loader has an index: load the state into a "
                "loader of the same source"
            )

    def _check_same(self, state: Mapping[str, Any], place: Place) -> None:
        """Raise a `ValueError` that shows both values if the source or the order of a state differs."""
        here: dict[str, Any] = {"batch_size": None if self.batching is None else self.batching.batch_size}
        saved: dict[str, Any] = {"batch_size": state.get("batch_size")}
        if self.has_index:
            here |= self.saved_as()
            saved |= {"length": state["length"], "order": state["order"]}
        if "balance" in here or state.get("balance") is not None:
            here, saved = {"balance": None} | here, saved | {"balance": state.get("balance")}
        if saved != here and not (
            saved | {"length": None} == here | {"length": None} and self._may_differ(state, here)
        ):
            raise ValueError(
                f"the state was saved with {_shown(saved)}, and this loader has {_shown(here)}. Load it into a loader "
                "of the same source, order and batch size"
            )

    def _may_differ(self, state: Mapping[str, Any], here: dict[str, Any]) -> bool:
        """Return whether the length may differ from the length in a state, because earlier batches are the same."""
        if "source" in state:
            return True  # the source has its own state, which may change its length
        is_prefix = self.is_drawn or here["order"].startswith(IN_ORDER)  # a sampler is checked by its fingerprint
        return is_prefix and (here["length"] is None or (state["length"] or math.inf) <= here["length"])

    def states_here(self, states: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return the states that this rank continues from, out of those that `place` has accepted."""
        return states

    @abstractmethod
    def _joined(
        self, states: Sequence[dict[str, Any]], places: list[Place], workers: int, backend: BackendName
    ) -> Place:
        """Return the place in one state, or in the states of all ranks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexPlan(Plan):
    """A plan for sources with an index: the length of the source determines the number of batches.

    Attributes:
        lengths: The length of the source in epochs that have begun, for questions about their batches.
    """

    lengths: dict[int, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return a plan with these fields.

        Raises:
            ValueError: ``drop_last`` drops all batches.
        """
        plan = super().of(**fields)
        if plan.options.drop_last:
            plan._check_drop()
        return plan

    def renewed(self) -> Self:
        """Return the same plan without lengths that it keeps."""
        return replace(self, lengths={})

    def note_length(self, epoch: int) -> None:
        """Keep the length of the source in an epoch that begins."""
        self.lengths[epoch] = self.source.length_in(epoch, self.seed)

    def _known_length(self, epoch: int) -> int | None:
        """Return the length of the source in an epoch: when it began, or now."""
        if epoch in self.lengths:
            return self.lengths[epoch]
        return self.source.length_in(epoch, self.seed)

    def total(self) -> int | None:
        """Return the number of batches of an epoch over all ranks; None: endless."""
        return self._num_batches(self.source.length())

    def total_in(self, epoch: int) -> int | None:
        """Return the number of batches of one epoch over all ranks; None: endless."""
        return self._num_batches(self.source.length_in(epoch, self.seed))

    def _num_batches(self, num_items: int | None) -> int | None:
        """Return the number of batches for this many items of the source, over all ranks; None: endless."""
        return num_items if num_items is None or self.batching is None else self.batching.num_batches(num_items)

    def length(self, epoch: int | None = None) -> int | None:
        """Return the number of batches per epoch that are dealt here; None: endless."""
        total = self.total() if epoch is None else self.total_in(epoch)
        return None if total is None else len(self.ranks.numbers(total))

    def _check_drop(self, length: str = "") -> None:
        """Raise a `ValueError` if ``drop_last`` drops all batches; ``length`` describes the length in the message."""
        if len(self.ranks.numbers(self.total())):
            return
        world, items = self.shard.world, "batches" if self.batching is None else "samples"
        raise ValueError(
            f"drop_last leaves no batch: {length or f'there are {self.source.length()} {items}'}, and "
            f"{'a batch needs' if world == 1 else 'one batch for each rank needs'} "
            f"{world * (self.options.batch_size or 1)}"
        )

    def _check_same(self, state: Mapping[str, Any], place: Place) -> None:
        super()._check_same(state, place)
        from mpqueue.plan.states.saved_states import history_in

        # The number of batches is unknown here if the state of a source, or weights that were changed, determine it.
        if self.is_drawn or "source" in state or history_in([dict(state)]).weights():
            return
        total = self.total()
        if total is not None and place.position > total:
            raise ValueError(
                f"the state was saved after batch {place.position} of an epoch, and the source of this loader has "
                f"{count_text(total, 'batch')}: load the state into a loader of the same source"
            )

    def _joined(
        self,
        states: Sequence[dict[str, Any]],
        places: list[Place],
        workers: int,
        backend: BackendName,
    ) -> Place:
        from mpqueue.plan.states.rank_states import place_in

        return place_in(self.states_here(states)[0])

    def states_here(self, states: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return the states that this rank continues from."""
        from mpqueue.plan.states.rank_states import of_rank

        return of_rank(states, self.shard)

    def begun_at(self, state: Mapping[str, Any], place: Place, draws: "Draws | None" = None) -> Place:
        """Return the place of this rank at which a run resumes from a state, or from those of all ranks."""
        from mpqueue.plan.states.rank_states import base_in
        from mpqueue.plan.states.saved_states import began_in

        saved = base_in(state)
        if draws is not None:
            draws.load(operator.index(state["epoch"]), saved.number, dict(state))
        begun = self.ranks.to_local(place, began_in(state, self.shard.world))
        # The batches that are left may be dropped, or the other ranks may have returned all of them.
        is_over = (self.shard.world > 1 or place.base != saved) and self._is_over(begun, place.base == saved, draws)
        return Place(place.epoch + 1) if is_over else begun

    def _is_over(self, place: Place, is_saved: bool, draws: "Draws | None") -> bool:
        """Return True if this rank has no batch of the epoch left; ``is_saved``: all ranks are at the saved place."""
        return place.position >= self.ranks.num_turns(self.total_in(place.epoch), place.base)

    def _elements(self, batches: int) -> int:
        """Return the number of elements of the source in this many batches."""
        return batches * (1 if self.batching is None else self.batching.batch_size or 1)

    def first_sample(self, place: Place, at: int | None) -> int:
        """Return ``at``, or the number of the first sample of the mixture that no rank has got in a batch."""
        # A batch ahead was returned, too. Samples before it that are in no batch yet keep their weights.
        position = max((place.position, *(ahead + 1 for ahead in place.ahead)))
        first = self.source.samples_before(self._elements(self._first_unread(place._replace(position=position))))
        if at is not None and at < first:
            raise ValueError(f"at must be at least {first}, because earlier samples were returned, got {at}")
        return first if at is None else at

    def _first_unread(self, place: Place) -> int:
        """Return the number of the first batch of all ranks that no rank has got."""
        return self.ranks.to_global(place._replace(ahead=())).position

    def work_at(
        self, epoch: int, batch: int, base: RankStart = FROM_BEGINNING, draws: "Draws | None" = None
    ) -> WorkItem:
        """Return the work of any batch of this rank, without the samples that are excluded there.

        Args:
            epoch: The epoch.
            batch: The number of the batch, which is its position.
            base: Where these ranks began the epoch.
            draws: The run's draws from a sampler.

        Raises:
            LookupError: The epoch has no such batch, or the sampler cannot be iterated again.
        """
        work_item, others = self._work(epoch, batch, base, draws)
        edit = self._editor_at(epoch, batch)
        return work_item if edit is None else edit(work_item, others)

    def place_at(self, epoch: int, batch: int, base: RankStart = FROM_BEGINNING, draws: "Draws | None" = None) -> Place:
        """Return the place before a batch of this rank; the arguments and errors are those of `work_at`."""
        # The epoch begins again there, with the length that the source has then.
        self.renewed()._work(epoch, batch, base, draws)
        return Place(epoch, batch)

    def _work(self, epoch: int, position: int, base: RankStart, draws: "Draws | None") -> tuple[WorkItem, Others]:
        """Return a work item with all of its samples, and what the other ranks have."""
        total = self._num_batches(self._known_length(epoch))
        numbers = self.ranks.numbers(total, base)
        if position >= len(numbers):
            raise LookupError(f"epoch {epoch} has no batch {position}: its number of batches is {len(numbers)}")
        return WorkItem(0, epoch, position, self._unit(epoch, numbers[position], total)), base

    def _unit(self, epoch: int, number: int, total: int | None) -> int:
        """Return the unit of a batch, by its number over all ranks in an epoch of this many batches."""
        return number

    def cursor(self, workers: int, backend: BackendName, draws: "DrawsEpochs | None" = None) -> Cursor:
        """Return a cursor at the beginning of the order."""
        return EpochCursor(
            self.total, self.seed, barrier=self.epoch_end is not None, order_of=self.units, edit=self.editor(),
            length_in=self.total_in, most_empty=self.source.most_empty,
        )  # fmt: skip

    def units(self, epoch: int, length: int | None, base: RankStart) -> Any:
        """Return the units of this rank's batches in an epoch; None: ascending numbers from 0 to its length.

        Args:
            epoch: The epoch.
            length: Number of batches of the epoch over all ranks; None: endless.
            base: Where these ranks began the epoch.
        """
        return None if self.shard.world == 1 else self.ranks.numbers(length, base)

    def listed(self, work_item: WorkItem) -> BatchSamples:
        """Return the samples of a work item; an item of the source that is a batch is one of them."""
        return work_item.listed or BatchSamples(work_item.position, [work_item.unit])

    def samples_of(self, work_item: WorkItem) -> SampleIds:
        """Return the ids of the samples of a batch for a message; empty if they are its index."""
        samples = self.ids_of(self.listed(work_item), work_item.epoch)
        return () if samples == (work_item.unit,) else samples

    def ids_of(self, listed: BatchSamples, epoch: int) -> SampleIds:
        """Return the ids of the samples of a batch, in the order of its rows."""
        of_each = self.source.sample_ids(listed.indices, self.seed, epoch, listed.without)
        return tuple(sample for ids in of_each for sample in ids)

    def costs_of(self, work_item: WorkItem, base: RankStart) -> dict[str, Any]:
        """Return what `BatchInfo` has of a batch only with a balance; ``base`` is where these ranks began its epoch."""
        return {}

    def _editor_of(self, excluded: SampleSet, at_start: SampleSet | None) -> Edit:
        edit = self._edit_by(excluded)
        if self.shard.world == 1:  # an empty batch is left out
            return lambda work_item, _others: edit(work_item)
        from mpqueue.plan.position.exclusions import EqualRanks  # most runs of several ranks exclude nothing

        edit_at_start = edit if excluded == at_start else None if at_start is None else self._edit_by(at_start)
        return EqualRanks(self, edit, edit_at_start)

    def round(self, work_item: WorkItem, others: Others) -> "Round":
        """Return the round of a work item; ``others`` is what the other ranks have there."""
        from mpqueue.plan.position.exclusions import Round

        assert isinstance(others, RankStart)
        number, at = self.ranks.in_round(work_item.position)
        epoch, world = work_item.epoch, self.shard.world
        total = self._num_batches(self._known_length(epoch))

        def batches(numbers: Sequence[int]) -> list[WorkItem]:
            return [WorkItem(0, epoch, 0, self._unit(epoch, number, total)) for number in numbers]

        of_ranks = batches(others.numbers(range(number * world, (number + 1) * world)))
        return Round(of_ranks, at, lambda: batches(range(world)))

    def filled(self, work_item: WorkItem, other: WorkItem) -> WorkItem:
        """Return a work item with the samples of another one, which draw the random numbers of their new places."""
        if self.batching is None:  # an item's random numbers depend on its index
            return work_item._replace(unit=other.unit, listed=other.listed)
        return work_item._replace(listed=self.listed(other)._replace(first=self.listed(work_item).first, kept=None))

    def _edit_by(self, excluded: SampleSet) -> "Without":
        def edit(work_item: WorkItem) -> WorkItem:
            first, indices, *_ = listed = self.listed(work_item)
            find = partial(self.source.sample_ids, seed=self.seed, epoch=work_item.epoch)
            found = [[sample for sample in ids if sample in excluded] for ids in find(indices)]
            without = frozenset(sample for samples in found for sample in samples)
            if not without:
                return work_item
            # An element that is made of several samples, such as a batch, may keep the others.
            keeps = list(map(bool, find(indices, without=without)))
            inside = frozenset(sample for samples in itertools.compress(found, keeps) for sample in samples)
            kept = list(itertools.compress(listed.places, keeps))
            return work_item._replace(
                listed=BatchSamples(first, list(itertools.compress(indices, keeps)), kept, inside)
            )

        return edit


class BatchesPlan(IndexPlan):
    """Each item of the source is a batch."""

    def units(self, epoch: int, length: int | None, base: RankStart) -> Any:
        """Return the indices of this rank's batches; the end is filled up from the beginning of the order."""
        if length is None or (self.shard.world == 1 and not self.options.shuffle):
            return super().units(epoch, length, base)
        if self.shard.world == 1:
            return permutation(self.seed, epoch, length)
        numbers = self.ranks.numbers(length, base)
        if self.options.shuffle:
            return permutation(self.seed, epoch, length)[np.array(numbers, np.int64) % length]
        return Wrapped(numbers, length) if numbers and numbers[-1] >= length else numbers

    def _unit(self, epoch: int, number: int, total: int | None) -> int:
        if total is None:
            return number
        place = number % total
        return int(self._order_in(epoch, total)[place]) if self.options.shuffle else place

    def _order_in(self, epoch: int, length: int) -> Any:
        # Kept, because with exclusions each batch of a rank needs the batches of the other ranks.
        order = self._orders.get((epoch, length))
        if order is None:
            order = permutation(self.seed, epoch, length)
            self._orders.clear()
            self._orders[epoch, length] = order
        return order

    @cached_property
    def _orders(self) -> dict[tuple[int, int], Any]:
        return {}


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplesPlan(IndexPlan):
    """Workers compute batches of samples from the number of the batch."""

    batching: Batching

    @cached_property
    def _samples(self) -> EpochSamples:
        return EpochSamples(self.seed, self.batching, self.worker_shard.world, self._known_length)

    def listed(self, work_item: WorkItem) -> BatchSamples:
        """Return the samples of a work item."""
        return work_item.listed or self._samples.of(work_item.epoch, work_item.unit)


class DrawnPlan(IndexPlan):
    """The trainer draws the indices of each batch from a sampler."""

    is_drawn = True

    def total(self) -> int | None:
        """Return the number of batches of an epoch over all ranks.

        Raises:
            TypeError: The sampler has no length.
        """
        options = self.options
        drawn: Any = options.sampler if options.batch_sampler is None else options.batch_sampler
        length = known_length(drawn)
        if length is None:
            raise TypeError(f"{type(drawn).__name__} has no len(): the number of batches is known after an epoch")
        return length if options.batch_sampler is not None else self._num_batches(length)

    def _check_drop(self, given: str = "") -> None:
        # A sampler that is empty now may return indices later. Its epochs check that.
        sampler = self.options.sampler
        length = known_length(sampler)
        if length:
            super()._check_drop(f"the sampler has {length} indices")

    def note_length(self, epoch: int) -> None:
        """Do nothing: the sampler determines the length of an epoch."""

    def check_ids(self, samples: SampleSet) -> None:
        """Do nothing: a sampler may return any keys."""

    def draws(self) -> "Draws":
        """Return a run's draws from the sampler."""
        from mpqueue.plan.position.draws import Draws  # imported here: it imports all about random numbers in samplers

        options = self.options
        are_lists = options.batch_sampler is not None
        sampler = options.batch_sampler if are_lists else options.sampler
        assert sampler is not None
        return Draws(sampler, options.batch_size, self.ranks, self.source.runs, are_lists=are_lists)

    def cursor(self, workers: int, backend: BackendName, draws: "DrawsEpochs | None" = None) -> Cursor:
        """Return a cursor at the beginning of the order."""
        from mpqueue.plan.position.drawn_cursor import DrawnCursor

        assert draws is not None
        return DrawnCursor(draws.draw, barrier=self.epoch_end is not None, edit=self.editor())

    def place_at(self, epoch: int, batch: int, base: RankStart = FROM_BEGINNING, draws: "Draws | None" = None) -> Place:
        """Return the place before a batch of this rank; the arguments and errors are those of `work_at`."""
        assert draws is not None
        if not batch and draws.is_new(epoch):
            return Place(epoch)  # its order is drawn when it begins
        return super().place_at(epoch, batch, base, draws)

    def _work(self, epoch: int, position: int, base: RankStart, draws: "Draws | None") -> tuple[WorkItem, Others]:
        assert draws is not None
        unit, listed, _, others = draws.batch_at(epoch, base, position, self.ranks)
        return WorkItem(0, epoch, position, unit, -1, listed), others

    def round(self, work_item: WorkItem, others: Others) -> "Round":
        """Return the round of a work item, whose batches were drawn."""
        from mpqueue.plan.position.exclusions import Round

        assert isinstance(others, DrawnRound)

        def batches(drawn: Sequence[tuple[int, BatchSamples | None]]) -> list[WorkItem]:
            return [WorkItem(0, work_item.epoch, 0, unit, -1, listed) for unit, listed in drawn]

        return Round(batches(others.batches), self.ranks.in_round(work_item.position)[1], lambda: batches(others.first))

    def _added(self, place: Place, position: int, draws: "Draws | None", cursor: Cursor | None) -> dict[str, Any]:
        assert draws is not None
        mark = None if cursor is None else cursor.mark_at(place.epoch, place.position)
        return draws.state_at(place.epoch, position, mark)

    def _order(self) -> str:
        return "sampler" if self.options.batch_sampler is None else "batch_sampler"

    def total_in(self, epoch: int) -> int | None:
        """Return the number of batches of an epoch over all ranks.

        Raises:
            TypeError: The sampler has no length.
        """
        return self.total()

    def _is_over(self, place: Place, is_saved: bool, draws: "Draws | None") -> bool:
        assert draws is not None
        if not self.ranks.drops and is_saved:
            try:
                if not super()._is_over(place, is_saved, draws):
                    return False
            except TypeError:  # the sampler has no length
                return False
        # The sampler must be iterated to its end: the order of its next epoch may depend on that.
        number = place.base.nth(place.position * self.shard.world)
        return draws.is_over(place.epoch, place.base._replace(number=number))


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamPlan(Plan):
    """Elements are taken from virtual shards ("lanes").

    Attributes:
        lanes: Number of lanes over all ranks; None: one for each worker.
        epoch_batches: Number of batches that are dealt here per epoch; None: an epoch ends when the stream ends.
    """

    lanes: int | None = None  # type: ignore[misc]  # of other plans it is a constant
    epoch_batches: int | None = None  # type: ignore[misc]

    has_index = False

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return a plan with these fields.

        Raises:
            ValueError: There are too many lanes, or they cannot be divided equally among the ranks.
        """
        source, options, ranks = fields["source"], fields["options"], fields["ranks"]
        lanes = source.check_lanes(None if options.lanes is None else int(options.lanes), ranks.shard.world)
        each = None if options.epoch_batches is None else int(options.epoch_batches)
        epoch_batches = ranks.batches_of_all(each)
        warn_of_unequal_ranks(ranks.lane_shard, epoch_batches)
        return cls(lanes=lanes, epoch_batches=epoch_batches, **fields)

    def check_auto(self) -> None:
        """Raise a `ValueError` if there is one lane per worker, because "auto" changes that number."""
        if self.lanes is None:
            raise ValueError(
                f'workers="auto" changes the number of workers, and {self.source.name} is divided by that number: '
                "pass lanes=n, and select the elements by mpqueue.worker_info().shard_id; or pass a number of workers"
            )

    def warn_of_idle(self, workers: int, backend: BackendName) -> None:
        """Warn if there are more workers than lanes of this rank."""
        warn_of_idle(self.share(workers, backend), self.lanes, workers)

    def identity(self) -> list[Any]:
        """Return the values that identify a run, as plain data."""
        lanes = [] if self.lanes is None else [self.lanes, self.source.shape()]
        return super().identity() + lanes

    def share(self, workers: int = 0, backend: BackendName = "process") -> LaneShare:
        """Return the lanes of this rank. The number of workers is needed if each has one lane."""
        return self.source.share(self.lanes, self.ranks.lane_shard, workers, backend)

    def first_sample(self, place: Place, at: int | None) -> None:
        """Return None, and refuse ``at``."""
        if at is not None:
            raise ValueError(
                f"at={at} names a sample of a mixture with an index, and {self.source.name} is a stream: leave out at. "
                "Each virtual shard has the new weights from its next pick on"
            )

    def begun_at(self, state: Mapping[str, Any], place: Place, draws: "Draws | None" = None) -> Place:
        """Return the place with its base."""
        from mpqueue.plan.states.saved_states import began_in

        world = self.shard.world
        began = began_in(state, world)
        # Without an order, the elements before this place are not known.
        if began is None or (began and not self.options.ordered):
            began = place.position * world
        return place._replace(base=RankStart(began, world, place.epoch))

    def no_batches(self, place: Place, title: str) -> str | None:
        """Return a warning about a pass over the stream that ended without a batch; None: it returned batches.

        Args:
            place: The place after the pass.
            title: The name of the source.
        """
        return None if any(place.counts) else self.why_empty(len(place.counts), title)

    def impossible_epoch(self, place: Place, title: str) -> RuntimeError:
        """Return the error for an epoch of a number of batches over a stream that returns none.

        Args:
            place: The place after the pass.
            title: The name of the source.
        """
        each, of_all = self.epoch_batches or 0, self.ranks.batches_of_all(1) or 1
        reason = self.why_empty(len(place.counts), title)
        return RuntimeError(f"an epoch of {count_text(each // of_all, 'batch')} is impossible: {reason}")

    @property
    def parts(self) -> str:
        """The name of the parts of the stream, for messages."""
        return "workers" if self.lanes is None else "virtual shards (lanes)"

    def why_empty(self, num_lanes: int, title: str) -> str:
        """Return the message for a stream that returns no batches.

        Args:
            num_lanes: Number of lanes of this rank.
            title: The name of the source.
        """
        rank, world = self.ranks.lane_shard  # a server runs the lanes of all ranks
        where = "" if world == 1 else f" on rank {rank} of {world}"
        dropping = self.source.dropping(self.options)
        if not dropping:
            return f"the stream of {title} is empty{where}: it returned no elements. Check its source and its filters"
        lanes, fewer = "", "a smaller batch size"
        if num_lanes > 1:
            lanes = f", and each of {num_lanes} {self.parts} makes its own batches"
            fewer = f"{fewer}, fewer {self.parts}"
        return (
            f"the stream of {title} returned no batches{where}: {dropping} drops batches that are not full{lanes}. "
            f"Use {fewer}, or no drop_last"
        )

    def editor(self) -> None:
        """Return None: the source itself leaves out samples."""

    def identified(self) -> "StreamPlan":
        """Return the plan of a stream whose elements are the ids of the samples of each element."""
        # Of a generator function, the number of samples in a batch is enough.
        batching = None if self.batching is None else self.batching._replace(collate=len)
        return replace(self, source=self.source.identified(), batching=batching)

    def ids_of(self, work_item: WorkItem, element: Any, share: LaneShare) -> SampleIds:
        """Return the ids of the samples of an element.

        Args:
            work_item: Its work item.
            element: The element of the identified plan.
            share: The lanes of this rank.
        """
        if self.source.opens_lanes:
            return tuple(element)
        size, count = (1, 1) if self.batching is None else (self.batching.batch_size or 1, element)
        first, lane = work_item.unit * size, share.lane(work_item.lane)
        return tuple((lane, number) for number in range(first, first + count))

    def after(self, place: Place) -> Place:
        """Return where the next epoch begins if an endless stream is left at this place."""
        return place._replace(epoch=place.epoch + 1, position=0) if place.position else place

    def length(self, epoch: int | None = None) -> int | None:
        """Return the number of batches per epoch that are dealt here; None: unknown."""
        return self.epoch_batches

    def cursor(self, workers: int, backend: BackendName, draws: "DrawsEpochs | None" = None) -> Cursor:
        """Return a cursor at the beginning of the order."""
        from mpqueue.plan.position.stream_cursor import StreamCursor  # imported here: most loaders have an index

        return StreamCursor(self.share(workers, backend), epoch_batches=self.epoch_batches)

    def _state_of(self, place: Place) -> dict[str, Any]:
        from mpqueue.plan.states.lane_states import as_state  # imported here: most loaders have an index

        return as_state(place)

    def _added(self, place: Place, position: int, draws: "Draws | None", cursor: Cursor | None) -> dict[str, Any]:
        added: dict[str, Any] = {"epoch_batches": self.options.epoch_batches}
        if self.lanes is not None:
            added["lanes"] = self.lanes
            shape = self.source.shape()
            if shape is not None:
                added["shape"] = shape
        return added

    def saved_as(self) -> dict[str, Any]:
        """Return an empty dict: a stream has a shape instead of a length and an order."""
        return {}

    def _check_kind(self, state: Mapping[str, Any], place: Place) -> None:
        if "epoch_batches" not in state:
            raise ValueError(
                "the state was saved for a source with an index, and the source of this loader is a stream: load the "
                "state into a loader of the same source"
            )

    def _joined(
        self, states: Sequence[dict[str, Any]], places: list[Place], workers: int, backend: BackendName
    ) -> Place:
        from mpqueue.plan.states.lane_states import check_epoch_batches, check_shape, place_in, starts_in

        for state in states:
            check_epoch_batches(dict(state), self.options.epoch_batches, self.shard.world)
        share = self.share(workers, backend)
        places = [
            place._replace(starts=starts_in(state), ends=tuple(state.get("ends", ())))
            for state, place in zip(states, places, strict=True)
        ]
        if self.lanes is None:
            return self._of_workers(states, places, share)
        shape = self.source.shape()
        for state in states:
            check_shape(state.get("shape"), shape)
        place = place_in(states, places, share, self.shard)
        length = self.epoch_batches
        if length is not None and place.position >= length:  # with other numbers of ranks, each rank had longer epochs
            place = place._replace(epoch=place.epoch + 1, position=0)
        return place

    def _of_workers(self, states: Sequence[dict[str, Any]], places: list[Place], share: LaneShare) -> Place:
        """Return the place of a stream with one lane per worker."""
        (state, *others), (place, *_) = states, places
        lanes, (rank, world) = state.get("lanes"), state.get("shard", (0, 1))
        if others:
            saved = "states of several ranks"
        elif lanes is not None:
            saved = f"a state of a stream of lanes={lanes}"
        elif (rank, world) != self.shard or (place.counts and len(place.counts) != share.num_lanes):
            workers = count_text(len(place.counts), "worker") if place.counts else "any number of workers"
            saved = f"a state of rank {rank} of {world}, with {workers}"
        else:
            return place
        own = count_text(share.num_lanes, "worker")
        raise ValueError(
            "a generator function without lanes= needs the state of its own rank and number of workers (rank "
            f"{self.shard.rank} of {self.shard.world}, with {own}), got {saved}: pass "
            f"lanes={'n' if lanes is None else lanes} to Loader, also in the run that saves"
        )


def _shown(saved: dict[str, Any]) -> str:
    """Describe the source and the order in a state."""
    words = [f"batch_size={saved['batch_size']}"]
    if "order" in saved:
        length = "no length" if saved["length"] is None else f"length {saved['length']}"
        words += [length, f'order "{saved["order"]}"']
    if "balance" in saved:
        words.append("no balance" if saved["balance"] is None else f"balance {saved['balance']}")
    return ", ".join(words)
