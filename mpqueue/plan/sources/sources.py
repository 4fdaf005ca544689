"""Source classes: the user's object, classified once, with the answers to all questions about it.

`recognise` selects the class. All later code (plans, engine, workers) uses only the methods of
these classes::

    Items       batches or samples by index: ``__getitem__`` and ``__len__`` (or Keras 3's ``num_batches``, where
                ``None`` means endless). No base class is required
    Lanes       a stream that opens its lanes by itself: an object with ``open_lane``
    Function    a stream: a callable without arguments that returns an iterator
    Iterator    a stream that can be run only once: a generator object, an iterator

A `mpqueue.Dataset` and the streams of `mpqueue.files` provide their own source by ``__mpqueue_source__``. The frontend
of torch makes its own.
"""

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from functools import cached_property, partial
from inspect import isfunction
from typing import Any, ClassVar, NamedTuple

from mpqueue.plan.ids.batch_info import SampleId, SampleIds
from mpqueue.plan.ids.history import History
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.batching import Batching, RunnerKind
from mpqueue.plan.options.checks import is_integer
from mpqueue.plan.options.coroutines import has_coroutines
from mpqueue.plan.options.options import Options
from mpqueue.plan.options.validation import (
    FRAMEWORKS,
    SHARE_REMEDY,
    check_call,
    copies_message,
    has_num_batches,
    is_sequence,
    is_torch_iterable,
    reject_batches,
    reject_sequence,
    reject_stream,
    validate_source,
)
from mpqueue.plan.position.cursors import ENDLESS
from mpqueue.plan.position.lanes import LaneShare
from mpqueue.plan.position.ranks import Shard
from mpqueue.plan.sources.sequence import Sequence
from mpqueue.system.units import count_text
from mpqueue.system.user_code.object_walk import name_of, title_of

IN_ORDER = "in order"
DEFAULT_LANES = 16
MAX_LANES = 1 << 16

# Hooks of base classes, which are empty. A source that inherits one needs no barrier at the end of an epoch.
_IDLE_HOOKS = {"Sequence.on_epoch_end", "PyDataset.on_epoch_end", "PyDataset.on_epoch_begin"}

# The methods that draw `index_array`, the order of an iterator: those of Keras's ImageDataGenerator, and of aucmedi.
_DRAW_ORDER = ("_set_index_array", "__set_index_array__")


class CacheUse(NamedTuple):
    """A cache of a source, as this process uses it.

    Attributes:
        counts: Returns its counters, or None.
        release: Stops counting as a user of its folder, until the next use.
    """

    counts: Callable[[], Any]
    release: Callable[[], None]


