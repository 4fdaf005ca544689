"""Lanes of a generator function, or of any callable that returns an iterator; and plain iterators.

Each lane calls the function, and its code calls `mpqueue.worker_info` to select its share. After a restart a lane
continues from a *state*, if the function supports that by torch's convention, ``state_dict()`` and
``load_state_dict(state)``. These are methods of the returned iterator, or of the iterable-style dataset that owns the
``__iter__``. (The dataset is copied for each lane, because it has the state of one iterator.) Without a state, a lane
runs from its beginning and drops the delivered elements. The same applies if an iterable does not continue at a loaded
state, see `continues_at_state`.

A plain iterator yields each element once and cannot be reopened.
"""

import copy
import copyreg
import hashlib
import io
import pickle
import reprlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mpqueue.engine.skips import Skipped
from mpqueue.plan.options.batching import Batching
from mpqueue.plan.position.lanes import LaneStart
from mpqueue.seeding.global_rng import GlobalState, imported_torch
from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.system.signals.locks import RLock
from mpqueue.system.user_code.object_walk import title_of
from mpqueue.telemetry.stages import Stages
from mpqueue.worker import context, torch_info
from mpqueue.worker.concurrency.async_sources import plain_iterable
from mpqueue.worker.failures import note_of, passes_at_once
from mpqueue.worker.runners.elements import Elements
from mpqueue.worker.runners.lanes import LaneRun
from mpqueue.worker.runners.runner import BeginBatch, RunnerArguments, SourceRunner, StreamEnd


class _DatasetBegin:
    """Starts the elements of an iterable-style dataset of torch; see `torch_info.begin_dataset`.

    Args:
        begin: Starts an element, and seeds the generators.

    Attributes:
        is_unread: The dataset has not returned an element yet. A generator begins with its first one.
    """

    is_unread = True

    def __init__(self, begin: BeginBatch) -> None:
        self._begin = begin

    def __call__(self, seed: int, epoch: int, position: int) -> None:
        self._begin(seed, epoch, position)
        if self.is_unread:
            torch_info.begin_dataset()


