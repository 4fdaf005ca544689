"""A `DataLoader`'s point in its data, as a state for resuming.

A state contains the beginning of a pass (the state of the generator before the sampler's first draw, the sampler's own
state if it has one, its epoch from ``set_epoch``) and the progress of the pass. A resumed loader draws the same order
again, and skips the batches that were returned. So a state is small, and valid for any number of workers.

For a stream, a state contains the number of returned batches of each lane, and a snapshot that is not ahead of them, if
there is one. Both kinds of streams can be resumed with any number of workers. The lanes of a `mpqueue.Dataset` do not
depend on workers. An iterable-style dataset of torch has one stream per worker. A loader that resumes from its state
keeps that number of streams, also in later epochs, so that the order is the same as in the original run: with more
workers, some are idle; with fewer, some run several streams.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils.data.dataloader import _DatasetKind

from mpqueue.errors import StateDamaged
from mpqueue.frameworks.torch.checks import has_own_workers
from mpqueue.frameworks.torch.order.balance import settings_of
from mpqueue.frameworks.torch.order.beginning import Beginning, set_generator
from mpqueue.frameworks.torch.order.order import DrawnBatches, batch_size_of, differs, order_of, saved_rank
from mpqueue.frameworks.torch.source.streams import LanedSource, StreamDataset
from mpqueue.frameworks.torch.source.worker import LoaderParts
from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.ids.history import History
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.cursors import Edit, ResumePoint
from mpqueue.plan.states.lane_states import as_state, check_epoch_batches, check_shape, plain, point_in, starts_in
from mpqueue.plan.states.saved_states import point_read_from
from mpqueue.system.program_streams import warn_caller
from mpqueue.telemetry.recorder import StartTally
from mpqueue.telemetry.stats import Statistics

_VERSION = 2
_STREAM_KEYS = ("shape", "lanes", "shard", "epoch_batches")
_OPTIONAL_KEYS = (*_STREAM_KEYS, "balance")  # keys that a state may lack


class State(NamedTuple):
    """The point in a pass.

    Attributes:
        beginning: The beginning of the pass.
        point: The progress of the pass.
        is_left: The rest of the pass will not be requested: the next pass follows.
        is_over: The end of the pass was requested, so its sampler is exhausted, too.
        is_new: The pass has not started. Its beginning is the loader's, before the seed of the workers is drawn.
        is_unknown: Torch's own workers run an earlier pass. Its point is unknown.
        drawn: The batches of a map-style dataset before the point.
    """

    beginning: Beginning
    point: ResumePoint
    is_left: bool = False
    is_over: bool = False
    is_new: bool = False
    is_unknown: bool = False
    drawn: DrawnBatches = DrawnBatches()

    def as_dict(self) -> dict[str, Any]:
        """Return the state as plain data."""
        point = None if self.is_new else plain(as_state(self.point))
        saved = {"version": _VERSION, **self.beginning._asdict(), "place": point}
        for name in _STREAM_KEYS:
            if self.beginning.shape is None:
                del saved[name]
        if self.beginning.balance is None:
            del saved["balance"]
        if self.is_new:
            del saved["base_seed"]  # not drawn yet
        if self.beginning.shape is not None:
            saved["shard"] = list(self.beginning.shard)
        if self.point.position and self.drawn.mark is not None:
            saved["drawn"] = self.drawn.mark
        if self.drawn.rank:
            saved["rank"] = self.drawn.rank
        return saved | {name: True for name in ("is_left", "is_over", "is_unknown") if getattr(self, name)}


class ReturnedBatch(NamedTuple):
    """A batch that a pass has returned.

    Attributes:
        position: Its position in the pass.
        ids: Returns the ids of its samples.
    """

    position: int
    ids: Callable[[], SampleIds]


class PassBatches(Protocol):
    """The batches of a pass.

    Attributes:
        epoch: The epoch that seeds the samples of a map-style dataset.
        first: The position of the first sample of the order.
    """

    epoch: int
    first: int

    @property
    def starts(self) -> StartTally | None:
        """The times at the starts of the workers' epochs; None without workers."""

    @property
    def order(self) -> Iterator[Any] | None:
        """The iterator of the sampler; None for an iterable-style dataset."""

    @property
    def num_returned(self) -> int:
        """The number of batches that the pass has returned in this process."""

    def point(self) -> ResumePoint:
        """Return the progress of the consumer."""

    def drawn(self, point: ResumePoint) -> DrawnBatches:
        """Return the batches that the sampler of a map-style dataset has returned before the present point."""

    def returned(self) -> ReturnedBatch | None:
        """Return the batch that was returned last; None: none."""

    def compute(self, listed: BatchSamples) -> Any:
        """Return a batch of a map-style dataset, computed again by this thread.

        Raises:
            Exception: The error of the dataset.
        """

    def exclude(self, edit: Edit | None) -> None:
        """Remove samples from all batches that were not returned yet."""

    def statistics(self) -> Statistics:
        """Return the counters of the workers."""


