"""An iterable-style dataset with its present iterator, and the state of both.

The state of a dataset is where its iteration is. If the iterator has a state, that is the position, and the dataset's
own state, if it has one, holds its counters. ::

    {"iterator": ..., "dataset": ..., "before": ..., "is_over": True}      the first two only if they have a state

"before" is the dataset's state before this iteration, or None. A dataset may count its epochs in each ``__iter__``, and
so begins another epoch when it is iterated after a load. It begins the same one again from "before", see
`continues_at_state`, and the elements before the position are dropped.

Before the first batch of an epoch, a generator has not started, and a dataset still reports the epoch before. The state
of that time is of the earlier epoch, and contains the way from there to the beginning of this one::

    {"earlier": the state, or None, "read": 2, "rest": 6, "begun": 1}

"read" is the number of elements before the state, and "rest" the number of elements read after it, or None up
to the end. "begun" is the number of later epochs that were started, and left before their first state. Without
"earlier", they are counted from the original dataset.

After the end, a dataset may report its last position, or the beginning of the next epoch. So a state of that time is
marked. When it is loaded, the dataset is iterated: if it returns no element, it was at the end, and the next iteration
is the next epoch. Otherwise the state is loaded again, for the next epoch.
"""

import copy
import inspect
import itertools
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from mpqueue.frameworks.torch.source.loaded_positions import LoadedPosition, copied
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.lanes import BEGINNING, LaneStart
from mpqueue.seeding.global_rng import GlobalState
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.units import count_text
from mpqueue.worker.runners.generator_lanes import continues_at_state, has_state

_END: Any = object()


def drop_next(read: Callable[[], Any]) -> None:
    """Read an element and drop it, or the error that is raised instead.

    Raises:
        StopIteration: The iterator is exhausted.
        BaseException: A signal handler has raised it.
    """
    try:
        read()
    except StopIteration:
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise


