"""Lanes of a generator function, or of anything that returns an iterator when it is called; and a bare iterator.

Each lane calls the function, whose code asks `mpqueue.worker_info` which share is its own. Where it goes on after an
interruption is for the function to say: a *state*, by ``state_dict()`` and ``load_state_dict(state)``, torch's
convention, of what it returned, or of the iterable-style dataset whose ``__iter__`` it is. (The dataset is copied for
each lane: it tells the state of one iterator.) Without a state a lane is run from its beginning, and what was handed
out before is dropped.

A bare iterator gives each element once: there is no way back, and so it is no lane that could be opened again.
"""

import copy
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any

from mpqueue.plan.batching import Batching
from mpqueue.plan.lanes import LaneStart
from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.system.locks import RLock
from mpqueue.telemetry.recorder import Stages
from mpqueue.worker import context
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.elements import Elements
from mpqueue.worker.failures import note_of, passes_at_once
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.runner import BeginBatch, StreamEnd


class GeneratorLane:
    """One lane.

    Args:
        source: The function.
        run: What the lane is opened with.
        number: Of the first element that it gives.
        plan: How elements become batches; None: each is one.
        seeding: Seeds the global generators when ``run.begin`` is called. If None, they are not seeded.

    Attributes:
        stages: Where the time for collation is noted; None: it is not timed.
        saves_first: Its first element is to be followed by a snapshot, because a lane that is opened elsewhere at its
            beginning may give other elements. What the function returned has this as an attribute.
    """

    def __init__(
        self, source: Any, run: LaneRun, number: int, plan: Batching | None, seeding: LazySeeding | None
    ) -> None:
        self._source, self._run, self._number, self._plan = source, run, number, plan
        self.stages: Stages | None = None
        self._elements = Elements(run, plan, seeding, source)
        self._holder: Any = None  # has the state
        self._epoch = run.epoch if run.state is None else run.state["epoch"]  # of an endless lane it grows
        self._is_empty = run.state is None
        self._open(None if run.state is None else run.state["state"])

    def _open(self, state: Any) -> None:
        run, source = self._run, self._source
        run.begin(run.seed, self._epoch, run.lane)
        dataset = getattr(source, "__self__", None) if getattr(source, "__name__", "") == "__iter__" else None
        if dataset is not None and has_state(dataset):
            dataset = copy.deepcopy(dataset)
            made, source = None, dataset.__iter__
        else:
            made = source()
            if not isinstance(made, Iterable) and not hasattr(made, "__getitem__"):
                raise TypeError(told_of_no_iterator(source, made))
            dataset = made if has_state(made) else None
        if dataset is not None and state is not None and not isinstance(made, Iterator):
            dataset.load_state_dict(state)
        self.saves_first = bool(getattr(made, "saves_first", False))
        iterator = iter(source() if made is None else made)
        self._holder = iterator if has_state(iterator) else dataset
        if isinstance(self._holder, Iterator) and state is not None:
            self._holder.load_state_dict(state)  # type: ignore[attr-defined]
        self._elements.iterator = iterator

    def next(self) -> Any:
        """Return the next element, or batch.

        Raises:
            StreamEnd: The iterator has ended.
            Exception: What it raised.
        """
        number, elements = self._number, self._elements
        self._number = number + 1
        while True:
            try:
                if self._plan is None:  # each call less is felt: tiny elements cost their worker 6 us
                    value = elements.element(self._epoch, number)
                else:
                    value = elements.next(self._epoch, number, self.stages)
            except StreamEnd:
                if not self._run.endless or self._is_empty:
                    raise
            else:
                self._is_empty = False
                return value
            self._epoch, self._is_empty = self._epoch + 1, True
            self._open(None)

    def save(self) -> Any:
        """Return the state of what was returned; None if it has none."""
        if self._holder is None or self._elements.iterator is None:
            return None
        state = self._holder.state_dict()
        return None if state is None else {"epoch": self._epoch, "state": state}


