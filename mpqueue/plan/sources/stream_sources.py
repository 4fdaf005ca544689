"""Streams: sources of elements without indices, taken from virtual shards ("lanes").

::

    Lanes          a stream that opens its lanes by itself: an object with ``open_lane``
    Function       a stream: a callable without arguments that returns an iterator
    TorchIterable  an iterable-style dataset of torch
    Iterator       a stream that can be run only once: a generator object, an iterator
"""

from typing import Any, ClassVar

from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.batching import Batching, RunnerKind
from mpqueue.plan.options.options import Options
from mpqueue.plan.options.validation import SHARE_REMEDY, copies_message
from mpqueue.plan.position.lanes import LaneShare
from mpqueue.plan.position.ranks import Shard
from mpqueue.plan.sources.sources import Source

DEFAULT_LANES = 16
MAX_LANES = 1 << 16


class AnyStream(Source):
    """A stream: the base class of all kinds.

    Attributes:
        opens_lanes: The source opens its lanes by itself.
    """

    opens_lanes: ClassVar[bool] = False

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

    def identified(self) -> "AnyStream":
        """Return a stream of the sample ids of each element, or of their number.

        Later exclusions and weights do not change it.
        """
        return self


class Lanes(AnyStream):
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


class Function(AnyStream):
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


class Iterator(AnyStream):
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
