"""The four kinds of plan: what is computed, in which order, on which rank, and how a place in that order is saved.

::

    BatchesPlan    items of the source are batches; their indices follow from (seed, epoch, position)
    SamplesPlan    a work item is the number of a batch; the workers know which samples that means
    DrawnPlan      the trainer draws the indices of a batch from a sampler, and the work item carries them
    StreamPlan     elements come from virtual shards, each with its own order

A plan is immutable. `Plan.cursor` makes the mutable part of a run, which deals work items; what a sampler has drawn is
kept in the run's `Draws`. Positions of a place count this rank's batches; a saved state counts those of all ranks, see
`mpqueue.plan.ranks`.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.plan.batching import Batching, Form
from mpqueue.plan.cursors import Cursor, DrawnCursor, DrawsEpochs, EpochCursor, Place, StreamCursor
from mpqueue.plan.lanes import LaneShare
from mpqueue.plan.options import Options
from mpqueue.plan.ranks import ENDLESS, Ranks, Shard
from mpqueue.plan.sources import IN_ORDER, Source, warn_of_idle, warn_of_unequal_ranks
from mpqueue.seeding.seeds import permutation
from mpqueue.system.callers import outside_stacklevel

if TYPE_CHECKING:
    from mpqueue.plan.draws import Draws


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan(ABC):
    """A plan: a source and its options, resolved.

    Attributes:
        source: The source.
        options: The options about samples and ranks; those that became stages of a dataset are at their defaults.
        ranks: The batches that are dealt here, of those of all ranks.
        seed: Shuffled orders and random numbers follow from it.
        seed_given: The user passed the seed; then batches that the caller computes draw from it, too.
        batching: How samples become batches; None: items are batches.
        calls_hooks: The run calls the source's ``on_epoch_end``; False: a fit loop calls it.
        has_index: Each batch has a number, by which it can be computed by itself.
    """

    source: Source
    options: Options
    ranks: Ranks
    seed: int = 0
    seed_given: bool = False
    batching: Batching | None = None
    calls_hooks: bool = True

    has_index: ClassVar[bool] = True
    lanes: ClassVar[int | None] = None  # virtual shards over all ranks; None: there are none, or one for each worker
    epoch_batches: ClassVar[int | None] = None  # dealt here in an epoch of a stream without an end
    is_drawn: ClassVar[bool] = False  # the order is drawn from a sampler

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return the plan of these fields.

        Raises:
            ValueError: It has no batches, or the ranks cannot have equal parts.
        """
        return cls(**fields)

    # -- What it runs

    @property
    def form(self) -> Form:
        """The form in which workers run the source."""
        return self.source.form(self.batching)

    @property
    def shard(self) -> Shard:
        """This rank, and the number of ranks."""
        return self.ranks.shard

    @property
    def worker_shard(self) -> Shard:
        """The rank that workers see: a server's workers compute the batches of all ranks."""
        return self.ranks.lane_shard

    @property
    def epoch_end(self) -> Callable[[], Any] | None:
        """The source's own ``on_epoch_end``: nothing of the next epoch is dealt before it was called."""
        return self.source.epoch_end() if self.calls_hooks else None

    @property
    def skips(self) -> bool:
        """Samples (or batches) that raise are left out."""
        return bool(self.options.on_error == "skip")

    @property
    def ends_by_count(self) -> bool:
        """True if an epoch of a stream ends after a number of batches, and the next one continues there."""
        return self.epoch_batches is not None

    def with_seed(self, seed: int, *, given: bool = True) -> Self:
        """Return the same plan with another seed."""
        return replace(self, seed=seed, seed_given=given)

    def identity(self) -> list[Any]:
        """Return what makes two runs the same one, as JSON has it: seed, length, batches, and virtual shards."""
        try:
            length = self.length()
        except TypeError:
            length = None
        return [self.seed, length, "None" if self.batching is None else self.batching.described()]

    def check_workers(self, workers: int, backend: BackendName, start_method: str) -> None:
        """Raise for a source that these workers cannot run.

        Raises:
            ValueError: Each of them would run the same elements.
            TypeError: A part of the source cannot be sent to worker processes.
        """
        self.source.check_workers(workers, in_processes=kind_of(backend).in_processes)
        self.source.check_portable(workers, backend, start_method)

    def check_auto(self) -> None:
        """Raise a `ValueError` if the order depends on the number of workers, which may not change then."""

    def warn_of_idle(self, workers: int, backend: BackendName) -> None:
        """Warn if some of these workers will never have anything to do."""

    # -- Its order

    @abstractmethod
    def length(self) -> int | None:
        """Return the number of batches per epoch that are dealt here; None: endless, or unknown.

        Raises:
            TypeError: The source, or its sampler, has no length.
        """

    def draws(self) -> "Draws | None":
        """Return what a run draws from a sampler with; None: there is no sampler."""
        return None

    @abstractmethod
    def cursor(self, workers: int, backend: BackendName, draws: DrawsEpochs | None = None) -> Cursor:
        """Return a cursor at the beginning of the order.

        Args:
            workers: The number of workers,
            backend: and what runs them: streams without ``lanes`` have a virtual shard for each worker.
            draws: The run's draws from a sampler.
        """

    # -- Its places

    def state(
        self, place: Place, draws: "Draws | None" = None, cursor: Cursor | None = None, *, ordered: bool = True
    ) -> dict[str, Any]:
        """Return a place of this rank as plain data that other numbers of ranks understand.

        Except for the snapshots of virtual shards, which remain pickled: see `mpqueue.plan.lane_states.plain`.

        Args:
            place: The place.
            draws: The run's draws from a sampler,
            cursor: and its cursor, if it has begun.
            ordered: Batches come in order; otherwise this rank does not know what the others took out of order.
        """
        state = self._state_of(place)
        if self.batching is not None:
            state["batch_size"] = self.batching.batch_size
        if self.shard.world > 1 and (not self.has_index or (not ordered and (place.position or place.ahead))):
            state["shard"] = list(self.shard)
        return state | self._added(place, state["position"], draws, cursor)

    def _state_of(self, place: Place) -> dict[str, Any]:
        return self.ranks.to_global(place).as_dict()

    def _added(self, place: Place, position: int, draws: "Draws | None", cursor: Cursor | None) -> dict[str, Any]:
        """Return what a state of this kind of plan has beside the place."""
        return {}

    def saved_as(self) -> dict[str, Any]:
        """Return what a state has of the source and its order; nothing of a stream, which has a shape."""
        return {"length": self.source.length_now(), "order": self._order()}

    def _order(self) -> str:
        return self.source.order

    def place(self, states: Sequence[dict[str, Any]], workers: int, backend: BackendName) -> Place:
        """Return the place in a state: of a stream this rank's, of others that of all ranks, see `begun_at`.

        Args:
            states: One state, or those of all ranks at one moment.
            workers: The number of workers here,
            backend: and what runs them.

        Raises:
            TypeError: One is not a state.
            ValueError: The states are of batches of another size, of another source, or lack a part of it.
        """
        from mpqueue.plan.saved_states import place_of  # most loaders get no state

        places = [place_of(state) for state in states]
        for state, place in zip(states, places, strict=True):
            self._check_kind(state, place)
        for state, place in zip(states, places, strict=True):
            self._check_same(state, place)
        return self._joined(states, places, workers, backend)

    def begun_at(self, state: Mapping[str, Any], place: Place, draws: "Draws | None" = None) -> Place:
        """Return the place of this rank where a run begins that continues from a state.

        Args:
            state: The state.
            place: What `place` returned for it.
            draws: The run's draws from a sampler; they continue from there, too.
        """
        self._warn_of_another_rank(tuple(state.get("shard", self.shard)))
        if draws is not None:
            draws.load(place.epoch, place.position, dict(state))
        place = self.ranks.to_local(place)
        return Place(place.epoch + 1) if self.shard.world > 1 and self._is_over(place, draws) else place

    def _is_over(self, place: Place, draws: "Draws | None") -> bool:
        """Return True if what is left of an epoch is dropped."""
        return False

    def _check_kind(self, state: Mapping[str, Any], place: Place) -> None:
        if place.counts or "lanes" in state:
            raise ValueError(
                "the state is of a stream, and the source of this loader has an index: a state goes on with the "
                "source that it is of"
            )

    def _check_same(self, state: Mapping[str, Any], place: Place) -> None:
        """Raise a `ValueError` that shows both if the source or the order of a state is another one."""
        here: dict[str, Any] = {"batch_size": None if self.batching is None else self.batching.batch_size}
        saved: dict[str, Any] = {"batch_size": state.get("batch_size")}
        if self.has_index and "order" in state:
            here |= self.saved_as()
            saved |= {"length": state.get("length"), "order": state["order"]}
        if saved != here and not (
            saved | {"length": None} == here | {"length": None} and self._may_differ(state, here)
        ):
            raise ValueError(
                f"the state was saved with {_shown(saved)}, and this loader has {_shown(here)}. Load it into a loader "
                "of the same source, order and batch size"
            )

    def _may_differ(self, state: Mapping[str, Any], here: dict[str, Any]) -> bool:
        """Return whether the length may be another one than in a state: the batches before its place are the same."""
        if "source" in state:
            return True  # the state of the source may change its length
        is_prefix = self.is_drawn or here["order"].startswith(IN_ORDER)  # a sampler has a fingerprint
        return is_prefix and (here["length"] is None or (state.get("length") or math.inf) <= here["length"])

    def _joined(
        self, states: Sequence[dict[str, Any]], places: list[Place], workers: int, backend: BackendName
    ) -> Place:
        if any(place != places[0] for place in places):
            raise ValueError("the states are not of one moment: they tell of different places. Pass one of them")
        return places[0]

    def _warn_of_another_rank(self, shard: tuple[int, int]) -> None:
        if shard == self.shard:
            return
        rank, world = shard
        warnings.warn(
            f"the state is of rank {rank} of {world} with ordered=False, and says nothing of what the other ranks took "
            "out of turn: batches of this epoch may come twice, or never. Load into each of as many ranks its own "
            "state; or save between epochs, or with ordered=True",
            UserWarning,
            stacklevel=outside_stacklevel(),
        )


