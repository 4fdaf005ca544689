"""Source classes: what the user passed, classified once, and the answers to all questions about it.

`mpqueue.plan.refused.recognise` finds the class. Everything that runs later (plans, engine, workers) asks these
objects, or nothing::

    Items       batches or samples by index: ``__getitem__`` and ``__len__`` (or Keras 3's ``num_batches``, where
                ``None`` means endless). No base class is required
    Lanes       a stream that opens its virtual shards by itself: an object with ``open_lane``
    Function    a stream: a callable without arguments that returns an iterator
    Iterator    a stream that can be run only once: a generator object, an iterator

A `mpqueue.Dataset` and the streams of `mpqueue.files` provide their own by ``__mpqueue_source__``, and the frontend
of torch makes its own.
"""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.plan.batching import Batching, Form
from mpqueue.plan.lanes import LaneShare
from mpqueue.plan.options import Options
from mpqueue.plan.ranks import Shard
from mpqueue.plan.refused import FRAMEWORKS, TWO_WAYS_OUT, Kind, has_num_batches, told_of_copies
from mpqueue.plan.sequence import Sequence
from mpqueue.system.callers import outside_stacklevel
from mpqueue.system.contents import name_of

IN_ORDER = "in order"
DEFAULT_LANES = 16
MAX_LANES = 1 << 16
_NUM_SHOWN = 4  # choices in an error

# Hooks of base classes, which do nothing; a source that inherits one has nothing to wait for.
_IDLE_HOOKS = {"Sequence.on_epoch_end", "PyDataset.on_epoch_end", "PyDataset.on_epoch_begin"}