class IteratedDataset:
    """A dataset that is iterated.

    Args:
        dataset: The dataset.
        iterator: Its iterator.
        before: A copy of it from before this iteration; None: it has no state, or cannot be copied.
        state_before: Its state from before this iteration; None: it has no state, or cannot report it.

    Attributes:
        dataset: The dataset, which later epochs iterate, too.
        iterator: Its present iterator.
        is_at_beginning: `load_state_dict` has restarted the epoch of the state, instead of continuing at its position.
    """

    iterator: Any  # None: a copy, before it is iterated
    is_at_beginning = False

    def __init__(self, dataset: Any, iterator: Iterator[Any], before: Any, state_before: Any) -> None:
        self.dataset, self.iterator, self._before, self._state_before = dataset, iterator, before, state_before
        self._position: LoadedPosition | None = None  # the loaded one

    def __getstate__(self) -> dict[str, Any]:
        # For a copy, which gets another iterator: a generator cannot be copied.
        return {**vars(self), "iterator": self.dataset if self.iterator is self.dataset else None}

    def state_dict(self, *, is_over: bool) -> dict[str, Any] | None:
        """Return the state of the iterator and the dataset; None: neither has one.

        Args:
            is_over: The end was reached.
        """
        holders = {"iterator": self.iterator, "dataset": self.dataset}
        if self.iterator is self.dataset:
            del holders["dataset"]
        states = {name: holder.state_dict() for name, holder in holders.items() if has_state(holder)}
        states = {name: state for name, state in states.items() if state is not None}
        return {**states, "before": self._state_before, "is_over": is_over} if states else None

    def load_state_dict(self, states: dict[str, Any], dataset: Any) -> bool:
        """Continue from a state, or see `is_at_beginning`. Return whether that is the end.

        Args:
            states: The state.
            dataset: The dataset that loads the state: this one, or a copy from before its iteration.

        Raises:
            ValueError: The dataset and its iterator have no ``load_state_dict``.
        """
        self._state_before = states["before"]
        # At the end, a dataset does not continue. It is prepared for the next epoch, which counts.
        self.is_at_beginning = not (states["is_over"] or self._continues())
        if self.is_at_beginning:
            self._begin_again(dataset)
        else:
            self._load(states, dataset)
        if not states["is_over"]:
            return False
        before = GlobalState()
        try:
            if next(self.iterator, _END) is not _END:
                self._load(states, dataset, is_for_next=True)
        finally:
            before.restore()
        return True

    def begin_after(self, saved: dict[str, Any], dataset: Any) -> None:
        """Begin the epoch after the ones in a state of `starts_after`; arguments as for `load_state_dict`."""
        self.pass_over(saved, dataset)
        self._state_before = state_of(self.dataset)
        self.iterator = iter(self.dataset)

    def pass_over(self, saved: dict[str, Any], dataset: Any) -> None:
        """Iterate over the epochs of a state of `starts_after`, as the dataset may count them.

        The trainer's random numbers do not change; arguments as for `load_state_dict`.
        """
        self.dataset, before = dataset, GlobalState()
        try:
            if saved["earlier"] is not None:
                self.iterator = iter(dataset)
                if self.load_state_dict(saved["earlier"], dataset):
                    self.prepare_next(is_read=False)
                else:
                    read, rest = saved["read"] if self.is_at_beginning else 0, saved["rest"]
                    self._leave(None if rest is None else read + rest)
            for _ in range(saved["begun"]):
                self.iterator = iter(self.dataset)
                self._leave(0)
        finally:
            before.restore()

    def leave_unread(self) -> None:
        """Prepare the dataset for its next epoch, if none of its elements was read after a position was loaded.

        A generator begins with its first element, and would begin the next epoch at the loaded position. So this
        element is requested. The trainer's random numbers do not change.
        """
        if self._position is None or not inspect.isgeneratorfunction(type(self.dataset).__iter__):
            self.prepare_next(is_read=False)
            return
        before = GlobalState()
        try:
            if self.iterator is None:  # of a copy
                self.iterator = iter(self.dataset)
            self._leave(0)
        finally:
            before.restore()

    def _leave(self, limit: int | None) -> None:
        """Read elements and drop them, and the errors instead of them; then prepare the dataset for its next epoch.

        Args:
            limit: Number of elements; None: up to the end.
        """
        # A generator begins with its first element. A dataset that is its own iterator needs no such read.
        least, is_read = int(self.iterator is not self.dataset), False
        for _ in itertools.count() if limit is None else range(max(limit, least)):
            try:
                drop_next(self.iterator.__next__)
            except StopIteration:
                break
            is_read = True
        self.prepare_next(is_read=is_read)

    def prepare_next(self, *, is_read: bool) -> None:
        """Prepare the dataset for its next epoch: its attributes must not hold a loaded position.

        Args:
            is_read: It has returned elements since the load.
        """
        position, self._position = self._position, None
        if position is not None:
            position.forget(is_read=is_read)

    def _continues(self) -> bool:
        """Return whether the dataset continues at a state, judging by copies of it."""
        if self._before is None:
            return True

        def open_at(state: dict[str, Any] | None) -> tuple[Iterator[Any], Any]:
            dataset = copied(self._before)
            opened = IteratedDataset(dataset, iter(dataset), None, None)
            if state is not None:
                opened._load(state, dataset)
            return opened.iterator, partial(opened.state_dict, is_over=False)

        return continues_at_state(open_at)

    def _begin_again(self, dataset: Any) -> None:
        """Begin the epoch of a loaded state."""
        if self._state_before is not None:
            dataset.load_state_dict(self._state_before)
        elif dataset is self.dataset:
            return  # it was iterated just now
        self.dataset, before = dataset, GlobalState()
        try:
            self.iterator = iter(dataset)
        finally:
            before.restore()

    def _load(self, states: dict[str, Any], dataset: Any, *, is_for_next: bool = False) -> None:
        if "dataset" in states:
            _check(dataset)
            self.dataset = dataset
            dataset.load_state_dict(states["dataset"])
            self._hold()
            if is_for_next:  # a dataset may count its epochs in `__iter__`, which the next epoch calls
                return
            before = GlobalState()  # only `load_state_dict` of a dataset may change the trainer's random numbers
            try:
                self.iterator = iter(dataset)
            finally:
                before.restore()
        if "iterator" in states:
            _check(self.iterator)
            self.iterator.load_state_dict(states["iterator"])
            if self.iterator is self.dataset:
                self._hold()

    def _hold(self) -> None:
        self._position = None if self._before is None else LoadedPosition(self.dataset, self._before)