class Pass:
    """One pass over the data, as its loader stores it. With workers, it does not refer to the iterator.

    Args:
        beginning: The beginning of the pass.
        batches: Its batches.
        order: The order of an endless stream: the next pass continues after this one.

    Attributes:
        is_over: All batches were returned, and the loop over the pass is done.
        before_step: The latest state that `DataLoader.state_dict` has returned; see `accelerate.is_inside_step`.
    """

    def __init__(self, beginning: Beginning, batches: PassBatches, order: StreamOrder | None = None) -> None:
        self.is_over = False
        self.before_step: dict[str, Any] | None = None
        self.beginning, self.batches = beginning, batches
        self._order = None if order is None or order.epoch_batches is None else order

    def as_dict(self, *, is_left: bool = False) -> dict[str, Any]:
        """Return the state of the pass as plain data."""
        if self._order is not None:
            following = self.following() if is_left else None
            return (following or State(self.beginning, self.batches.point())).as_dict()
        point = self.batches.point()
        is_left = is_left or self.is_over
        return State(self.beginning, point, is_left, self.is_over, drawn=self.batches.drawn(point)).as_dict()

    def left(self) -> State:
        """Return where the pass is left."""
        return State(self.beginning, self.batches.point(), is_left=True, is_over=self.is_over)

    def following(self) -> State | None:
        """Return where the next pass of an endless stream begins; None: it is not such a stream."""
        return None if self._order is None else State(self.beginning, self._order.after(self.batches.point()))

    def __reduce__(self) -> Any:
        # A subclass of a loader may copy its whole __dict__. A pass belongs to this process, so a copy gets None.
        return type(None), ()


def state_of(saved: dict[str, Any]) -> State:
    """Read a state that `State.as_dict` returned.

    Raises:
        ValueError: It is not such a state.
        StateDamaged: It has changed since it was saved.
    """
    if not isinstance(saved, dict) or not saved.keys() >= {"version", "place"}:
        raise ValueError(
            f"expected a state of a mpqueue.torch.DataLoader, got {str(saved)[:100]}. A state that torchdata saved "
            "without mpqueue refers to its own workers: load it without mpqueue.torch.install()"
        )
    if saved["version"] != _VERSION:
        raise ValueError(
            f"the state of the mpqueue.torch.DataLoader has version {saved['version']}, and this release reads version "
            f"{_VERSION}: load the state with the release that saved it"
        )
    try:
        return _read(saved)
    except StateDamaged:
        raise
    except Exception as error:
        # The state has no checksum, so a damaged one must not fail only when the next pass begins.
        raise StateDamaged(
            f"the state of the mpqueue.torch.DataLoader is damaged ({type(error).__name__}: {error}): load an earlier "
            "checkpoint"
        ) from error


def _read(saved: dict[str, Any]) -> State:
    absent = {"base_seed": 0} if saved["place"] is None else {}
    names = [name for name in Beginning._fields if name in saved or name not in (*_OPTIONAL_KEYS, *absent)]
    beginning = Beginning(**absent | {name: saved[name] for name in names})
    if beginning.generator is not None:
        set_generator(torch.Generator(), beginning.generator)  # raises an error if it is not the state of a generator
    if saved["place"] is None:
        return State(beginning, ResumePoint(), is_new=True, is_unknown=bool(saved.get("is_unknown")))
    operator.index(saved["base_seed"])
    History(saved.get("history", ()))  # read later, by `questions.loaded`
    operator.index(saved.get("number", 0))
    point = point_read_from(saved["place"])
    point = point._replace(starts=starts_in(saved["place"]), ends=tuple(saved["place"].get("ends", ())))
    mark = saved.get("drawn")
    drawn = DrawnBatches(
        point.position, None if mark is None else operator.index(mark), operator.index(saved.get("rank", 0))
    )
    return State(beginning, point, bool(saved.get("is_left")), bool(saved.get("is_over")), drawn=drawn)