class GeneratorLane:
    """One lane of a generator function.

    Args:
        source: The function.
        run: The arguments of the lane.
        index: Index of the first element.
        plan: How elements become batches; None if each element is a batch.
        seeding: Seeds the global generators when ``run.begin`` is called. If None, they are not seeded.

    Attributes:
        index: Index of the next element. With a state, it is 0 if the lane was opened at its beginning instead.
        stages: Records the time of collation; None if it is not timed.
        saves_first: A snapshot must follow the first element, because a lane that is opened elsewhere at its beginning
            may yield other elements. The value is an attribute of the function's result.
    """

    _of_torch: "_DatasetBegin | None" = None

    def __init__(
        self, source: Any, run: LaneRun, index: int, plan: Batching | None, seeding: LazySeeding | None
    ) -> None:
        # Only where the generators are seeded: otherwise they are the program's.
        if seeding is not None and torch_info.is_of_iterable_dataset(source):
            self._of_torch = _DatasetBegin(run.begin)
            run = run._replace(begin=self._of_torch)
        self._source, self._run, self.index, self._batching = source, run, index, plan
        self.stages: Stages | None = None
        self._elements = Elements(run, plan, seeding, source)
        self._holder: Any = None  # the object with the state
        self._epoch = run.epoch if run.state is None else run.state["epoch"]  # grows in an endless lane
        self._is_empty = run.state is None
        self._open(None if run.state is None else run.state["state"])

    def _open(self, state: Any) -> None:
        run = self._run
        # The function may draw an order when it is called, so its random numbers are set before.
        if self._of_torch is not None:
            self._of_torch.is_unread = True
        run.begin(run.seed, self._epoch, run.lane)
        made, iterator, holder = self._made(state)
        is_iterated_after = state is not None and holder is not None and not isinstance(holder, Iterator)
        if is_iterated_after:
            if not continues_at_state(self._opened_at):
                # The elements before the position are dropped, also elements of earlier epochs of an endless lane.
                state, self.index, self._epoch = None, 0, run.epoch
            run.begin(run.seed, self._epoch, run.lane)
            made, iterator, holder = self._made(state)  # again: the function may return one object each time
        if getattr(holder, "is_at_beginning", False):
            self.index = 0
        self.saves_first = bool(getattr(made, "saves_first", False))
        self._holder, self._elements.iterator = holder, iterator

    def _opened_at(self, state: Any) -> tuple[Iterator[Any], Any]:
        _, iterator, holder = self._made(state)
        return iterator, holder.state_dict

    def _made(self, state: Any) -> tuple[Any, Iterator[Any], Any]:
        """Call the function. Return its result, the iterator, and the object with the state; see `_open`."""
        source = self._source
        dataset = getattr(source, "__self__", None) if getattr(source, "__name__", "") == "__iter__" else None
        # A copy, because all lanes would share one state.
        if dataset is not None and has_state(dataset):
            # Deep, because the state of a dataset is often in the datasets that it wraps.
            dataset = copy.deepcopy(dataset)
            made, source = None, dataset.__iter__
        else:
            made = plain_iterable(source())
            if not isinstance(made, Iterable) and not hasattr(made, "__getitem__"):
                name = title_of(source)
                got = f"{type(made).__name__}: {reprlib.repr(made)}"
                if made is None:
                    got = "None: did you forget `yield`, or `return`?"
                raise TypeError(f"the generator function {name} must return an iterator, got {got}")
            dataset = made if has_state(made) else None
        # Before `iter`: an iterable reads its state when its iterator is created. An iterator loads it afterwards.
        if dataset is not None and state is not None and not isinstance(made, Iterator):
            dataset.load_state_dict(state)
        iterator = iter(source() if made is None else made)
        holder: Any = iterator if has_state(iterator) else dataset
        if isinstance(holder, Iterator) and state is not None:
            holder.load_state_dict(state)  # type: ignore[attr-defined]
        return made, iterator, holder

    def next(self) -> Any:
        """Return the next element, or batch.

        Raises:
            StreamEnd: The iterator is exhausted.
            Exception: The error of the iterator.
        """
        index, elements = self.index, self._elements
        self.index = index + 1
        while True:
            try:
                if self._batching is None:  # a shorter path: tiny elements cost their worker 6 µs each
                    value = elements.element(self._epoch, index)
                else:
                    value = elements.next(self._epoch, index, self.stages)
            except StreamEnd as ended:
                # An endless lane that was empty would restart forever.
                if not self._run.endless or self._is_empty:
                    raise
                if self._run.skip is not None:  # they are reported with the next element
                    for entry in ended.skipped:
                        self._run.skip(Skipped(*entry))
            else:
                self._is_empty = False
                if self._of_torch is not None:
                    self._of_torch.is_unread = False
                return value
            # The next epoch of an endless lane draws other random numbers.
            self._epoch, self._is_empty = self._epoch + 1, True
            self._open(None)

    def save(self) -> Any:
        """Return the state of the function's result, or None."""
        if self._holder is None or self._elements.iterator is None:
            return None
        state = self._holder.state_dict()
        return None if state is None else {"epoch": self._epoch, "state": state}


def has_state(made: Any) -> bool:
    """Return whether an object can save and restore its position by torch's convention.

    A Hugging Face stream after ``shuffle`` cannot: its state lacks the buffer, and the samples there would be lost.
    """
    return hasattr(made, "state_dict") and hasattr(made, "load_state_dict") and not loses_buffer(made)


def continues_at_state(open_at: Callable[[Any], tuple[Iterator[Any], Callable[[], Any]]]) -> bool:
    """Return whether an iterable that loads a state and is then iterated continues there.

    A dataset that counts its epochs in each call of ``__iter__`` does not: it counts once more, and shuffles by another
    count. So two elements are read from the beginning; and the second one again, after the state between them. If the
    state after it is different, the dataset has started a new epoch. A state that is different each time, such as one
    with a time, is inconclusive. The random numbers of this process do not change.

    Args:
        open_at: Opens a new iterator at a state, or at the beginning if it is None. Returns the iterator, and a
            function that returns the present state.
    """
    before = GlobalState()

    def state_after(iterator: Iterator[Any], save: Callable[[], Any]) -> bytes | None:
        before.restore()  # each element draws the same numbers
        next(iterator, None)
        return digest_of(save())

    def continued() -> bytes | None:
        return state_after(*open_at(pickle.loads(saved)))

    try:
        iterator, save = open_at(None)
        next(iterator, None)
        saved = pickle.dumps(save(), 5)
        uninterrupted = state_after(iterator, save)
        found = continued()
        return found == uninterrupted or continued() != found
    except Exception:  # of the dataset: it is at a position where it raises
        return True
    finally:
        before.restore()


