"""The order of a `Loader`: how many batches an epoch has, which of them come here, and what they are made of.

Four kinds of sources, one place where they are told apart::

    batches            the index of a batch follows from (seed, epoch, position)
    samples            a ticket is the number of a batch; the workers know which samples that means
    with a sampler     the trainer draws what a batch is made of, and the ticket carries it
    streams            elements come from lanes, each with an order of its own

Positions count this rank's batches; a state counts those of all ranks, see `mpqueue.samples.shards`.
"""

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from mpqueue.dataset.lookalikes import is_dataset, is_sample_stream
from mpqueue.engine.backend_kinds import BackendName
from mpqueue.engine.contents import name_of
from mpqueue.engine.lanes import LaneShare
from mpqueue.engine.options import SampleOptions
from mpqueue.engine.schedule import DrawnSchedule, EpochSchedule, Place, Schedule, StreamSchedule
from mpqueue.engine.seeds import permutation
from mpqueue.loader.engine import epoch_schedule
from mpqueue.loader.lane_shares import check_lanes, share_of, warn_of_idle, warn_of_unequal_ranks
from mpqueue.loader.lane_states import as_state, check_epoch_batches, check_shape, place_in, starts_in
from mpqueue.loader.sources import (
    as_source,
    check_threads,
    has_lanes,
    is_stream,
    length_now,
    length_of,
    may_be_threaded,
)
from mpqueue.samples.plan import FIND_THREADS, SamplePlan
from mpqueue.samples.shards import ALONE, ENDLESS, Share, shard_of
from mpqueue.system.callers import outside_stacklevel

if TYPE_CHECKING:
    from mpqueue.samples.drawing import SamplerOrder


IN_ORDER = "in order"


