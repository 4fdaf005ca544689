"""The place of a `DataLoader` in its data, as a state that another one goes on from.

A state says where a pass was begun (the state of the generator before the sampler's first draw, the sampler's own state
where it has one, the epoch that it was told of by ``set_epoch``) and how far it came. A loader that goes on draws the
same order again, and leaves out what was handed out. So it is small, and holds for any number of workers.

A stream tells of each of its lanes how many batches were handed out, and a snapshot that is not ahead of them, where it
has any. Both kinds go on with any number of workers. A `mpqueue.Dataset` has lanes that know nothing of workers. An
iterable-style dataset of torch's has a stream for each worker; a loader that goes on with its state keeps that number,
in the epochs to come as well, so that the order is that of the run before: more workers are idle, fewer have several.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch.utils.data import BatchSampler, SequentialSampler
from torch.utils.data.dataloader import _DatasetKind

from mpqueue.frameworks.torch.skipping import told_by_sampler
from mpqueue.frameworks.torch.streams import LanedSource, StreamDataset
from mpqueue.frameworks.torch.worker import LoaderParts
from mpqueue.loader.engine import Engine
from mpqueue.plan.cursors import Place
from mpqueue.plan.lane_states import as_state, check_epoch_batches, check_shape, place_in, plain, starts_in
from mpqueue.plan.plans import StreamPlan
from mpqueue.plan.sampler_state import Randomness
from mpqueue.plan.sources import DEFAULT_LANES
from mpqueue.telemetry.stats import Statistics

_VERSION = 1
_OF_TORCHDATA = frozenset({"_snapshot", "_sampler_iter_yielded"})  # names in the states of its loader
_OF_STREAMS = ("shape", "lanes", "shard", "epoch_batches")


class Beginning(NamedTuple):
    """The beginning of a pass.

    Attributes:
        base_seed: The random numbers of the workers follow from it.
        generator: State of the loader's generator, else of the default one, as `generator_state` returns it; None: the
            order needs none.
        sampler: State of the sampler; None: it has none.
        kept: States of the generators that a sampler without a state keeps.
        sampler_epoch: What the sampler was told by ``set_epoch``; None: nothing, or it does not keep it.
        shape: The stages of a `mpqueue.Dataset` that is a stream, a line for each;
        lanes: into how many it is divided, over all ranks;
        shard: the rank, and how many there are;
        epoch_batches: the number of batches of each epoch on each rank.
    """

    base_seed: int
    generator: Any
    sampler: Any
    kept: Any = None
    sampler_epoch: int | None = None
    shape: list[str] | None = None
    lanes: int = DEFAULT_LANES
    shard: Sequence[int] = (0, 1)
    epoch_batches: int | None = None


class State(NamedTuple):
    """The place in a pass.

    Attributes:
        beginning: Of the pass.
        place: How far it came.
        is_left: Nobody will ask for the rest of it: the next pass is the one to begin.
        is_over: Its end was asked for, so that its sampler has come to its own.
        is_new: The pass has not begun. Its beginning is that of the loader, before the seed of the workers is drawn.
    """

    beginning: Beginning
    place: Place
    is_left: bool = False
    is_over: bool = False
    is_new: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        if self.is_new:
            of = self.beginning
            return {
                "version": _VERSION, "place": None, "generator": of.generator, "sampler": of.sampler, "kept": of.kept,
            }  # fmt: skip
        found = {"version": _VERSION, **self.beginning._asdict(), "place": plain(as_state(self.place))}
        for name in _OF_STREAMS:
            if self.beginning.shape is None:
                del found[name]
        if self.beginning.shape is not None:
            found["shard"] = list(self.beginning.shard)
        return found | {name: True for name in ("is_left", "is_over") if getattr(self, name)}


class Pass:
    """One pass over the data, as its loader keeps it: not the iterator, which ends with its last reference.

    Args:
        beginning: Its beginning.
        place: Returns how far the consumer is.
        engine: That runs it; None: this process does.
        plan: Of a stream that never ends: the next pass goes on behind this one.

    Attributes:
        beginning: As given.
        is_over: All of it was handed out, and the loop over it has ended.
        before_step: The latest state that `DataLoader.state_dict` has returned; see `skipping.is_inside_step`.
    """

    def __init__(
        self,
        beginning: Beginning,
        place: Callable[[], Place],
        engine: Engine | None,
        plan: StreamPlan | None = None,
    ) -> None:
        self.is_over = False
        self.before_step: dict[str, Any] | None = None
        self.beginning, self._place, self._engine = beginning, place, engine
        self._plan = plan if plan is not None and plan.ends_by_count else None

    def as_dict(self, *, is_left: bool = False) -> dict[str, Any]:
        """Return the place as plain data."""
        if self._plan is not None:
            following = self.following()
            return (following if following is not None and is_left else State(self.beginning, self._place())).as_dict()
        return State(self.beginning, self._place(), is_left or self.is_over, self.is_over).as_dict()

    def following(self) -> State | None:
        """Return where the next pass of a stream that never ends begins; None: it is no such stream."""
        return None if self._plan is None else State(self.beginning, self._plan.after(self._place()))

    def statistics(self) -> Statistics:
        """Return the counters of its workers."""
        return Statistics() if self._engine is None else self._engine.statistics()

    def __reduce__(self) -> Any:
        # A subclass of a loader may copy its whole __dict__: the pass is this process's, and a copy has begun none.
        return type(None), ()


def state_of(saved: dict[str, Any]) -> State | None:
    """Read what `State.as_dict` returned; None: a state of before any pass, as older versions saved it.

    Raises:
        ValueError: It is no such state.
    """
    if isinstance(saved, dict) and not _OF_TORCHDATA.isdisjoint(saved):
        raise ValueError(
            "this state was saved by torchdata's StatefulDataLoader, without mpqueue, and tells of its own workers: "
            "load it without mpqueue.torch.install(), or begin with a checkpoint of the end of an epoch and no state "
            "of a loader"
        )
    if not isinstance(saved, dict) or saved.get("version") != _VERSION or "place" not in saved:
        raise ValueError(f"this is no state of a mpqueue.torch.DataLoader: {str(saved)[:100]}")
    if saved["place"] is None:
        generator = saved.get("generator")
        if generator is None:
            return None
        beginning = Beginning(0, generator, saved.get("sampler"), saved.get("kept"))
        return State(beginning, Place(), is_new=True)
    epoch, position, ahead, counts = (saved["place"][name] for name in Place._fields[:4])
    place = Place(epoch, position, tuple(ahead), tuple(counts))
    place = place._replace(starts=starts_in(saved["place"]), ends=tuple(saved["place"].get("ends", ())))
    beginning = Beginning(
        saved["base_seed"], saved["generator"], saved["sampler"], saved.get("kept"), saved.get("sampler_epoch"),
        saved.get("shape"),
        saved.get("lanes", DEFAULT_LANES), saved.get("shard", (0, 1)), saved.get("epoch_batches"),
    )  # fmt: skip
    return State(beginning, place, bool(saved.get("is_left")), bool(saved.get("is_over")))


def check_fit(loader: Any, saved: Any) -> None:
    """Raise a `ValueError` for a state that `state_of` reads, of another kind of dataset or of other epochs."""
    if saved["place"] is None:
        return
    place, name = saved["place"], type(loader.dataset).__name__
    is_stream = loader._dataset_kind == _DatasetKind.Iterable
    if is_stream != bool(place["counts"]) and (place["counts"] or place["position"]):
        of, here = ("an iterable-style", "map-style") if place["counts"] else ("a map-style", "iterable-style")
        raise ValueError(
            f"the state is of {of} dataset, and the dataset of this loader ({name}) is {here}. Load a state of a "
            "loader of the same dataset"
        )
    if not is_stream:
        return
    check_shape(saved.get("shape"), shape_of(loader))
    plan: StreamPlan | None = getattr(loader, "stream_plan", None)
    if plan is not None:
        check_epoch_batches(saved, plan.epoch_batches, plan.shard.world)


def shape_of(loader: Any) -> list[str] | None:
    """Return a line for each stage of the `mpqueue.Dataset` of a loader that is a stream; None: it is not one."""
    if not isinstance(loader.dataset, StreamDataset):
        return None
    parts = LoaderParts(
        loader.dataset, loader.collate_fn, None, 0, loader.num_workers, loader.batch_size, loader.drop_last,
        is_batched=loader._auto_collation,
    )  # fmt: skip
    return LanedSource(parts).shape()


def joined(states: Sequence[State | None], plan: StreamPlan | None) -> State | None:
    """Return the state of this rank out of one, or out of those of all ranks of a stream.

    Raises:
        ValueError: They are not of one moment; or lack a part of it, or have one twice; or of no stream.
    """
    if plan is None:
        if len(states) != 1:
            raise ValueError(
                f"load_state_dict got a list of {len(states)} states, which is for the ranks of a stream: pass the one "
                "of this rank"
            )
        return states[0]
    found = [state for state in states if state is not None and not state.is_new]
    if len(found) < len(states) or not states:
        if not found and states:
            return states[0]
        raise ValueError(
            f"of {len(states)} states {len(found)} are of a pass that is under way: pass what state_dict() gave on all "
            "ranks at one moment"
        )
    told = [
        {"seed": state.beginning.base_seed, "lanes": state.beginning.lanes, "shard": state.beginning.shard}
        for state in found
    ]
    place = place_in(told, [state.place for state in found], plan.share(), plan.shard)
    beginning = found[0].beginning._replace(lanes=plan.share().total, shard=plan.shard)
    return found[0]._replace(beginning=beginning, place=place)


def lanes_of(loader: Any) -> int:
    """Return how many streams the iterable-style dataset of a loader has: one for each worker, or as a state says."""
    resumed: State | None = getattr(loader, "resumed", None)
    counts = () if resumed is None or resumed.beginning.shape is not None else resumed.place.counts
    return len(counts) or getattr(loader, "num_lanes", 0) or max(1, loader.num_workers)


def generator_of(loader: Any) -> torch.Generator:
    """The generator that a loader draws its order from."""
    return torch.default_generator if loader.generator is None else loader.generator


def generator_state(generator: torch.Generator) -> str:
    """Return the state of a generator as a hexadecimal string, so that states can be compared and stored as JSON."""
    return str(generator.get_state().numpy().tobytes().hex())


def set_generator(generator: torch.Generator, saved: Any) -> None:
    """Put a generator into a state that `generator_state` returned; or into a tensor, which older versions saved."""
    if isinstance(saved, str):
        saved = torch.frombuffer(bytearray.fromhex(saved), dtype=torch.uint8)
    generator.set_state(saved)


def new(loader: Any) -> State:
    """Return the state of a loader that has not begun a pass.

    The epoch of a sampler is not part of it: the program sets it before each pass.
    """
    beginning = begin(loader, 0)._replace(generator=generator_state(generator_of(loader)), sampler_epoch=None)
    return State(beginning, Place(), is_new=True)


def settle(loader: Any, *, is_eager: bool = False) -> None:
    """Have a loader with a state of `new` go on from the first batch of the pass that begins there.

    Args:
        loader: The loader.
        is_eager: The order is drawn before the seed of the workers, if the sampler draws when it is iterated; see
            `InlineIterator`.
    """
    resumed: State | None = getattr(loader, "resumed", None)
    if resumed is None or not resumed.is_new:
        return
    with at_beginning(loader, resumed.beginning):
        before = begin(loader, 0)
        told = told_by_sampler(loader)
        iter(loader._index_sampler)  # as torch does before it draws the seed
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=loader.generator).item())
        after = begin(loader, seed)
    beginning = drawn_at(before, after) if is_eager else after
    if told is not None:
        beginning = beginning._replace(base_seed=told.seed)
    loader.resumed = State(beginning._replace(sampler_epoch=None), Place())


def drawn_at(before: Beginning, after: Beginning) -> Beginning:
    """Return where the order of a sampler begins that was iterated in between, and may have drawn then.

    Args:
        before: Before the sampler was iterated.
        after: After the seed of the workers was drawn.
    """
    is_drawn = not _gives_seed_first(before.generator, after.base_seed)
    return before._replace(base_seed=after.base_seed, generator=before.generator if is_drawn else after.generator)


def _gives_seed_first(saved: Any, seed: int) -> bool:
    """Return whether a generator in this state gives a loader's seed at once: no sampler has drawn from it before."""
    if saved is None:
        return True
    generator = torch.Generator()
    set_generator(generator, saved)
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item()) == seed