def digest_of(value: Any) -> bytes | None:
    """Return a digest that is equal for equal values; None: the value cannot be pickled."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5)
    pickler.fast = True  # otherwise equal strings would be pickled differently if they are one object or two
    torch = imported_torch()
    if torch is not None:  # the pickle of a tensor contains the address of its storage
        pickler.dispatch_table = {**copyreg.dispatch_table, torch.Tensor: _bytes_of}
    try:
        pickler.dump(value)
    except Exception:  # of the value's own code, or of the pickler for a value that contains itself
        return None
    return hashlib.blake2b(file.getbuffer()).digest()


def _bytes_of(tensor: Any) -> tuple[Callable[..., Any], tuple[bytes]]:
    return bytes, (tensor.numpy(force=True).tobytes(),)


def loses_buffer(made: Any) -> bool:
    """Return whether this is a Hugging Face stream that is shuffled by a buffer, without importing that library."""
    stages = [getattr(made, "_ex_iterable", None)]
    for stage in stages:  # each stage refers to the one before it, or to several that it mixes
        if type(stage).__name__ == "BufferShuffledExamplesIterable":
            return True
        stages += [each for each in (getattr(stage, "ex_iterable", None), *getattr(stage, "ex_iterables", ())) if each]
    return False


class IteratorRunner(SourceRunner):
    """Runs a plain iterator, which worker threads may share; see `SourceRunner` for the argument."""

    def __init__(self, arguments: RunnerArguments) -> None:
        super().__init__(arguments)
        self._batching, self._num_lanes = arguments.batching, arguments.num_lanes
        lane, seed = arguments.info.shard_id, arguments.info.seed
        run = LaneRun(lane, arguments.num_lanes, seed, 0, arguments.begin, in_slot=arguments.in_slot)
        self._elements = Elements(run, arguments.batching, arguments.seeding, arguments.source)
        self._lock = RLock()  # a batch is a run of elements, which threads must not mix
        self._has_begun = False
        self._epoch = -1

    @property
    def is_shared(self) -> bool:
        """True if its code has requested the index of its worker."""
        return context.has_requested_info()

    def note(self, index: int, epoch: int) -> str:
        """Return the note for an exception of `run`."""
        return note_of(index // self._num_lanes, epoch, self._info)

    def is_at(self, epoch: int, index: int) -> bool:  # an iterator has no other position
        """Return True if `run` needs no start, which holds after its first call."""
        return self._has_begun

    def run(self, epoch: int, index: int, start: Any = None) -> Any:
        """Return the next element, or batch.

        Args:
            epoch: Epoch of the element.
            index: Its index in the stream.
            start: A `LaneStart` if the iterator is unread: it is at the element of this index.

        Raises:
            StreamEnd: The iterator is exhausted.
            Exception: The error of the iterator.
        """
        element_index = index // self._num_lanes
        # Without the lock: an iterator protects itself, or raises an error.
        if self._batching is None and self._has_begun and epoch == self._epoch:
            return self._elements.next(epoch, element_index, self.stages)
        # Only one thread may drop delivered elements, or take the elements of a batch.
        with self._lock:
            self._begin(epoch, element_index, start)
            return self._elements.next(epoch, element_index, self.stages)

    def _begin(self, epoch: int, element_index: int, start: LaneStart | None) -> None:
        """Start an epoch; the first time, drop the elements that were delivered before the loaded state."""
        if epoch != self._epoch:
            self._epoch, self._elements.iterator = epoch, self._source
        if self._has_begun:
            return
        self._has_begun = True
        for dropped in range(element_index if start is None else element_index - start.element_index):
            try:
                self._elements.next(epoch, dropped, None)
            except StreamEnd:
                break
            except BaseException as error:
                if passes_at_once(error):
                    raise
                continue  # the consumer got this error at its position