def starts_after(
    position: ResumePoint, epoch: int, batch_size: int | None, *, is_over: bool, runs_ahead: bool
) -> tuple[LaneStart, ...]:
    """Return where each stream begins an epoch, for a dataset that may count its epochs.

    Args:
        position: The position in the epoch before, which is not resumed.
        epoch: The epoch that begins.
        batch_size: The loader's batch size; None: each element is a batch.
        is_over: The end of the epoch before was reached.
        runs_ahead: Each stream was started, and has computed a batch after the returned ones, as workers do.
    """
    num_lanes = len(position.counts)
    lanes = zip(
        position.starts or (BEGINNING,) * num_lanes, position.counts, position.ends or (-1,) * num_lanes, strict=True
    )
    return tuple(
        _start_after(start, count, epoch, batch_size or 1, is_over=is_over or count == end, runs_ahead=runs_ahead)
        for start, count, end in lanes
    )


def _start_after(
    start: LaneStart, count: int, epoch: int, batch_size: int, *, is_over: bool, runs_ahead: bool
) -> LaneStart:
    saved = None if start.state is None else pickle.loads(start.state)["state"]
    if saved is not None and not is_earlier(start):
        rest = None if is_over else (count - start.element_index + runs_ahead) * batch_size
        saved = {"earlier": saved, "read": start.element_index * batch_size, "rest": rest, "begun": 0}
    else:
        saved = saved or {"earlier": None, "read": 0, "rest": 0, "begun": 0}
        saved["begun"] += bool(count or is_over or runs_ahead)
        if saved["earlier"] is None and not saved["begun"]:
            return BEGINNING
    return LaneStart(0, pickle.dumps({"epoch": epoch, "state": saved}, 5))


def is_earlier(start: LaneStart) -> bool:
    """Return whether a start is one of `starts_after`: its state is of earlier epochs."""
    return start.state is not None and is_of_earlier(pickle.loads(start.state)["state"])


def is_of_earlier(saved: dict[str, Any]) -> bool:
    """Return whether the state of a stream is of epochs before the one that begins there; see `starts_after`."""
    return "earlier" in saved


def copy_before(dataset: Any) -> Any:
    """Return a copy of a dataset with a state; None: it has no state, or cannot be copied."""
    if not has_state(dataset):
        return None
    try:
        return copied(dataset)
    except Exception:  # it can be iterated nevertheless, as with torchdata
        return None


def state_of(dataset: Any) -> Any:
    """Return the state of a dataset that is not iterated now; None: it has no state, or cannot report it."""
    try:
        return copy.deepcopy(dataset.state_dict()) if has_state(dataset) else None
    except Exception:  # it can be iterated nevertheless
        return None


def ended_early(dataset: Any, num_returned: int, index: int) -> ValueError:
    """Return the error for a dataset that ends before the position in a state."""
    return ValueError(
        f"the state was saved after {count_text(num_returned, 'batch')} of a stream, and "
        f"{type(dataset).__name__} ended after {index}: load the state into a loader of the same dataset"
    )


def _check(holder: Any) -> None:
    if not has_state(holder):
        raise ValueError(
            f"the state has a state of the dataset, and the {type(holder).__name__} of this loader has no "
            "state_dict() and load_state_dict(state): load it into a loader of the same dataset"
        )
