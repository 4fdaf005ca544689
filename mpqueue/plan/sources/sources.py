"""Source classes: the user's object, classified once, with the answers to all questions about it.

`mpqueue.plan.sources.recognise.recognise` selects the class. All later code (plans, engine, workers) uses only the
methods of these classes::

    Items          batches or samples by index: ``__getitem__`` and ``__len__`` (or Keras 3's ``num_batches``, where
                   ``None`` means endless). No base class is required
    AnyStream      streams, see `mpqueue.plan.sources.stream_sources`

A `mpqueue.Dataset` and the streams of `mpqueue.files` provide their own source by ``__mpqueue_source__``. The frontend
of torch makes its own.
"""

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from functools import cached_property, partial
from inspect import isfunction
from typing import Any, ClassVar, NamedTuple

from mpqueue.plan.ids.batch_info import SampleId, SampleIds
from mpqueue.plan.ids.batch_samples import ENDLESS
from mpqueue.plan.ids.history import History
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.options.batching import Batching, RunnerKind
from mpqueue.plan.options.checks import is_integer
from mpqueue.plan.options.coroutines import has_coroutines
from mpqueue.plan.options.options import Options
from mpqueue.plan.options.validation import FRAMEWORKS, has_num_batches, is_sequence
from mpqueue.plan.sources.sequence import Sequence
from mpqueue.system.units import count_text
from mpqueue.system.user_code.object_walk import name_of, title_of

IN_ORDER = "in order"

# Hooks of base classes, which are empty. A source that inherits one needs no barrier at the end of an epoch.
_IDLE_HOOKS = {"Sequence.on_epoch_end", "PyDataset.on_epoch_end", "PyDataset.on_epoch_begin"}

# The methods that draw `index_array`, the order of an iterator: methods of Keras's ImageDataGenerator, and of aucmedi.
_DRAW_ORDER = ("_set_index_array", "__set_index_array__")


class CacheUse(NamedTuple):
    """A cache of a source, as this process uses it.

    Attributes:
        counts: Returns its counters, or None.
        release: Stops counting as a user of its folder, until the next use.
    """

    counts: Callable[[], Any]
    release: Callable[[], None]


class SourceParts:
    """The objects with the ``__getitem__`` that computes the items of a source.

    Args:
        objects: The objects.
    """

    def __init__(self, objects: SequenceOf[Any]) -> None:
        self._objects = objects

    @cached_property
    def _drawn_late(self) -> list[tuple[Any, str]]:
        """The objects that may have no order yet, with the method that draws it."""
        late = [(part, next((name for name in _DRAW_ORDER if hasattr(part, name)), "")) for part in self._objects]
        return [(part, name) for part, name in late if name]

    def draw_order(self) -> None:
        """Draw the order of sources in the style of Keras's iterators in the trainer, before they are sent.

        Otherwise the copy in each worker would draw its own order, and some items would be repeated and others missing.
        Workers detect such orders of other sources, see `mpqueue.worker.random_state.shuffle_detection`.
        """
        for part, name in self._drawn_late:
            if getattr(part, "index_array", 0) is None:
                getattr(part, name)()

    def drawing_after(self, hook: Callable[[], Any]) -> Callable[[], Any]:
        """Return a hook that draws the order again, because it may drop the order."""
        if not self._drawn_late:
            return hook

        def end_epoch() -> None:
            hook()
            self.draw_order()

        return end_epoch

    def why_not_threads(self, threads: int) -> str | None:
        """Return why several threads cannot compute the samples, or would have no effect; None: they can.

        The attribute ``thread_safe`` of a source or its class declares it. If False, several threads must not call the
        source. If True, several threads may call its ``__getitems__`` at once, each for a part of a batch. Without the
        attribute, ``__getitem__`` is called by as many threads as requested.
        """
        for part in self._objects:
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
        declared = ((part, getattr(part, "thread_safe", None)) for part in self._objects)
        return all(not hasattr(part, "__getitems__") if is_safe is None else is_safe for part, is_safe in declared)