class _IndexPlan(Plan):
    """A plan whose number of batches follows from the length of the source."""

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return the plan of these fields.

        Raises:
            ValueError: ``drop_last`` drops all batches.
        """
        plan = super().of(**fields)
        if plan.options.drop_last:
            plan._check_drop()
        return plan

    def total(self) -> int | None:
        """Return the number of batches of an epoch over all ranks; None: endless."""
        return self.source.length()

    def length(self) -> int | None:
        """Return the number of batches per epoch that are dealt here; None: endless."""
        total = self.total()
        return None if total is None else len(self.ranks.numbers(total))

    def _check_drop(self, given: str = "") -> None:
        """Raise a `ValueError`, which has ``given``, if ``drop_last`` drops all batches."""
        if len(self.ranks.numbers(self.total())):
            return
        world, what = self.shard.world, "batches" if self.batching is None else "samples"
        raise ValueError(
            f"drop_last leaves no batch: {given or f'there are {self.source.length(what)} {what}'}, and "
            f"{'a batch' if world == 1 else 'one batch for each rank'} takes {world * (self.options.batch_size or 1)}"
        )

    def _order(self) -> str:
        return "shuffled" if self.options.shuffle else super()._order()

    def _check_same(self, state: Mapping[str, Any], place: Place) -> None:
        super()._check_same(state, place)
        if self.is_drawn or "source" in state:
            return
        total = self.total()
        if total is not None and place.position > total:
            raise ValueError(
                f"the state is behind batch {place.position} of an epoch, and the source of this loader has {total} "
                "batches: load it into a loader of the same source"
            )

    def _is_over(self, place: Place, draws: "Draws | None") -> bool:
        return not self.ranks.numbers(self.total(), place.base)


class BatchesPlan(_IndexPlan):
    """Items of the source are batches."""

    def cursor(self, workers: int, backend: BackendName, draws: DrawsEpochs | None = None) -> Cursor:
        """Return a cursor at the beginning of the order."""
        barrier = self.epoch_end is not None
        if self.shard.world == 1:
            return EpochCursor(self.source.length, self.seed, shuffle=self.options.shuffle, barrier=barrier)
        source = self.source
        return EpochCursor(lambda: source.length() or ENDLESS, self.seed, barrier=barrier, order_of=self.indices)

    def indices(self, epoch: int, length: int, base: int) -> Any:
        """Return the indices of this rank's batches; the end is filled up from the beginning of the source.

        Args:
            epoch: The epoch.
            length: Of the source.
            base: As for a `Place`.
        """
        numbers = self.ranks.numbers(length, base)
        if length == ENDLESS:
            return numbers
        mine = np.arange(numbers.start, numbers.stop, numbers.step) % length
        return permutation(self.seed, epoch, length)[mine] if self.options.shuffle else mine


class SamplesPlan(_IndexPlan):
    """Workers make batches of samples, by the number of the batch."""

    batching: Batching

    def total(self) -> int | None:
        """Return the number of batches of an epoch over all ranks; None: endless."""
        num_samples = self.source.length("samples")
        return None if num_samples is None else self.batching.num_batches(num_samples)

    def cursor(self, workers: int, backend: BackendName, draws: DrawsEpochs | None = None) -> Cursor:
        """Return a cursor at the beginning of the order."""
        numbers, barrier = self.ranks.numbers, self.epoch_end is not None
        order_of = None if self.shard.world == 1 else lambda _epoch, total, base: numbers(total, base)
        return EpochCursor(self.total, self.seed, barrier=barrier, order_of=order_of)


class DrawnPlan(_IndexPlan):
    """The trainer draws the indices of a batch from a sampler."""

    is_drawn = True

    def total(self) -> int | None:
        """Return the number of batches of an epoch over all ranks.

        Raises:
            TypeError: The sampler has no length.
        """
        options = self.options
        if options.batch_sampler is not None:
            return len(options.batch_sampler)
        num_items = len(options.sampler)
        return num_items if self.batching is None else self.batching.num_batches(num_items)

    def _check_drop(self, given: str = "") -> None:
        # A sampler that is empty now may return indices later, which its epoch finds out.
        sampler = self.options.sampler
        if hasattr(type(sampler), "__len__") and len(sampler):
            super()._check_drop(f"the sampler gives {len(sampler)} indices")

    def draws(self) -> "Draws":
        """Return what a run draws from the sampler with."""
        from mpqueue.plan.draws import Draws  # with all about random numbers in samplers

        options = self.options
        are_lists = options.batch_sampler is not None
        sampler = options.batch_sampler if are_lists else options.sampler
        assert sampler is not None
        return Draws(sampler, options.batch_size, self.ranks, self.source.runs, are_lists=are_lists)

    def cursor(self, workers: int, backend: BackendName, draws: DrawsEpochs | None = None) -> Cursor:
        """Return a cursor at the beginning of the order."""
        assert draws is not None
        return DrawnCursor(draws.draw, barrier=self.epoch_end is not None)

    def _added(self, place: Place, position: int, draws: "Draws | None", cursor: Cursor | None) -> dict[str, Any]:
        assert draws is not None
        mark = None if cursor is None else cursor.mark_at(place.epoch, place.position)
        return draws.state_at(place.epoch, position, mark)

    def _order(self) -> str:
        return "sampler" if self.options.batch_sampler is None else "batch_sampler"

    def _is_over(self, place: Place, draws: "Draws | None") -> bool:
        assert draws is not None
        return self.ranks.drops and draws.is_over(place.epoch, place.base)


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamPlan(Plan):
    """Elements come from virtual shards ("lanes").

    Attributes:
        lanes: Their number over all ranks; None: one for each worker.
        epoch_batches: Batches that are dealt here in an epoch; None: it ends when the stream ends.
    """

    lanes: int | None = None  # type: ignore[misc]  # of other plans it is a constant
    epoch_batches: int | None = None  # type: ignore[misc]

    has_index = False

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return the plan of these fields.

        Raises:
            ValueError: There are too many virtual shards, or the ranks cannot have equally many.
        """
        source, options, ranks = fields["source"], fields["options"], fields["ranks"]
        lanes = source.check_lanes(None if options.lanes is None else int(options.lanes), ranks.shard.world)
        each = None if options.epoch_batches is None else int(options.epoch_batches)
        epoch_batches = ranks.batches_of_all(each)
        warn_of_unequal_ranks(ranks.lane_shard, epoch_batches)
        return cls(lanes=lanes, epoch_batches=epoch_batches, **fields)

    def check_auto(self) -> None:
        """Raise a `ValueError` if there is a virtual shard for each worker: with "auto" workers come and go."""
        if self.lanes is None:
            raise ValueError(
                f'workers="auto" changes the number of workers, and {self.source.name} is divided by that number: '
                "pass lanes=n, and take its share by mpqueue.worker_info().shard_id; or a number of workers"
            )

    def warn_of_idle(self, workers: int, backend: BackendName) -> None:
        """Warn if there are more workers than virtual shards of this rank."""
        warn_of_idle(self.share(workers, backend), self.lanes, workers)

    def identity(self) -> list[Any]:
        """Return what makes two runs the same one, as JSON has it."""
        lanes = [] if self.lanes is None else [self.lanes, self.source.shape()]
        return super().identity() + lanes

    def share(self, workers: int = 0, backend: BackendName = "process") -> LaneShare:
        """Return the virtual shards of this rank; if there is one for each worker, the workers are needed."""
        return self.source.share(self.lanes, self.ranks.lane_shard, workers, backend)

    def after(self, place: Place) -> Place:
        """Return where the next epoch begins, after one that was left at a place, in a stream without an end."""
        return place._replace(epoch=place.epoch + 1, position=0) if place.position else place

    def length(self) -> int | None:
        """Return the number of batches per epoch that are dealt here; None: unknown."""
        return self.epoch_batches

    def cursor(self, workers: int, backend: BackendName, draws: DrawsEpochs | None = None) -> Cursor:
        """Return a cursor at the beginning of the order."""
        return StreamCursor(self.share(workers, backend), epoch_batches=self.epoch_batches)

    def _state_of(self, place: Place) -> dict[str, Any]:
        from mpqueue.plan.lane_states import as_state  # most loaders have an index

        return as_state(place)

    def _added(self, place: Place, position: int, draws: "Draws | None", cursor: Cursor | None) -> dict[str, Any]:
        added: dict[str, Any] = {"epoch_batches": self.options.epoch_batches}
        if self.lanes is not None:
            added |= {"lanes": self.lanes, "shard": list(self.shard)}
            shape = self.source.shape()
            if shape is not None:
                added["shape"] = shape
        return added

    def saved_as(self) -> dict[str, Any]:
        """Return nothing: a stream has a shape."""
        return {}

    def begun_at(self, state: Mapping[str, Any], place: Place, draws: "Draws | None" = None) -> Place:
        """Return the place itself, which is this rank's already."""
        return place

    def _check_kind(self, state: Mapping[str, Any], place: Place) -> None:
        if (place.position or place.ahead) and not place.counts:
            raise ValueError(
                "the state is of a source with an index, and the source of this loader is a stream: a state goes "
                "on with the source that it is of"
            )

    def _joined(
        self, states: Sequence[dict[str, Any]], places: list[Place], workers: int, backend: BackendName
    ) -> Place:
        from mpqueue.plan.lane_states import check_epoch_batches, check_shape, place_in, starts_in

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
        if length is not None and place.position >= length:  # of a world in which each rank had more of them
            place = place._replace(epoch=place.epoch + 1, position=0)
        return place

    def _of_workers(self, states: Sequence[dict[str, Any]], places: list[Place], share: LaneShare) -> Place:
        """Return the place of a stream that has a virtual shard for each worker."""
        (state, *others), (place, *_) = states, places
        lanes = state.get("lanes")
        if others or lanes is not None:
            which = "states of several ranks" if lanes is None else f"a state of a stream of lanes={lanes}"
            raise ValueError(
                f"a generator function without lanes= takes the state of its own rank and number of workers, got "
                f"{which}: pass lanes={'n' if lanes is None else lanes} to Loader, in the run that saves as well"
            )
        if place.counts and len(place.counts) != share.num_lanes:
            raise ValueError(
                f"the state is of a generator in {len(place.counts)} workers, each with a stream of its own; "
                f"this loader has {share.num_lanes}"
            )
        if tuple(state.get("shard", (0, 1))) != self.shard:
            raise ValueError(
                f"the state is of a generator on rank and number of ranks {state.get('shard', [0, 1])}, and "
                f"this loader has {list(self.shard)}"
            )
        return place


def _shown(saved: dict[str, Any]) -> str:
    """Return what a state has of a source and its order, in words."""
    words = [f"batch_size={saved['batch_size']}"]
    if "order" in saved:
        length = "no end" if saved["length"] is None else f"length {saved['length']}"
        words += [length, f'order "{saved["order"]}"']
    return ", ".join(words)