def begin(loader: Any, base_seed: int) -> Beginning:
    """Look at the state of things before a sampler is iterated."""
    # Of a loader with a sampler of batches of its own, torch sets `sampler` to one in order, which nobody asks.
    batches = loader.batch_sampler
    sampler = loader.sampler if batches is None else batches.sampler if type(batches) is BatchSampler else batches
    is_ordered = isinstance(sampler, SequentialSampler) and loader.generator is None
    # Ranks write their states into one file, and may differ in torch's generator.
    is_ordered = is_ordered or told_by_sampler(loader) is not None
    found = _randomness_of(loader).now()
    return Beginning(
        base_seed,
        None if is_ordered else generator_state(generator_of(loader)),
        found.get("sampler"),
        found.get("kept"),
        epoch_told(sampler_with_epoch(loader)),
    )


def sampler_with_epoch(loader: Any) -> Any:
    """Return the sampler of a loader that is told of epochs by ``set_epoch``, and keeps the number; None: none is."""
    # A sampler of batches often is a wrapper of one of samples, which has the order.
    for outer in (loader.batch_sampler, loader.sampler):
        for sampler in (outer, getattr(outer, "sampler", None)):
            if epoch_told(sampler) is not None:
                return sampler
    return None


def epoch_told(sampler: Any) -> int | None:
    """Return the epoch that a sampler was told of last; None: it is told of none, or does not keep it."""
    epoch = getattr(sampler, "epoch", None)
    return epoch if isinstance(epoch, int) and callable(getattr(sampler, "set_epoch", None)) else None