class Source:
    """A source: the object that a user passed, classified.

    Args:
        given: The object that the user passed.
        runs: What workers run for it; None: the object itself.

    Attributes:
        given: As passed.
        runs: As passed.
        has_index: Its batches or samples are numbered, so that each can be computed by itself.
        can_replay: What was lost can be computed again.
        opens_lanes: It opens its virtual shards by itself.
        order: The kind of its order, as a saved state has it.
    """

    has_index: ClassVar[bool] = False
    can_replay: ClassVar[bool] = True
    opens_lanes: ClassVar[bool] = False
    order = IN_ORDER

    def __init__(self, given: Any, runs: Any = None) -> None:
        self.given, self.runs = given, given if runs is None else runs

    @property
    def name(self) -> str:
        """The name of its class, or of the function, for messages."""
        return name_of(self.runs)

    @property
    def title(self) -> str:
        """The name that is shown for it: of its class, or the qualified one of a function."""
        return getattr(self.runs, "__qualname__", type(self.runs).__name__)

    @property
    def can_mark(self) -> bool:
        """True if its virtual shards report which sample is being computed, see `mpqueue.worker.retry_markers`."""
        return getattr(self.runs, "can_mark", False) is True

    @property
    def can_resume(self) -> bool:
        """True if it has a ``load_state_dict``."""
        return hasattr(self.given, "load_state_dict")

    def remaining(self, options: Options) -> Options:
        """Return the options that remain for the plan: a dataset turns some into stages, and stages into others."""
        return options

    def form(self, batching: Batching | None) -> Form:
        """Return how workers run it."""
        raise NotImplementedError

    def length(self, of: str = "batches") -> int | None:
        """Return the number of batches (or samples) per epoch as it is now; None: endless, or unknown.

        Raises:
            ValueError: There would be no batch.
            TypeError: The source's own length is not an integer.
        """
        return None

    def length_now(self) -> int | None:
        """Return its length without any check; None: endless, or it has none."""
        return None

    def epoch_end(self) -> Callable[[], Any] | None:
        """Return its own ``on_epoch_end``; None: it has none, or only that of a base class, which does nothing."""
        return None

    def may_change(self) -> bool:
        """Return whether it has hooks of its own, and so may change between epochs."""
        return False

    def draw_order(self) -> None:
        """Have it draw its order now, if it would draw it in its first item, in each worker another one."""

    def why_not_threads(self, threads: int) -> str | None:
        """Return why several threads must not compute its samples, or would have no effect; None: they may."""
        return None

    def may_thread(self) -> bool:
        """Return whether several threads may compute its samples, as far as it declares it."""
        return False

    def check_workers(self, workers: int, *, in_processes: bool) -> None:
        """Raise a `ValueError` if these workers would each run the same elements."""

    def check_portable(self, workers: int, backend: BackendName, start_method: str) -> None:
        """Raise a `TypeError` for a part that worker processes cannot receive, before any is started."""

    def check_lanes(self, lanes: int | None, world: int) -> int | None:
        """Return the number of virtual shards over all ranks; None: one for each worker.

        Args:
            lanes: The number that was requested.
            world: The number of ranks.

        Raises:
            ValueError: There are too many, or the ranks cannot have equally many.
        """
        if lanes is None:
            return -(-DEFAULT_LANES // world) * world if self.opens_lanes else None
        if lanes > MAX_LANES:
            raise ValueError(
                f"lanes must be at most {MAX_LANES:,}, got {lanes}. Each lane has its own buffers and its own place in "
                "a state: pass a small multiple of the number of ranks, or leave out lanes"
            )
        if lanes % world:
            below = lanes // world * world
            choices = [number for number in range(below, below + world * _NUM_SHOWN, world) if number]
            raise ValueError(
                f"lanes={lanes} cannot be dealt to {world} ranks, of which each takes equally many: pass a multiple of "
                f"{world}, such as {', '.join(map(str, choices))}"
            )
        return lanes

    def share(self, lanes: int | None, shard: Shard, workers: int, backend: BackendName) -> LaneShare:
        """Return the virtual shards of one rank.

        Args:
            lanes: What `check_lanes` returned.
            shard: The rank.
            workers: How many run them here, if each has one of its own.
            backend: What runs them.
        """
        rank, world = shard
        if lanes is not None:
            return LaneShare(lanes // world, lanes, first=rank, step=world)
        here = self._lanes_here(workers, backend)
        return LaneShare(here, here * world, first=rank * here)

    def _lanes_here(self, workers: int, backend: BackendName) -> int:
        return max(1, workers)

    def shape(self) -> list[str] | None:
        """Return a line for each stage of a dataset; None: it has no stages."""
        return None

    def copies_warning(self, count: int, parts: str) -> str:
        """Return the warning for a stream that returned all of its elements in each part.

        Args:
            count: The number of parts.
            parts: What they are called: workers or lanes.
        """
        return told_of_copies(self.runs, count, parts)

    @property
    def has_state(self) -> bool:
        """True if it has a ``state_dict`` that belongs into a state of the loader."""
        return hasattr(self.given, "state_dict")


class Items(Source):
    """Batches or samples by index; with a sampler by any keys, and then a length is not needed."""

    has_index = True

    def form(self, batching: Batching | None) -> Form:
        """Return how workers run it."""
        if batching is None:
            return Form.ITEMS
        return Form.SAMPLES if batching.threads == 1 else Form.THREADED

    def length(self, of: str = "batches") -> int | None:
        """Return the number of batches (or samples) per epoch as it is now; None: endless."""
        source = self.runs
        if has_num_batches(source):
            length = source.num_batches
            if length is None:
                return None
            what = f"{self.name}.num_batches"
        else:
            what = f"len({self.name})"
            length = type(source).__len__(source)  # not len(): its errors name neither class nor value
        if isinstance(length, bool) or not hasattr(length, "__index__"):
            raise TypeError(f"{what} must be an integer number of {of}, got {length!r}")
        length = int(length)
        if not 1 <= length < 1 << 63:
            item = "batch" if of == "batches" else "sample"
            raise ValueError(f"{what} is {length}: a source needs at least one {item} per epoch, and fewer than 2**63")
        return length

    def length_now(self) -> int | None:
        """Return its length without any check; None: endless, or it has none."""
        source = self.runs
        if has_num_batches(source):
            length = source.num_batches
        else:
            length = type(source).__len__(source) if hasattr(type(source), "__len__") else None
        return None if length is None else int(length)

    def epoch_end(self) -> Callable[[], Any] | None:
        """Return its own ``on_epoch_end``; None: it has none, or only that of a base class, which does nothing."""
        return _own_hook(self.runs, "on_epoch_end")

    def may_change(self) -> bool:
        """Return whether it has an ``on_epoch_begin`` or ``on_epoch_end`` of its own."""
        return any(_own_hook(self.given, name) is not None for name in ("on_epoch_begin", "on_epoch_end"))

    def draw_order(self) -> None:
        """Draw the order of an iterator of Keras's ``ImageDataGenerator`` in the trainer, before it is sent.

        Each worker has a copy, which would draw its own order: some items would come twice and others not at all. Its
        `index_array` is None until `_set_index_array`. Orders of other sources are noticed by the workers; see
        `mpqueue.worker.shuffle_detection`.
        """
        for attribute, method in _LATE_ORDERS:
            if getattr(self.runs, attribute, 0) is None and hasattr(self.runs, method):
                getattr(self.runs, method)()
                return

    def why_not_threads(self, threads: int) -> str | None:
        """Return why several threads must not compute its samples, or would have no effect; None: they may.

        The attribute ``thread_safe`` of a source, or of its class, declares it. False: several threads must not call
        it. True: its ``__getitems__`` may be called by several threads at once, each for a part of a batch. If there is
        no such attribute, its ``__getitem__`` is called as the option requests.
        """
        for part in self._parts():
            is_safe, name = getattr(part, "thread_safe", None), type(part).__name__
            if is_safe is not None and not is_safe:
                return (
                    f"threads={threads}: {name} says that several threads must not ask it for samples (its thread_safe "
                    f"is {is_safe!r}). Use more workers instead"
                )
            if is_safe is None and hasattr(part, "__getitems__"):
                return (
                    f"threads={threads} would have no effect: {name} has __getitems__, which is asked for a whole "
                    "batch at once. If it may be called by several threads, each for a part of the batch, say so by an "
                    f"attribute of the {name}: thread_safe = True"
                )
        return None

    def may_thread(self) -> bool:
        """Return whether several threads may compute its samples, as far as it declares it."""
        return all(map(_may_thread, self._parts()))

    def _parts(self) -> list[Any]:
        """Return the objects whose ``__getitem__`` is called."""
        return [self.runs]


class Lanes(Source):
    """A stream that opens its virtual shards by itself: a `mpqueue.worker.lanes.LaneSource`."""

    opens_lanes = True

    def form(self, batching: Batching | None) -> Form:
        """Return how workers run it."""
        return Form.LANES

    def shape(self) -> list[str] | None:
        """Return a line for each stage of a dataset."""
        return list(self.runs.shape())

    def copies_warning(self, count: int, parts: str) -> str:
        """Return the warning for a stream that returned all of its elements in each part."""
        return told_of_copies(self.runs.streams[0], count, parts)


class Function(Source):
    """A stream: a callable without arguments that returns an iterator."""

    def form(self, batching: Batching | None) -> Form:
        """Return how workers run it."""
        return Form.FUNCTION

    @property
    def has_state(self) -> bool:
        """True for an object; a class has the states of what it returns, which lanes take in snapshots."""
        return super().has_state and not isinstance(self.given, type)


class TorchIterable(Function):
    """An iterable-style dataset of torch; workers run its ``__iter__``, and lanes take its states in snapshots."""

    has_state = False

    def __init__(self, given: Any) -> None:
        super().__init__(given, given.__iter__)

    def copies_warning(self, count: int, parts: str) -> str:
        """Return the warning for a stream that returned all of its elements in each part."""
        return told_of_copies(self.given, count, parts)


class Iterator(Source):
    """A stream that can be run only once: an iterator."""

    can_replay = False

    def form(self, batching: Batching | None) -> Form:
        """Return how workers run it."""
        return Form.ITERATOR

    def check_workers(self, workers: int, *, in_processes: bool) -> None:
        """Raise a `ValueError` if these workers would each run the same elements."""
        if in_processes and workers > 1:
            raise ValueError(
                f"the source is an iterator ({type(self.runs).__name__}), of which each of {workers} worker processes "
                f"would have a copy, so that every element came {workers} times. {TWO_WAYS_OUT}"
            )

    def check_lanes(self, lanes: int | None, world: int) -> int | None:
        """Raise a `ValueError` for a number of virtual shards: an iterator cannot be divided."""
        if lanes is not None and lanes <= MAX_LANES:
            raise ValueError(
                f"lanes={lanes} needs a source that can be run once for each lane, and an iterator "
                f"({type(self.runs).__name__}) is one stream: pass the generator function itself (a callable that "
                "returns a new iterator), or leave out lanes"
            )
        return super().check_lanes(lanes, world)

    def _lanes_here(self, workers: int, backend: BackendName) -> int:
        return max(1, workers) if kind_of(backend).in_processes else 1


SOURCES: dict[Kind, type[Source]] = {
    Kind.ITEMS: Items,
    Kind.LANES: Lanes,
    Kind.FUNCTION: Function,
    Kind.TORCH_ITERABLE: TorchIterable,
    Kind.ITERATOR: Iterator,
}

_LATE_ORDERS = (("index_array", "_set_index_array"), ("index_array", "__set_index_array__"))


def _may_thread(source: Any) -> bool:
    is_safe = getattr(source, "thread_safe", None)
    return not hasattr(source, "__getitems__") if is_safe is None else bool(is_safe)


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


def warn_of_unequal_ranks(shard: Shard, epoch_batches: int | None) -> None:
    """Warn, on the first of several ranks, where each may get another number of batches of a stream."""
    rank, world = shard
    if world > 1 and not rank and epoch_batches is None:
        warnings.warn(
            f"{world} ranks share a stream, and nobody knows how many batches each of them gets: where they wait "
            "for each other in every step, the one that gets more hangs. Pass epoch_batches=n for epochs of n "
            "batches on each rank",
            UserWarning,
            stacklevel=outside_stacklevel(),
        )


def warn_of_idle(share: LaneShare, lanes: int | None, workers: int) -> None:
    """Warn of workers that will never have anything to do: it looks as if nothing but more of them could help.

    Args:
        share: The virtual shards of this rank.
        lanes: Their number over all ranks; None: there is one for each worker.
        workers: How many run them.
    """
    here, world = share.num_lanes, share.step
    if lanes is None or workers <= here:
        return
    of = f", of which each of {world} ranks has {here}" if world > 1 else ""
    enough = -(-workers // here) * lanes
    warnings.warn(
        f"{workers} workers run a stream of {lanes} lanes{of}, and a lane is run by one worker at a time: "
        f"{workers - here} of them will have nothing to do. Pass workers={here}; or lanes={enough}, which is another "
        "order, and does not go on with states of this one",
        UserWarning,
        stacklevel=outside_stacklevel(),
    )