def check_fit(loader: Any, state: State, saved: dict[str, Any]) -> None:
    """Raise a `ValueError` if a state is for another kind of dataset, order or epochs; warn if its point is unknown.

    Args:
        loader: The loader.
        state: The state.
        saved: The dict that it was read from.
    """
    if state.is_unknown:
        warn_caller(
            "the state was saved after torch's own workers had begun a pass, whose place they do not report: the next "
            "pass begins from its start, and repeats the samples that were returned. To resume within a pass, use "
            "num_workers=0; or a dataset without data pipes and a multiprocessing_context without its own class of "
            "workers",
            UserWarning,
        )
    if state.is_new:
        return
    point, name = state.point, type(loader.dataset).__name__
    is_stream = loader._dataset_kind == _DatasetKind.Iterable
    if is_stream != bool(point.counts) and (point.counts or point.position):
        of, here = ("an iterable-style", "map-style") if point.counts else ("a map-style", "iterable-style")
        raise ValueError(
            f"the state was saved for {of} dataset, and the dataset of this loader ({name}) is {here}: load a state of "
            "a loader of the same dataset"
        )
    if is_stream:
        _check_methods(loader.dataset)
        check_shape(state.beginning.shape, shape_of(loader))
        order: StreamOrder | None = getattr(loader, "stream_order", None)
        if order is not None:
            check_epoch_batches(saved, order.epoch_batches, order.ranks.shard.world)
    _check_batches(loader, state)


def _check_methods(dataset: Any) -> None:
    """Raise a `ValueError` for a dataset that has a state but cannot load it: its counters would be lost."""
    if hasattr(dataset, "state_dict") and not hasattr(dataset, "load_state_dict"):
        raise ValueError(
            f"{type(dataset).__name__} has state_dict() but not load_state_dict(state), so it cannot be resumed from "
            "its state: add load_state_dict(state). Without both methods, it is read from its beginning, and the "
            "elements that were returned are dropped"
        )


def _check_batches(loader: Any, state: State) -> None:
    """Raise a `ValueError` if a state counts other batches than this loader."""
    if state.is_left or state.is_over or not (state.point.position or any(state.point.counts)):
        return
    if has_own_workers(loader):
        raise ValueError(
            f"the state was saved within a pass, and torch's own workers run {type(loader.dataset).__name__}, from the "
            "start only: load it into a loader with num_workers=0"
        )
    own = settings_of(loader)
    if state.beginning.balance != own:
        raise ValueError(
            f"the state was saved with balance {state.beginning.balance}, and this loader has {own}: samples of this "
            "epoch would be repeated or missing. Load it into a loader with the same balance and number of ranks"
        )
    here = {"batch_size": batch_size_of(loader), "order": order_of(loader)}
    then = {name: getattr(state.beginning, name) for name in here}
    size, order = then.values()
    is_same_rank = state.drawn.rank == saved_rank(loader)
    is_other = order is not None and differs(order, loader, is_same_rank=is_same_rank)
    if is_other or (None not in {size, here["batch_size"]} and size != here["batch_size"]):
        of, this = (", ".join(f"{name}={value!r}" for name, value in each.items()) for each in (then, here))
        raise ValueError(
            f"the state was saved with {of}, and this loader has {this}: samples of this epoch would be repeated or "
            "missing. Load it into a loader with the same dataset, sampler, generator and batch size"
        )


def shape_of(loader: Any) -> list[str] | None:
    """Return a description of each stage of a loader's `mpqueue.Dataset` that is a stream; None: it is not one."""
    if not isinstance(loader.dataset, StreamDataset):
        return None
    parts = LoaderParts(
        loader.dataset, loader.collate_fn, None, 0, loader.num_workers, loader.batch_size, loader.drop_last,
        is_batched=loader._auto_collation,
    )  # fmt: skip
    return LanedSource(parts).shape()


def joined(states: Sequence[State], order: StreamOrder | None) -> State:
    """Return the state of this rank, from one state or from the states of all ranks of a stream.

    Raises:
        ValueError: The states were not saved at one moment; or one is missing or repeated; or they are not of a stream.
    """
    if order is None:
        if len(states) != 1:
            raise ValueError(
                f"load_state_dict got a list of {len(states)} states, which only a stream with ranks accepts: pass the "
                "state of this rank"
            )
        return states[0]
    active = [state for state in states if not state.is_new]
    if len(active) < len(states) or not states:
        if not active and states:
            return states[0]
        raise ValueError(
            f"{len(active)} of {len(states)} states were saved within or after a pass: pass the states that "
            "state_dict() returned on all ranks at one moment"
        )
    facts = [
        {"seed": state.beginning.base_seed, "lanes": state.beginning.lanes, "shard": state.beginning.shard}
        for state in active
    ]
    share, shard = order.share(), order.ranks.shard
    point = point_in(facts, [state.point for state in active], share, shard)
    beginning = active[0].beginning._replace(lanes=share.total, shard=shard)
    return active[0]._replace(beginning=beginning, point=point)
