"""Streams in lanes: the protocol between a worker and the source of a stream.

A stream is divided into *lanes* (virtual shards), each with its own order. Its elements are taken from the lanes in
turn, so their order depends neither on the number of workers nor on the number of ranks. A worker opens a lane with a
`LaneRun` and requests one element after the other. Now and then it requests a *snapshot* of the position, which goes to
the trainer with an element. After a worker crash, a move to another worker or a resume, the lane is opened again from
its last snapshot, in any worker: the elements between the snapshot and the position are computed again, and dropped.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mpqueue.engine.skips import Skipped
from mpqueue.worker.retry_markers import Marker, RetryBegin
from mpqueue.worker.runners.runner import BeginBatch

if TYPE_CHECKING:
    from mpqueue.worker.runners.fixed_seeds import FixedSeeds


class ReadAhead:
    """Whether the stages of a lane may read ahead now; see `mpqueue.dataset.lanes.ahead`.

    Attributes:
        is_on: They may.
    """

    is_on = True


class _NoGate:
    keep = None

    def inner(self, _: Any) -> "_NoGate":
        return self


_OPEN = _NoGate()


class LaneRun(NamedTuple):
    """The arguments with which a lane is opened.

    Attributes:
        lane: Index of the lane over all ranks.
        num_lanes: Number of lanes over all ranks.
        seed: Seed of the random numbers.
        epoch: Epoch of the random numbers.
        begin: Called with (seed, epoch, position) before a sample: it sets `mpqueue.rng` and the global generators.
        skip: Called for each sample that is skipped because of an error. If None, errors are raised.
        in_slot: Batches are written into a slot.
        state: A result of `Lane.save`; None if the lane starts at its first element.
        endless: The dataset restarts as its next epoch whenever it ends.
        marker: Reports each sample before it is computed; None if samples are not reported. A lane that can skip a
            single sample starts its samples by a `mpqueue.worker.retry_markers.RetryBegin`.
        base: For a part of a dataset: number of stages of the whole dataset before the part.
        zero: The index of the stage of the whole dataset that shares its random numbers with stage 0: the first stage
            of a part that ends in a cache.
        keep: Returns for each element, by the ids of its samples, whether it is not excluded; None: all are kept.
        runs_ahead: Stages may compute elements before they are requested.
        fixed: The random numbers of elements before a cache; None for other elements.
        first_index: The index of the first element that the lane returns.
        ahead: Whether its stages may read ahead now.
        gate: The samples that are excluded since an element of the lane; see `mpqueue.dataset.lanes.gates`.
        weights: The new weights of a mix that hold now, the latest last; the lane adds to them.
        raised: The ids of the samples of an element that raised, by (epoch, index of the stage, token). Elements of
            an earlier pass may be held, although its stages are closed. None: each stage has its own.
    """

    lane: int
    num_lanes: int
    seed: int
    epoch: int
    begin: BeginBatch
    skip: Callable[[Skipped], None] | None = None
    in_slot: bool = False
    state: Any = None
    endless: bool = False
    marker: Marker | None = None
    base: int = 0
    zero: int = 0
    keep: Callable[[Sequence[Any]], list[bool]] | None = None
    runs_ahead: bool = True
    fixed: "FixedSeeds | None" = None
    first_index: int = 0
    gate: Any = _OPEN
    weights: Sequence[Any] = ()
    ahead: ReadAhead = ReadAhead()
    raised: dict[tuple[int, int, Any], list[Any]] | None = None

    @property
    def is_single(self) -> bool:
        """True if samples must be computed one by one; see `mpqueue.worker.retry_markers`."""
        return type(self.begin) is RetryBegin and self.begin.is_single

    @property
    def may_run_ahead(self) -> bool:
        """True to read ahead of the requested elements now."""
        return self.runs_ahead and (type(self.begin) is not RetryBegin or self.begin.runs_ahead)

    @property
    def is_alone(self) -> bool:
        """True while an element has a retry marker: a crash must not be attributed to another element."""
        return type(self.begin) is RetryBegin and not self.begin.runs_ahead


def share_of(count: int, run: LaneRun) -> int:
    """Return a lane's share of the first ``count`` elements of a stream."""
    return max(0, -(-(count - run.lane) // run.num_lanes))


class Lane(Protocol):
    """An open lane, at one of its elements.

    A lane may have a method ``counts()`` that reports the work of its stages: rows (name, elements in, elements out,
    nanoseconds, waiting nanoseconds), which only grow.
    """

    def next(self) -> Any:
        """Return the next element.

        Raises:
            StreamEnd: The lane is exhausted; raised again by each later call.
            Exception: Replaces an element; the next call returns the element after it.
        """

    def save(self) -> Any:
        """Return the position, or None if the lane cannot save it.

        After pickling and unpickling it is plain data (None, bool, int, float, str, bytes, list, dict).
        """


class LaneSource(Protocol):
    """A source with lanes.

    A source that reads generator functions or iterable-style datasets, where each lane must select its own share, has
    them in a list ``streams``. If their code never requests the index of its lane, every lane yields all elements.
    """

    def open_lane(self, run: LaneRun) -> Lane:
        """Open a lane, at its beginning or at the position ``run.state``.

        Raises:
            ValueError: The state belongs to another source.
        """

    def shape(self) -> list[str]:
        """Return a line for each stage: its name, arguments, lengths. A state fits only sources of the same shape."""