class ItemIds:
    """The ids of the samples of the items of a source: here, the index of a sample is its id.

    Args:
        source: The source.

    Attributes:
        are_indices: The index of a sample is its id.
    """

    are_indices: ClassVar[bool] = True

    def __init__(self, source: "Items") -> None:
        self._source = source

    def of(
        self, indices: SequenceOf[Any], seed: int, epoch: int, without: frozenset[SampleId] = frozenset()
    ) -> list[SampleIds]:
        """Return the ids of the samples of each index, without computing them.

        Args:
            indices: The indices.
            seed: The seed of the run.
            epoch: The epoch.
            without: Ids of samples to exclude. An index without any other sample has no ids.
        """
        return [() if index in without else (index,) for index in indices]

    def count(self) -> int | None:
        """Return the number of ids from 0 on that samples have; None: unknown, or the ids are not such numbers."""
        return self._source.length()

    def column(self, name: str) -> Any:
        """Return a column of the source as an array, indexed by the id of a sample.

        Raises:
            ValueError: The source has no such column.
        """
        from mpqueue.plan.sources.columns import column_of  # imported here: few programs need it

        return column_of(self._source.given, name)


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
        order: The kind of its order, for saved states.
    """

    has_index: ClassVar[bool] = False
    can_replay: ClassVar[bool] = True
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
    def has_state(self) -> bool:
        """True if the source has a ``state_dict`` that is part of the loader's state."""
        return hasattr(self.given, "state_dict")

    @property
    def part_names(self) -> tuple[str | int, ...]:
        """The names of the parts of its mixtures; empty if it has no mixture."""
        return ()

    @property
    def caches(self) -> dict[str, CacheUse]:
        """Its caches, by name: the caches of methods with `mpqueue.cached`."""
        return cached_methods(self.runs)

    def remaining(self, options: Options) -> Options:
        """Return the options for the plan: a dataset turns some options into stages, and some stages into options."""
        return options

    def form(self, batching: Batching | None) -> RunnerKind:
        """Return how workers run the source."""
        raise NotImplementedError

    def no_length(self) -> str:
        """Return the message for a caller that requests the number of batches, which is unknown."""
        return f"the source ({self.title}) is a stream, which has no length: epoch_batches=n sets one"

    def epoch_end(self) -> Callable[[], Any] | None:
        """Return the source's own ``on_epoch_end``; None: not defined, or inherited from a base class."""
        return None

    @cached_property
    def parts(self) -> SourceParts:
        """The objects with the ``__getitem__`` that is called."""
        return SourceParts([])

    def searched(self) -> list[Any]:
        """Return the objects where the search for shared state begins."""
        return [self.runs]

    def uses_coroutines(self, *, batches: bool) -> bool:
        """Return whether coroutines compute the samples, or batches, in an event loop."""
        return False

    def check_workers(self, workers: int, *, copies_source: bool) -> None:
        """Raise a `ValueError` if each of these workers would run the same elements."""

    def check_portable(self, workers: int, backend: BackendName, start_method: str) -> None:
        """Raise a `TypeError` if a part of the source cannot be sent to worker processes."""

    def check_ids(self, samples: SampleSet) -> None:
        """Raise a `ValueError` for a sample that the source does not have."""

    def follow(self, history: History) -> None:
        """Make the source exclude samples of a stream, and use the latest weights of a mixture.

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
            raise ValueError(
                f"samples of {self.name} cannot be excluded, because it is not a Dataset: pass "
                "mpqueue.Dataset(function), with .batch(n) instead of batch_size"
            )
        for entry in history.weights():
            self.checked_weights(entry["weights"])

    def checked_weights(self, weights: Any) -> Any:
        """Return new weights of the mixture as plain data.

        Raises:
            TypeError: They are not weights.
            ValueError: There is no mixture with its samples in order, or the weights are not possible.
        """
        raise ValueError(f"{self.name} has no mixture, so it has no weights: expected a mpqueue.Dataset with a mix")


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
        length = _length_of(self.runs)
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

    def length_in(self, epoch: int, seed: int) -> int | None:
        """Return the number of items of an epoch; None: endless. As `length`."""
        return self.length()

    def no_length(self) -> str:
        """Return the message for a caller that requests the number of batches, which is unknown."""
        return (
            f"the source ({self.name}) is endless and has no length: take(n) sets one, and epoch_batches=n sets that "
            "of a stream"
        )

    def length_now(self) -> int | None:
        """Return the current length without any check; None: endless, or the source has no length."""
        length = _length_of(self.runs) if is_sequence(self.runs) else None
        return None if length is None else int(length)

    def epoch_end(self) -> Callable[[], Any] | None:
        """Return the source's own ``on_epoch_end``; None: not defined, or inherited from a base class."""
        hook = _own_hook(self.runs, "on_epoch_end")
        return None if hook is None else self.parts.drawing_after(hook)

    def may_change(self) -> bool:
        """Return whether the source has its own ``on_epoch_begin`` or ``on_epoch_end``."""
        return any(_own_hook(self.given, name) is not None for name in ("on_epoch_begin", "on_epoch_end"))

    def uses_coroutines(self, *, batches: bool) -> bool:
        """Return whether coroutines compute the samples, or batches, in an event loop."""
        return has_coroutines(self.runs, batches=batches)

    @cached_property
    def parts(self) -> SourceParts:
        """The object."""
        return SourceParts([self.runs])

    @cached_property
    def ids(self) -> ItemIds:
        """The ids of the samples."""
        return ItemIds(self)

    def samples_before(self, index: int) -> int:
        """Return the number of samples of the mixture that the elements before an index use."""
        raise NotImplementedError

    def most_empty(self) -> int:
        """Return the number of excluded items in a row after which the rest of an endless source is excluded, too."""
        return ENDLESS

    def check_ids(self, samples: SampleSet) -> None:
        """Raise a `ValueError` for a sample that the source does not have."""
        length = self.length_now()
        for sample in samples.ends():
            if type(sample) is not int:
                raise ValueError(f"{self.name} has no sample {sample!r}: its samples have indices")
            if length is not None and sample >= length:
                raise ValueError(f"{self.name} has no sample {sample}: it has {count_text(length, 'sample')}")


def _length_of(source: Any) -> Any:
    # Not len(): its errors contain neither the class nor the value.
    return source.num_batches if has_num_batches(source) else type(source).__len__(source)


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