class Source:
    """A source: the user's object, classified.

    Args:
        given: The object that the user passed.
        runs: The object that workers run; None: ``given``.

    Attributes:
        given: The object that the user passed.
        runs: The object that workers run.
        has_index: Batches or samples are numbered, so that each can be computed independently.
        can_replay: Lost batches can be computed again.
        opens_lanes: The source opens its lanes by itself.
        order: The kind of its order, for saved states.
    """

    has_index: ClassVar[bool] = False
    can_replay: ClassVar[bool] = True
    opens_lanes: ClassVar[bool] = False
    order = IN_ORDER

    def __init__(self, given: Any, runs: Any = None) -> None:
        self.given, self.runs = given, given if runs is None else runs

    @property
    def name(self) -> str:
        """The name of the class or function, for messages."""
        return name_of(self.runs)

    @property
    def title(self) -> str:
        """The name for displays: the qualified name of a function, or the name of the class."""
        return title_of(self.runs)

    @property
    def can_mark(self) -> bool:
        """True if lanes report which sample is being computed, see `mpqueue.worker.retry_markers`."""
        return getattr(self.runs, "can_mark", False) is True

    @property
    def can_resume(self) -> bool:
        """True if the source has a ``load_state_dict``."""
        return hasattr(self.given, "load_state_dict")

    @property
    def part_names(self) -> tuple[str | int, ...]:
        """The names of the parts of its mixtures; empty if it has none."""
        return ()

    @property
    def caches(self) -> dict[str, CacheUse]:
        """Its caches, by name: those of methods with `mpqueue.cached`."""
        return cached_methods(self.runs)

    def remaining(self, options: Options) -> Options:
        """Return the options for the plan: a dataset turns some options into stages, and some stages into options."""
        return options

    def form(self, batching: Batching | None) -> RunnerKind:
        """Return how workers run the source."""
        raise NotImplementedError

    def length(self) -> int | None:
        """Return the current number of items (batches or samples) per epoch; None: endless or unknown.

        Raises:
            ValueError: The source is empty.
            TypeError: The length of the source is not an integer.
        """
        return None

    def no_length(self) -> str:
        """Return the message for a caller that requests the number of batches, which is unknown."""
        return f"the source ({self.title}) is a stream, which has no length: epoch_batches=n sets one"

    def length_now(self) -> int | None:
        """Return the current length without any check; None: endless, or the source has no length."""
        return None

    def epoch_end(self) -> Callable[[], Any] | None:
        """Return the source's own ``on_epoch_end``; None: not defined, or inherited from a base class."""
        return None

    def may_change(self) -> bool:
        """Return whether the source has its own hooks, and so may change between epochs."""
        return False

    def draw_order(self) -> None:
        """Draw the order of sources in the style of Keras's iterators in the trainer, before they are sent.

        Otherwise the copy in each worker would draw its own order, and some items would be repeated and others missing.
        Workers detect such orders of other sources, see `mpqueue.worker.random_state.shuffle_detection`.
        """
        for part, name in self._drawn_late:
            if getattr(part, "index_array", 0) is None:
                getattr(part, name)()

    @cached_property
    def _drawn_late(self) -> list[tuple[Any, str]]:
        """The parts that may have no order yet, with the method that draws it."""
        late = [(part, next((name for name in _DRAW_ORDER if hasattr(part, name)), "")) for part in self._parts()]
        return [(part, name) for part, name in late if name]

    def _parts(self) -> list[Any]:
        """Return the objects whose ``__getitem__`` is called."""
        return []

    def searched(self) -> list[Any]:
        """Return the objects in which the search for shared state begins."""
        return [self.runs]

    def uses_coroutines(self, *, batches: bool) -> bool:
        """Return whether coroutines compute the samples, or batches, in an event loop."""
        return False

    def why_not_threads(self, threads: int) -> str | None:
        """Return why several threads cannot compute the samples, or would have no effect; None: they can."""
        return None

    def may_thread(self) -> bool:
        """Return whether the source declares that several threads may compute its samples."""
        return False

    def check_workers(self, workers: int, *, copies_source: bool) -> None:
        """Raise a `ValueError` if each of these workers would run the same elements."""

    def check_portable(self, workers: int, backend: BackendName, start_method: str) -> None:
        """Raise a `TypeError` if a part of the source cannot be sent to worker processes."""

    def check_lanes(self, lanes: int | None, world: int) -> int | None:
        """Return the number of lanes over all ranks; None: one per worker.

        Args:
            lanes: The requested number.
            world: The number of ranks.

        Raises:
            ValueError: There are too many, or they cannot be divided equally among the ranks.
        """
        if lanes is None:
            return -(-DEFAULT_LANES // world) * world if self.opens_lanes else None
        if lanes > MAX_LANES:
            raise ValueError(
                f"lanes must be at most {MAX_LANES:,}, got {lanes}: each lane has its own buffers and its own place in "
                "a state. Pass a small multiple of the number of ranks, or leave out lanes"
            )
        if lanes % world:
            raise ValueError(
                f"lanes must be a multiple of the number of ranks, got {lanes} for {world} ranks: pass a multiple of "
                f"{world}"
            )
        return lanes

    def share(self, lanes: int | None, shard: Shard, workers: int, backend: BackendName) -> LaneShare:
        """Return the lanes of one rank.

        Args:
            lanes: The result of `check_lanes`.
            shard: The rank.
            workers: Number of workers here, if each has one lane.
            backend: The backend of the workers.
        """
        rank, world = shard
        if lanes is not None:
            return LaneShare(lanes // world, lanes, first=rank, step=world)
        here = self._lanes_here(workers, backend)
        return LaneShare(here, here * world, first=rank * here)

    def _lanes_here(self, workers: int, backend: BackendName) -> int:
        return max(1, workers)

    def shape(self) -> list[str] | None:
        """Return a description of each stage of a dataset; None: the source has no stages."""
        return None

    def dropping(self, options: Options) -> str:
        """Return the option or the stage that drops short batches of a stream, for messages; empty if none does."""
        return "drop_last=True" if options.drop_last else ""

    def copies_warning(self, count: int, parts: str) -> str:
        """Return the warning for a stream that returned all of its elements in each worker or lane.

        Args:
            count: Number of workers or lanes.
            parts: "workers" or "lanes".
        """
        return copies_message(self.runs, count, parts)

    def sample_ids(
        self, indices: SequenceOf[Any], seed: int, epoch: int, without: frozenset[SampleId] = frozenset()
    ) -> list[SampleIds]:
        """Return the ids of the samples of each index, without computing them.

        Args:
            indices: The indices.
            seed: The seed of the run.
            epoch: The epoch.
            without: Ids of samples to leave out. An index without any other sample has no ids.
        """
        return [() if index in without else (index,) for index in indices]

    @property
    def are_indices_ids(self) -> bool:
        """True if the index of a sample is its id."""
        return type(self).sample_ids is Source.sample_ids

    def num_samples(self) -> int | None:
        """Return the number of ids from 0 on that samples have; None: unknown, or the ids are not such numbers."""
        return None

    def column(self, name: str) -> Any:
        """Return a column of the source as an array, indexed by the id of a sample.

        Raises:
            ValueError: The source has no such column.
        """
        from mpqueue.plan.sources.columns import column_of  # imported here: few programs need it

        return column_of(self.given, name)

    def check_ids(self, samples: SampleSet) -> None:
        """Raise a `ValueError` for a sample that the source does not have."""

    def follow(self, history: History) -> None:
        """Make the source leave out the excluded samples of a stream, and use the latest weights of a mixture.

        Its lanes must be opened again afterwards.

        Raises:
            ValueError: See `check_history`.
        """
        self.check_history(history)

    def check_history(self, history: History) -> None:
        """Check that the source can `follow` a history, without a change.

        Raises:
            TypeError: A weight has the wrong type.
            ValueError: The source cannot leave out samples, or has no mixture with such weights.
        """
        if history.excluded is not None and not self.has_index:
            raise self._no_exclusions()
        if history.weights():
            raise self._no_mixture()

    def _no_exclusions(self) -> ValueError:
        return ValueError(
            f"samples of {self.name} cannot be excluded, because it is not a Dataset: pass "
            "mpqueue.Dataset(function), with .batch(n) instead of batch_size"
        )

    def _no_mixture(self) -> ValueError:
        return ValueError(f"{self.name} has no mixture, so it has no weights: expected a mpqueue.Dataset with a mix")

    def checked_weights(self, weights: Any) -> Any:
        """Return new weights of the mixture as plain data.

        Raises:
            TypeError: They are not weights.
            ValueError: There is no mixture whose samples come in order, or the weights are not possible.
        """
        raise self._no_mixture()

    def samples_before(self, index: int) -> int:
        """Return the number of samples of the mixture that the elements before an index use."""
        raise NotImplementedError

    def most_empty(self) -> int:
        """Return the number of excluded items in a row after which the rest of an endless source is excluded, too."""
        return ENDLESS

    def length_in(self, epoch: int, seed: int) -> int | None:
        """Return the number of items of an epoch; None: endless or unknown. As `length`."""
        return self.length()

    def identified(self) -> "Source":
        """Return a stream whose elements are the ids of the samples of each element, or their number.

        Later exclusions and weights do not change it.
        """
        return self

    @property
    def has_state(self) -> bool:
        """True if the source has a ``state_dict`` that is part of the loader's state."""
        return hasattr(self.given, "state_dict")


class Items(Source):
    """Batches or samples by index. With a sampler, the indices may be any keys, and no length is needed."""

    has_index = True

    def form(self, batching: Batching | None) -> RunnerKind:
        """Return how workers run the source."""
        if self.uses_coroutines(batches=batching is None):
            return RunnerKind.COROUTINES
        if batching is None:
            return RunnerKind.ITEMS
        return RunnerKind.SAMPLES if batching.threads == 1 else RunnerKind.THREADED

    def length(self) -> int | None:
        """Return the current number of items per epoch; None: endless."""
        length = self._given_length()
        if length is None:
            return None
        origin = f"{self.name}.num_batches" if has_num_batches(self.runs) else f"len({self.name})"
        if not is_integer(length):
            raise TypeError(f"{origin} must be an integer, got {length!r}")
        length = int(length)
        if not 1 <= length < 1 << 63:
            if length == 0:
                raise ValueError(f"the source is empty: {origin} is 0, expected at least 1 item per epoch")
            raise ValueError(f"{origin} must be at least 1 item per epoch, and less than 2**63, got {length}")
        return length

    def num_samples(self) -> int | None:
        """Return the number of ids from 0 on that samples have; None: endless."""
        return self.length()

    def no_length(self) -> str:
        """Return the message for a caller that requests the number of batches, which is unknown."""
        return (
            f"the source ({self.name}) is endless and has no length: take(n) sets one, and epoch_batches=n sets that "
            "of a stream"
        )

    def length_now(self) -> int | None:
        """Return the current length without any check; None: endless, or the source has no length."""
        length = self._given_length() if is_sequence(self.runs) else None
        return None if length is None else int(length)

    def _given_length(self) -> Any:
        source = self.runs
        # Not len(): its errors contain neither the class nor the value.
        return source.num_batches if has_num_batches(source) else type(source).__len__(source)

    def epoch_end(self) -> Callable[[], Any] | None:
        """Return the source's own ``on_epoch_end``; None: not defined, or inherited from a base class."""
        hook = _own_hook(self.runs, "on_epoch_end")
        if hook is None or not self._drawn_late:
            return hook

        def end_epoch() -> None:
            hook()
            self.draw_order()  # the hook may have dropped the order

        return end_epoch

    def may_change(self) -> bool:
        """Return whether the source has its own ``on_epoch_begin`` or ``on_epoch_end``."""
        return any(_own_hook(self.given, name) is not None for name in ("on_epoch_begin", "on_epoch_end"))

    def uses_coroutines(self, *, batches: bool) -> bool:
        """Return whether coroutines compute the samples, or batches, in an event loop."""
        return has_coroutines(self.runs, batches=batches)

    def why_not_threads(self, threads: int) -> str | None:
        """Return why several threads cannot compute the samples, or would have no effect; None: they can.

        The attribute ``thread_safe`` of a source or its class declares it. If False, several threads must not call the
        source. If True, several threads may call its ``__getitems__`` at once, each for a part of a batch. Without the
        attribute, ``__getitem__`` is called by as many threads as requested.
        """
        for part in self._parts():
            is_safe, name = getattr(part, "thread_safe", None), type(part).__name__
            if is_safe is not None and not is_safe:
                return (
                    f"threads={threads} needs a thread-safe source, and {name}.thread_safe is {is_safe!r}: use more "
                    "workers instead"
                )
            if is_safe is None and hasattr(part, "__getitems__"):
                return (
                    f"threads={threads} would have no effect, because {name} has __getitems__, which is called for a "
                    "whole batch. If several threads may call it at once, each for a part of the batch, declare that "
                    f"by an attribute of {name}: thread_safe = True"
                )
        return None

    def may_thread(self) -> bool:
        """Return whether the source declares that several threads may compute its samples."""
        declared = ((part, getattr(part, "thread_safe", None)) for part in self._parts())
        return all(not hasattr(part, "__getitems__") if is_safe is None else is_safe for part, is_safe in declared)

    def _parts(self) -> list[Any]:
        return [self.runs]

    def check_ids(self, samples: SampleSet) -> None:
        """Raise a `ValueError` for a sample that the source does not have."""
        length = self.length_now()
        for sample in samples.ends():
            if type(sample) is not int:
                raise ValueError(f"{self.name} has no sample {sample!r}: its samples have indices")
            if length is not None and sample >= length:
                raise ValueError(f"{self.name} has no sample {sample}: it has {count_text(length, 'sample')}")


class Lanes(Source):
    """A stream that opens its lanes by itself: a `mpqueue.worker.runners.lanes.LaneSource`."""

    opens_lanes = True

    def form(self, batching: Batching | None) -> RunnerKind:
        """Return how workers run the source."""
        return RunnerKind.LANES

    def shape(self) -> list[str] | None:
        """Return a description of each stage of a dataset."""
        return list(self.runs.shape())

    def copies_warning(self, count: int, parts: str) -> str:
        """Return the warning for a stream that returned all of its elements in each worker or lane."""
        return copies_message(self.runs.streams[0], count, parts)


class Function(Source):
    """A stream: a callable without arguments that returns an iterator."""

    def form(self, batching: Batching | None) -> RunnerKind:
        """Return how workers run the source."""
        return RunnerKind.FUNCTION

    @property
    def has_state(self) -> bool:
        """True for an object with a ``state_dict``; states of a class's instances are in the snapshots of lanes."""
        return super().has_state and not isinstance(self.given, type)


class TorchIterable(Function):
    """An iterable-style dataset of torch. Workers run its ``__iter__``; snapshots of lanes contain its states."""

    has_state = False

    def __init__(self, given: Any) -> None:
        super().__init__(given, given.__iter__)

    def copies_warning(self, count: int, parts: str) -> str:
        """Return the warning for a stream that returned all of its elements in each worker or lane."""
        return copies_message(self.given, count, parts)


class Iterator(Source):
    """An iterator: a stream that can be run only once."""

    can_replay = False

    def form(self, batching: Batching | None) -> RunnerKind:
        """Return how workers run the source."""
        return RunnerKind.ITERATOR

    def check_workers(self, workers: int, *, copies_source: bool) -> None:
        """Raise a `ValueError` if each of these workers would run the same elements."""
        if copies_source and workers > 1:
            raise ValueError(
                f"the source is an iterator ({self.name}): each of {workers} worker processes would "
                f"have a copy, and every element would be repeated {workers} times. {SHARE_REMEDY}"
            )

    def check_lanes(self, lanes: int | None, world: int) -> int | None:
        """Raise a `ValueError` if a number of lanes was requested: an iterator cannot be divided."""
        if lanes is not None and lanes <= MAX_LANES:
            raise ValueError(
                f"lanes={lanes} needs a source that can be run once for each lane, and an iterator "
                f"({self.name}) is one stream: pass the generator function itself (a callable that "
                "returns a new iterator), or leave out lanes"
            )
        return super().check_lanes(lanes, world)

    def _lanes_here(self, workers: int, backend: BackendName) -> int:
        return max(1, workers) if kind_of(backend).copies_source else 1


def recognise(source: Any, *, samples: bool = False, sampled: bool = False, needs: str | None = None) -> type[Source]:
    """Return the class for an object that a user passed as a source.

    Args:
        source: The object that the user passed.
        samples: Items of the source are samples.
        sampled: A sampler provides the indices: no length is needed, and any keys are possible.
        needs: "index": only sources with an index are supported; "stream": only streams; None: both.

    Raises:
        TypeError: It is not a source, or not of the required kind.
        ValueError: Its items are batches, but must be samples.
    """
    has_index, opens_lanes = is_sequence(source), hasattr(type(source), "open_lane")
    is_stream = opens_lanes or callable(source) or hasattr(source, "__next__")
    if needs is None and is_torch_iterable(source):
        return TorchIterable
    if sampled and hasattr(type(source), "__getitem__") and not isinstance(source, tuple):
        return Items
    validate_source(source, "sample" if samples else "batch")
    if samples:
        reject_batches(source)
    if needs == "stream" and not is_stream:
        reject_stream(source)
    if needs == "index" and not has_index:
        reject_sequence(source, is_stream=is_stream)
    if has_index and needs != "stream" and (needs == "index" or not opens_lanes):
        return Items
    if not is_stream:
        reject_sequence(source, is_stream=False)
    if opens_lanes:
        return Lanes
    check_call(source)
    return Function if callable(source) else Iterator


def cached_methods(source: Any) -> dict[str, CacheUse]:
    """Return the caches of the methods of a source with `mpqueue.cached`, by name."""
    functions = [value for kind in type(source).__mro__ for value in vars(kind).values() if isfunction(value)]
    found = {each.__qualname__: cache_use(each, source) for each in functions}
    return {name: use for name, use in found.items() if use is not None}


def cache_use(function: Any, thing: Any) -> CacheUse | None:
    """Return the cache of a function with `mpqueue.cached`, for an object of its class; None for another function."""
    counts_of = getattr(function, "counts_of", None)
    return None if counts_of is None else CacheUse(partial(counts_of, thing), function.release)


def _own_hook(source: Any, name: str) -> Callable[[], Any] | None:
    hook = getattr(source, name, None)
    if not callable(hook):
        return None
    function = getattr(hook, "__func__", hook)
    if function is Sequence.on_epoch_end:
        return None
    package = (getattr(function, "__module__", None) or "").partition(".")[0]
    if package in FRAMEWORKS and getattr(function, "__qualname__", "") in _IDLE_HOOKS:
        return None
    checked: Callable[[], Any] = hook
    return checked