@contextmanager
def at_beginning(loader: Any, beginning: Beginning | None) -> Iterator[None]:
    """Put things into the state of an earlier beginning; the default generator is the trainer's, and put back."""
    if beginning is None:
        yield
        return
    generator = generator_of(loader)
    before = generator.get_state() if loader.generator is None else None
    if beginning.generator is not None:
        set_generator(generator, beginning.generator)
    told = None if beginning.sampler_epoch is None else sampler_with_epoch(loader)
    if told is not None:  # before its state, which says more
        told.set_epoch(beginning.sampler_epoch)
    found = {name: getattr(beginning, name) for name in ("sampler", "kept") if getattr(beginning, name) is not None}
    try:
        with _randomness_of(loader).restored(found):
            yield
    finally:
        if before is not None:
            generator.set_state(before)


def due(loader: Any) -> State | None:
    """Return where the first pass of an iterator goes on; None: it begins anew.

    A pass that was left goes with its workers, and the next one draws a seed for others; persistent ones keep theirs.
    """
    resumed: State | None = getattr(loader, "resumed", None)
    begun: Pass | None = getattr(loader, "_pass", None)
    if resumed is None and begun is not None and not loader.persistent_workers:
        resumed = loader.resumed = begun.following()
    if resumed is None or not resumed.is_left or loader.persistent_workers:
        return resumed
    leave(loader, resumed)
    loader.resumed = None
    return None


def leave(loader: Any, left: State) -> None:
    """Have a loader's own generator and sampler where they are when a pass was left: the next one draws on from there.

    With workers a sampler is ahead of what was handed out, and may have been asked for more than it has: torch's random
    ones draw once more then, as at the end of a pass.
    """
    beginning, place = left.beginning, left.place
    if place.counts:
        if beginning.shape is None:
            loader.num_lanes = len(place.counts)
        if loader.generator is not None and beginning.generator is not None:
            set_generator(loader.generator, beginning.generator)  # that the seed of the workers was drawn from
        return
    if loader.generator is None and beginning.sampler is None and beginning.kept is None:
        return
    num_drawn = None if left.is_over else place.position + loader.num_workers * (loader.prefetch_factor or 0)
    told = sampler_with_epoch(loader)
    epoch = epoch_told(told)
    with at_beginning(loader, beginning):
        deque(islice(loader._index_sampler, num_drawn), 0)
    if epoch is not None:
        told.set_epoch(epoch)  # the next one's, where the program tells of it before it begins


def _randomness_of(loader: Any) -> Randomness:
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    return Randomness(sampler, loader.dataset, generator_of(loader))