def told_of_no_iterator(source: Any, made: Any) -> str:
    """Return what is wrong with a generator function that returned what cannot be iterated."""
    name = getattr(source, "__qualname__", type(source).__name__)
    got = (
        "None: did you forget `yield`, or `return`?" if made is None else f"{type(made).__name__}: {reprlib.repr(made)}"
    )
    return f"the generator function {name} must return an iterator, got {got}"


def has_state(made: Any) -> bool:
    """Return whether something says where it is, by torch's convention, so that it can go on there.

    A stream of Hugging Face's behind its ``shuffle`` cannot: its state has no buffer, whose samples would be lost.
    """
    return hasattr(made, "state_dict") and hasattr(made, "load_state_dict") and not loses_buffer(made)


def loses_buffer(made: Any) -> bool:
    """Return whether this is a stream of Hugging Face's that is shuffled by a buffer; it is not imported for that."""
    stages = [getattr(made, "_ex_iterable", None)]
    for stage in stages:  # each has the one before it, or those that it mixes
        if type(stage).__name__ == "BufferShuffledExamplesIterable":
            return True
        stages += [each for each in (getattr(stage, "ex_iterable", None), *getattr(stage, "ex_iterables", ())) if each]
    return False


class IteratorRunner:
    """Runs a bare iterator, which workers that are threads may share.

    Args:
        source: The iterator.
        info: The worker.
        begin: Called with (seed, epoch, number) before an element.
        plan: How elements become batches; None: each is one.
        num_lanes: As many iterators there are, of all ranks.
        in_slot: A batch is written into a slot.
        seeding: Seeds the global generators when ``begin`` is called. If None, they are not seeded.

    Attributes:
        stages: Where the parts of its time are noted; None: it is not timed.
    """

    def __init__(
        self, source: Any, info: WorkerInfo, begin: BeginBatch, plan: Batching | None, *,
        num_lanes: int, in_slot: bool, seeding: LazySeeding | None,
    ) -> None:  # fmt: skip
        self.stages: Stages | None = None
        self._source, self._info, self._plan, self._num_lanes = source, info, plan, num_lanes
        run = LaneRun(info.shard_id, num_lanes, info.seed, 0, begin, in_slot=in_slot)
        self._elements = Elements(run, plan, seeding, source)
        self._lock = RLock()  # a batch is a run of elements
        self._has_begun = False
        self._epoch = -1

    @property
    def is_shared(self) -> bool:
        """True if its code has asked which worker it is in."""
        return context.has_asked()

    def note(self, unit: int, epoch: int) -> str:
        """The note of an exception that `run` raised."""
        return note_of(unit // self._num_lanes, epoch, self._info)

    def load(self, source: Any) -> None:
        """There is no other source: an iterator is never sent anew."""

    def is_at(self, epoch: int, unit: int) -> bool:  # noqa: ARG002 - there is no other place to go to
        """Return True if `run` needs no start: always, once it has begun."""
        return self._has_begun

    def run(self, epoch: int, unit: int, start: Any = None) -> Any:
        """Return the next element, or batch.

        Args:
            epoch: Of the element.
            unit: Its number in the stream.
            start: A `LaneStart`, where nothing was taken of the iterator by now: it is at the element of this number.

        Raises:
            StreamEnd: It has ended.
            Exception: What the iterator raised.
        """
        number = unit // self._num_lanes
        if self._plan is None and self._has_begun and epoch == self._epoch:
            return self._elements.next(epoch, number, self.stages)
        with self._lock:
            self._begin(epoch, number, start)
            return self._elements.next(epoch, number, self.stages)

    def _begin(self, epoch: int, number: int, start: LaneStart | None) -> None:
        """Begin an epoch; the first time drop what was handed out before, as the state that was loaded says."""
        if epoch != self._epoch:
            self._epoch, self._elements.iterator = epoch, self._source
        if self._has_begun:
            return
        self._has_begun = True
        for dropped in range(number if start is None else number - start.number):
            try:
                self._elements.next(epoch, dropped, None)
            except StreamEnd:
                break
            except (Exception, SystemExit) as error:
                if passes_at_once(error):
                    raise
                continue  # it was raised for the consumer at its place