class Order:
    """The order of one loader.

    Args:
        source: What the user gave.
        options: Its options about samples and ranks.
        shuffle: A new order for every epoch.
        share: The batches that are asked for; None: those of this rank.
        finds_threads: The number of threads in a worker is found as the run goes on, if the source allows several.

    Attributes:
        source: What the workers run.
        is_stream: It is a generator, or has lanes.
        lanes: So many over all ranks; None: it is no stream, or has one for each worker.
        epoch_batches: Of an epoch of an endless stream, of all whose batches are asked for; None: its epochs end by
            themselves.
        share: The batches of this rank.
        plan: How samples become batches; None: items are batches.

    Raises:
        TypeError: The source is no source.
        ValueError: Options that exclude each other, or that this source excludes.
    """

    def __init__(
        self, source: Any, options: SampleOptions, *, shuffle: bool, share: Share | None = None,
        finds_threads: bool = False,
    ) -> None:  # fmt: skip
        if is_sample_stream(source):
            from mpqueue.dataset.dataset import Dataset

            source = Dataset(source)
        is_described = self._is_described = is_dataset(source)
        if is_described:
            from mpqueue.loader.datasets import unfold  # with all stages of datasets

            source, options, shuffle = unfold(source, options, shuffle=shuffle)
        sampler = options.sampler if options.batch_sampler is None else options.batch_sampler
        self.source = as_source(source, of_samples=options.are_samples, is_sampled=sampler is not None)
        # With a sampler a callable that has keys and no length is a source of items, too.
        self.is_stream = is_stream(self.source) and not hasattr(type(self.source), "__getitem__")
        self._options, self._shuffle, self._finds_threads = options, shuffle, finds_threads
        self._check_exclusions(shuffle=shuffle, is_sampled=sampler is not None)
        self._check_threads(getattr(source, "sources", []) if is_described else [self.source])
        shard = shard_of(options.shard)
        self.share = share or Share(shard, drop_last=options.drop_last)
        # Who deals the batches of all ranks has all lanes, so many that each rank gets those of its own.
        self._shard = shard if share is None else ALONE
        lanes = None if options.lanes is None else int(options.lanes)
        self.lanes = check_lanes(self.source, lanes, shard.world) if self.is_stream else None
        self._has_told_of_idle = False
        self.epoch_batches = None if options.epoch_batches is None else int(options.epoch_batches)
        self._epoch_batches_each = self.epoch_batches  # on each rank
        if self.epoch_batches is not None and share is not None:
            self.epoch_batches *= shard.world  # who deals to all ranks deals as many to each
        if self.is_stream:
            warn_of_unequal_ranks(self._shard, self.epoch_batches)
        self.plan = self._make_plan() if options.are_samples else None
        self.sampled: SamplerOrder | None = None
        self._drawn: DrawnSchedule | None = None  # the latest one
        if sampler is not None:
            from mpqueue.samples import drawing  # with all about random numbers in samplers

            are_lists = options.batch_sampler is not None
            self.sampled = drawing.SamplerOrder(
                sampler, options.batch_size, self.share, self.source, are_lists=are_lists
            )
            # One that is empty now may give something later, which its epoch finds out.
            if options.drop_last and hasattr(type(sampler), "__len__") and len(sampler):  # type: ignore[arg-type]
                self._require_a_batch(f"the sampler gives {len(sampler)} indices")  # type: ignore[arg-type]
        elif options.drop_last and not self.is_stream:
            self._require_a_batch()

    def _check_exclusions(self, *, shuffle: bool, is_sampled: bool) -> None:
        if self.is_stream and shuffle:
            raise ValueError("shuffle needs a source with __getitem__ and __len__: a generator has an order of its own")
        if self.is_stream and is_sampled:
            raise ValueError("a sampler needs a source with __getitem__: a generator has an order of its own")
        if self.is_stream and self._options.drop_last and self._options.batch_size is None:
            raise ValueError("drop_last is about a last batch that is short: pass batch_size, too")
        if is_sampled and shuffle:
            name = "sampler" if self._options.batch_sampler is None else "batch_sampler"
            raise ValueError(f"a {name} gives the order, and excludes shuffle")
        for name, value in (("lanes", self._options.lanes), ("epoch_batches", self._options.epoch_batches)):
            if value is not None and not self.is_stream:
                raise ValueError(
                    f"{name}={value} is about streams, whose elements have no numbers (generator functions, datasets "
                    f"behind a filter or a buffer), and {name_of(self.source)} has __getitem__ and __len__: its "
                    "batches are dealt by their numbers, its epochs end with them. Leave it out"
                )

    def _check_threads(self, sources: list[Any]) -> None:
        threads: Any = '"auto"' if self._finds_threads else self._options.threads
        if threads != 1 and self.is_stream:
            raise ValueError(
                f"threads={threads} computes the samples of a batch by their indices, and the elements of "
                f"{name_of(self.source)}, a stream, come one after the other. Of a mpqueue.Dataset, the stage "
                "that waits takes it: map(function, threads=n)"
            )
        if threads != 1 and not self._options.are_samples:
            raise ValueError(
                f"threads={threads} computes the samples of a batch side by side, and an item of the source is a "
                "batch here: pass batch_size, for a source of samples; or use more workers"
            )
        for source in sources:
            if not self._finds_threads:
                check_threads(source, threads)
            elif not may_be_threaded(source):
                self._finds_threads = False

    def check_auto(self) -> None:
        """Raise a `ValueError` for a stream whose lanes would be those of the workers, which come and go."""
        if self.is_stream and self.lanes is None:
            raise ValueError(
                f'workers="auto" changes the number of workers, and {name_of(self.source)} is divided by that number: '
                "pass lanes=n, and take its share by mpqueue.worker_info().shard_id; or a number of workers"
            )
        self._has_told_of_idle = True  # nobody has asked for so many

    def _make_plan(self) -> SamplePlan:
        options = self._options
        return SamplePlan(
            None if options.batch_size is None else int(options.batch_size), self._shuffle, options.collate,
            drops=bool(options.drop_last), fills=self.share.shard.world > 1 and not options.drop_last,
            skips=options.on_error == "skip", threads=FIND_THREADS if self._finds_threads else int(options.threads),
        )  # fmt: skip

    def _require_a_batch(self, given: str = "") -> None:
        """Raise a `ValueError`, which tells of what is given, if all is dropped."""
        if len(self.share.numbers(-1, self._total())):
            return
        world, what = self.share.shard.world, "batches" if self.plan is None else "samples"
        raise ValueError(
            f"drop_last leaves no batch: {given or f'there are {length_of(self.source, what)} {what}'}, and "
            f"{'a batch' if world == 1 else 'one batch for each rank'} takes {world * (self._options.batch_size or 1)}"
        )

    def _total(self) -> int | None:
        """Return the number of batches of an epoch, over all ranks.

        Raises:
            TypeError: What gives the order has no length.
        """
        sampler, plan = self._options.sampler, self.plan
        if self._options.batch_sampler is not None:
            return len(self._options.batch_sampler)  # type: ignore[arg-type]  # one without a length raises a TypeError
        if sampler is not None:
            num_items: int | None = len(sampler)  # type: ignore[arg-type]
        else:
            num_items = length_of(self.source, "batches" if plan is None else "samples")
        return num_items if plan is None or num_items is None else plan.num_batches(num_items)

    def length(self) -> int | None:
        """Return this rank's batches per epoch; None if it has no end, or nobody knows.

        Raises:
            TypeError: What gives the order has no length.
        """
        if self.is_stream:
            return self.epoch_batches
        total = self._total()
        return None if total is None else len(self.share.numbers(-1, total))

    def of_job(self) -> dict[str, Any]:
        """Return what the workers and their pipeline need of it."""
        skips, max_errors = self._options.on_error == "skip", self._options.max_errors
        shard = self.share.shard
        may_thread = self.plan is not None and not self.is_stream and may_be_threaded(self.source)
        return {
            "source": self.source, "samples": self.plan, "shard": shard, "skips": skips, "max_errors": max_errors,
            "may_thread": may_thread,
        }  # fmt: skip

    def schedule(self, seed: int, workers: int, backend: BackendName, *, barrier: bool) -> Schedule:
        """Return the schedule of a new stream."""
        if self.is_stream:
            return StreamSchedule(self._lane_share(workers, backend), epoch_batches=self.epoch_batches)
        if self.sampled is not None:
            self._drawn = DrawnSchedule(self.sampled.draw, barrier=barrier)
            return self._drawn
        shares = self.share.shard.world > 1
        if self.plan is not None:
            numbers = self.share.numbers if shares else None
            return EpochSchedule(self._total, seed, barrier=barrier, order_of=numbers)
        if not shares:
            return epoch_schedule(self.source, seed, shuffle=self._shuffle, barrier=barrier)
        source, numbers_of, shuffle = self.source, self.share.numbers, self._shuffle

        def order_of(epoch: int, length: int) -> Any:
            numbers = numbers_of(epoch, length)
            if length == ENDLESS:
                return numbers
            mine = np.arange(numbers.start, numbers.stop, numbers.step) % length  # the end is filled up from the start
            return permutation(seed, epoch, length)[mine] if shuffle else mine

        return EpochSchedule(lambda: length_of(source) or ENDLESS, seed, barrier=barrier, order_of=order_of)

    def _lane_share(self, workers: int, backend: BackendName) -> LaneShare:
        share = share_of(self.source, self.lanes, self._shard, workers, backend)
        if not self._has_told_of_idle:  # once, and not in each epoch
            self._has_told_of_idle = True
            warn_of_idle(share, self.lanes, workers)
        return share

    def state(self, place: Place, *, ordered: bool = True) -> dict[str, Any]:
        """Return a place of this rank as plain data that other numbers of ranks understand.

        But for the snapshots of lanes, which are as they came: see `mpqueue.loader.lane_states.plain`.

        Args:
            place: The place.
            ordered: Batches come in order; otherwise this rank knows nothing of what the others took out of turn.
        """
        state = as_state(place) if self.is_stream else self.share.to_global(place).as_dict()
        if self.plan is not None:
            state["batch_size"] = self.plan.batch_size
        is_of_its_rank = self.is_stream or (not ordered and (place.position or place.ahead))
        if is_of_its_rank and self.share.shard.world > 1:
            state["shard"] = list(self.share.shard)
        if self.is_stream:
            state["epoch_batches"] = self._epoch_batches_each
        if self.lanes is not None:
            state |= {"lanes": self.lanes, "shard": list(self.share.shard)}
            if has_lanes(self.source):
                state["shape"] = list(self.source.shape())
        if self.sampled is not None:
            mark = None if self._drawn is None else self._drawn.mark_at(place.epoch, place.position)
            state |= self.sampled.state_at(place.epoch, state["position"], mark)
        return state

    def saved_as(self) -> dict[str, Any]:
        """Return what a state says of the source and its order; nothing of a stream, which has a shape."""
        return {} if self.is_stream else {"length": length_now(self.source), "order": self._kind()}

    def _kind(self) -> str:
        """Return the kind of the order as a state has it. It stays the same where an ordered source grows."""
        if self.sampled is not None:
            return "sampler" if self._options.batch_sampler is None else "batch_sampler"
        if self._shuffle:
            return "shuffled"
        return str(self.source.order()) if self._is_described else IN_ORDER

    def _check_same(self, state: dict[str, Any], place: Place) -> None:
        """Raise a `ValueError` that shows both if the source or the order of a state is another one."""
        here = {"batch_size": None if self.plan is None else self.plan.batch_size}
        saved = {"batch_size": state.get("batch_size")}
        if not self.is_stream and "order" in state:
            here |= self.saved_as()
            saved |= {"length": state.get("length"), "order": state["order"]}
        if saved != here and not (
            saved | {"length": None} == here | {"length": None} and self._may_differ(state, here)
        ):
            raise ValueError(
                f"the state was saved with {_shown(saved)}, and this loader has {_shown(here)}. Load it into a loader "
                "of the same source, order and batch size"
            )
        if self.is_stream or self.sampled is not None or "source" in state:
            return
        total = self._total()
        if total is not None and place.position > total:
            raise ValueError(
                f"the state is behind batch {place.position} of an epoch, and the source of this loader has {total} "
                "batches: load it into a loader of the same source"
            )

    def _may_differ(self, state: dict[str, Any], here: dict[str, Any]) -> bool:
        """Return whether the length may be another one than in a state: the batches before its place are the same."""
        if "source" in state:
            return True  # the state of the source may change its length
        is_prefix = self.sampled is not None or here["order"].startswith(IN_ORDER)  # a sampler has a fingerprint
        return is_prefix and (here["length"] is None or (state.get("length") or math.inf) <= here["length"])

    def place_in(self, states: list[dict[str, Any]], workers: int, backend: BackendName) -> Place:
        """Return the place of this rank in a state of a stream, or in those of all ranks; of others that of all.

        Args:
            states: One, or those of all ranks at one moment.
            workers: How many there are here,
            backend: and where.

        Raises:
            TypeError: One is no state.
            ValueError: The states are of batches of another size, of another stream, or lack a part of it.
        """
        from mpqueue.loader.saved_states import place_of  # most loaders get no state

        places = [place_of(state) for state in states]
        for state, place in zip(states, places, strict=True):
            if self.is_stream and (place.position or place.ahead) and not place.counts:
                raise ValueError(
                    "the state is of a source with an index, and the source of this loader is a stream: a state goes "
                    "on with the source that it is of"
                )
            if not self.is_stream and (place.counts or "lanes" in state):
                raise ValueError(
                    "the state is of a stream, and the source of this loader has an index: a state goes on with the "
                    "source that it is of"
                )
        for state, place in zip(states, places, strict=True):
            self._check_same(state, place)
        if self.is_stream:
            for state in states:
                check_epoch_batches(state, self._epoch_batches_each, self.share.shard.world)
            return self._load_stream(states, places, self._lane_share(workers, backend))
        if any(place != places[0] for place in places):
            raise ValueError("the states are not of one moment: they tell of different places. Pass one of them")
        return places[0]

    def load(self, state: dict[str, Any], place: Place) -> Place:
        """Return the place of this rank at the one that `place_in` gave for a state, and go on from there."""
        if self.is_stream:
            return place
        self._warn_of_another_rank(tuple(state.get("shard", self.share.shard)))
        if self.sampled is not None:
            self._drawn = None
            self.sampled.load(place.epoch, place.position, state)
        place = self.share.go_to(place)
        return Place(place.epoch + 1) if self._is_over(place.epoch) else place

    def _load_stream(self, states: list[dict[str, Any]], places: list[Place], share: LaneShare) -> Place:
        places = [
            place._replace(starts=starts_in(state), ends=tuple(state.get("ends", ())))
            for state, place in zip(states, places, strict=True)
        ]
        if self.lanes is None:
            return self._load_workers(states, places, share)
        shape = list(self.source.shape()) if has_lanes(self.source) else None
        for state in states:
            check_shape(state.get("shape"), shape)
        place = place_in(states, places, share, self.share.shard)
        length = self.epoch_batches
        if length is not None and place.position >= length:  # of a world in which each rank had more of them
            place = place._replace(epoch=place.epoch + 1, position=0)
        return place

    def _load_workers(self, states: list[dict[str, Any]], places: list[Place], share: LaneShare) -> Place:
        """Return the place of a generator that has a lane for each worker."""
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
        if tuple(state.get("shard", (0, 1))) != self.share.shard:
            raise ValueError(
                f"the state is of a generator on rank and number of ranks {state.get('shard', [0, 1])}, and "
                f"this loader has {list(self.share.shard)}"
            )
        return place

    def _warn_of_another_rank(self, shard: tuple[int, int]) -> None:
        if shard == self.share.shard:
            return
        rank, world = shard
        warnings.warn(
            f"the state is of rank {rank} of {world} with ordered=False, and says nothing of what the other ranks took "
            "out of turn: batches of this epoch may come twice, or never. Load into each of as many ranks its own "
            "state; or save between epochs, or with ordered=True",
            UserWarning,
            stacklevel=outside_stacklevel(),
        )

    def _is_over(self, epoch: int) -> bool:
        """Return True if what is left of an epoch that was loaded is dropped."""
        if self.share.shard.world == 1:
            return False
        if self.sampled is None:
            return not self.share.numbers(epoch, self._total())
        return self.share.drops and self.sampled.is_over(epoch)


def _shown(saved: dict[str, Any]) -> str:
    """Return what a state says of a source and its order, in words."""
    words = [f"batch_size={saved['batch_size']}"]
    if "order" in saved:
        length = "no end" if saved["length"] is None else f"length {saved['length']}"
        words += [length, f'order "{saved["order"]}"']
    return ", ".join(words)
