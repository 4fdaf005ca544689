"""The epochs of a `Loader` for frameworks that look at a batch before they begin an epoch.

A framework learns the shapes of its data from a first batch: it requests a batch by number, or begins an epoch, takes a
batch or two, drops the iterator and begins again. Such a *look* must not use up an epoch of the loader::

    peek(i)              return batch i of the next epoch
    begin()              return an iterator of the next epoch, including batches that were peeked at
    begin(on_trial=True) the same, and keep the first batches, in case this is only a look
    take_back(epoch)     undo that `begin`: the next epoch is this one again, from its first batch

Kept batches are private copies: the framework may modify its batches and keep this object forever, and no slot
is leased for that. At most `MOST_KEPT` batches are kept. After the next batch, or at its end, the epoch cannot be taken
back.

The loader has counted the batches of a look, but the training has not used them. So each of them is stored with a
bookmark before it. `bookmark` returns that of the first one, and the loader's state and `last` are those at this
position. An interrupt may leave a batch in an epoch that has returned none; the next `begin` or `peek` takes the epoch
back.

If the framework takes a batch ahead of use, it holds a batch that no step has used until it requests the next batch or
the end. `bookmark` is then before this batch, so that a state saved in a step covers the batches of finished steps. The
end is `StopIteration`; or, if the loader has a length, the `stop` after the last batch.

A callback that restores the model at the beginning of the training may load a state into the loader. Batches of an
earlier look do not belong to the resumed epoch, and are dropped.
"""

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mpqueue.frameworks.keras import backups
from mpqueue.loader.bookmark import Bookmark
from mpqueue.loader.loader import Loader
from mpqueue.system.locks import RLock
from mpqueue.telemetry.stats import Statistics

# Keras takes one batch, two if it transfers batches to a device ahead of use, and two to learn their shapes.
MOST_KEPT = 4

# A batch, after the loader's position before it. Not a class: an interrupt in its `__init__` would lose the batch.
Looked = tuple[Bookmark, Any]


class NoBatch(IndexError):
    """A batch does not exist. Not a plain `IndexError`, which may be an error of the source."""


class LoaderEpoch(Iterator[Any]):
    """The batches of one epoch, which can be taken back while `kept` is a list.

    Args:
        loader: The loader.
        batches: The loader's iterator.
        first: Batches of the epoch that were taken from the iterator before.
        on_trial: Keep the first batches.
        is_ahead: The framework takes one batch ahead of use.

    Attributes:
        batches: The loader's iterator.
        first: Batches to return before the iterator's.
        kept: Copies of the returned batches; None: the epoch cannot be taken back.
        num_taken: Number of returned batches.
        held: The position before a batch that was returned but not used yet; None: no such batch.
    """

    def __init__(
        self,
        loader: Loader,
        batches: Iterator[Any],
        first: Sequence[Looked],
        *,
        on_trial: bool,
        is_ahead: bool = False,
    ) -> None:
        self._loader, self.batches, self.first = loader, batches, tuple(first)
        self._is_ahead = is_ahead
        self.held: Bookmark | None = None
        self.kept: list[Looked] | None = [] if on_trial else None
        self.num_taken = 0

    def __next__(self) -> Any:
        first, kept = self.first, self.kept
        if kept is None and not first and not self._is_ahead:
            batch = self.batches.__next__()  # not by a call of C, see NOTE [ Interrupts ] in mpqueue.engine.pipeline
            self.num_taken += 1
            return batch
        if not first:
            # Before the batch is taken: until it is used, a state of the loader must contain this position.
            before = self._loader.bookmark()
            try:
                first = self.first = ((before, self.batches.__next__()),)  # an interrupt below leaves it in `first`
            except StopIteration:
                self.kept = self.held = None
                raise
        before, batch = first[0]
        if kept is not None:
            kept = [*kept, (before, copy.deepcopy(batch))] if len(kept) < MOST_KEPT else None
            # After all steps that may raise: an interrupt before this leaves the batch to the next call.
        self.first, self.kept, self.num_taken = first[1:], kept, self.num_taken + 1
        if self._is_ahead:
            self.held = before
        return batch

    def finish(self) -> None:
        """End the epoch after its last batch was taken, so that the loader ends it, too."""
        for _ in self:
            pass


class LoaderEpochs:
    """The epochs of a loader, one after the other; see the module docstring.

    Args:
        loader: The loader, which must not be iterated elsewhere at the same time.
        takes_ahead: Returns whether batches are taken one ahead of use; called when an epoch begins.
    """

    def __init__(self, loader: Loader, takes_ahead: Callable[[], bool] = lambda: False) -> None:
        self.loader, self._takes_ahead = loader, takes_ahead
        self._coming: Iterator[Any] | None = None  # the iterator of the next epoch, if a batch was peeked at
        self._seen: list[Looked] = []  # batches of the next epoch that were peeked at
        self._latest: LoaderEpoch | None = None  # the latest epoch that was started
        self._num_loads = self._loop = 0  # of the loader, when the epoch was opened
        self._read: LoaderEpoch | None = None  # an epoch that was stopped after its last batch
        self._lock = RLock()

    @property
    def length(self) -> int | None:
        """Number of batches per epoch; None: the loader has no length."""
        try:
            return len(self.loader)
        except TypeError:
            return None

    def peek(self, index: int) -> Any:
        """Return a copy of batch ``index`` of the next epoch, without using it up.

        Raises:
            NoBatch: The batch does not exist.
            IndexError: It is not one of the first.
            Exception: The error that the source raised instead; the next call returns the batch after it.
        """
        if not 0 <= index < MOST_KEPT:
            raise IndexError(
                f"batch {index} cannot be read before its epoch: a Loader determines the order of its batches, and "
                f"only the first {MOST_KEPT} batches can be read before an epoch begins"
            )
        with self._lock:
            self._settle()
            while len(self._seen) <= index:
                try:
                    self._peek_next()
                except StopIteration:
                    raise NoBatch(f"batch {index} does not exist: the epoch has {len(self._seen)}") from None
            return copy.deepcopy(self._seen[index][1])

    def _peek_next(self) -> None:
        batches, seen, before = self._open(), self._seen, self.loader.bookmark()
        seen.append((before, batches.__next__()))  # an interrupt below leaves the batch in `seen`
        seen[-1] = before, copy.deepcopy(seen[-1][1])

    def begin(self, *, on_trial: bool = False) -> LoaderEpoch:
        """Begin the next epoch."""
        with self._lock:
            self._settle()
            is_ahead = self._takes_ahead()
            epoch = LoaderEpoch(self.loader, self._open(), self._seen, on_trial=on_trial, is_ahead=is_ahead)
            self._latest, self._coming, self._seen = epoch, None, []
            return epoch

    def take_back(self, epoch: LoaderEpoch) -> None:
        """Make the next epoch this one again, and end it here; no effect if it cannot be taken back."""
        with self._lock:
            self._read = None
            if epoch.kept is not None:
                self._take_from(epoch, epoch.kept)

    def _take_from(self, epoch: LoaderEpoch, kept: list[Looked]) -> None:
        empty: Iterator[Any] = iter(())
        self._coming, self._seen = epoch.batches, [*kept, *epoch.first]
        epoch.batches, epoch.first, epoch.kept, epoch.held = empty, (), None, None

    def bookmark(self) -> Bookmark | None:
        """Return the loader's position before the first unused batch; None: the loader's own position is right."""
        position = self.loader._position
        if (self._num_loads, self._loop) != (position.num_loads, position.iterator):
            return None
        latest = self._latest
        if self._seen or latest is None:
            return self._seen[0][0] if self._seen else None
        if latest.held is not None:
            return latest.held
        return latest.first[0][0] if latest.first else None

    def note_read(self, epoch: LoaderEpoch) -> None:
        """Record that an epoch was stopped. If all its batches were taken, `end` finishes it."""
        if epoch.num_taken == self.length:
            self._read, epoch.held = epoch, None

    def is_to_end(self, epoch: LoaderEpoch) -> bool:
        """Return True if `end` will finish this epoch."""
        return self._read is epoch

    def end(self) -> None:
        """Finish the epoch that was stopped after its last batch, unless it was taken back.

        Raises:
            Exception: The error of the ``on_epoch_end`` of the loader's source.
        """
        epoch, self._read = self._read, None
        if epoch is not None:
            epoch.finish()

    def _settle(self) -> None:
        """Forget a look before another state was loaded; take back an epoch that has returned no batch."""
        latest = self._latest
        # A state was loaded: batches of an earlier look do not belong to the next epoch.
        if self._num_loads != self.loader._position.num_loads:
            self._latest, self._coming, self._seen = None, None, []
        elif self._coming is None and latest is not None and latest.first and not latest.num_taken:
            self._take_from(latest, [])

    def _open(self) -> Iterator[Any]:
        if self._coming is None:
            loader, position = self.loader, self.loader._position
            loader._looked_at = weakref.WeakMethod(self.bookmark)
            coming = iter(loader)
            self._num_loads, self._loop, self._coming = position.num_loads, position.iterator, coming
        return self._coming


class LoaderEnqueuer:
    """An enqueuer for Keras's adapter with the epochs of a loader. See `mpqueue.frameworks.keras.passes` for the calls.

    The loader has its own workers, order and hooks. The adapter's first pass is on trial: if Keras has only built a
    model from it and resets the adapter, `take_back` is called, and the next pass is the same epoch. Otherwise the
    adapter calls the dataset's ``on_epoch_end`` after `stop`, which finishes the epoch by `LoaderEpochs.end`.

    Args:
        epochs: The epochs of the loader.
        shuffle: Argument of ``fit``; the loader determines the order.

    Follows: Keras 3's ``OrderedEnqueuer``.
    """

    def __init__(self, epochs: LoaderEpochs, *, shuffle: bool = False) -> None:
        self._epochs, self.shuffle = epochs, shuffle
        self._epoch: LoaderEpoch | None = None
        self._is_running = False

    def start(self, epoch: int | None = None) -> None:  # noqa: ARG002 - the loader counts its epochs
        """Begin an epoch: batches may be requested. Has no effect within an epoch.

        Args:
            epoch: Number of Keras's epoch (Keras 3.16 and later); not used.
        """
        self._is_running = True

    def stop(self, drain_queue_and_join: bool = True) -> None:  # noqa: ARG002 - the loader keeps its workers
        """End an epoch; the loader keeps its workers. Has no effect outside an epoch.

        Args:
            drain_queue_and_join: Argument of Keras; not used.
        """
        if self._is_running:
            self._is_running = False
            if self._epoch is not None:
                self._epochs.note_read(self._epoch)

    def take_back(self) -> None:
        """Undo the present pass, which was a look, unless it cannot be taken back. Keras resets its data."""
        epoch = self._epoch
        if epoch is not None and (self._is_running or self._epochs.is_to_end(epoch)):
            self._epochs.take_back(epoch)
        self._is_running = False

    def is_running(self) -> bool:
        """Return True while an epoch is active; a failure of the source ends it."""
        return self._is_running

    def get(self) -> Iterator[Any]:
        """Return a generator of the batches of one epoch of the loader, which begins with the first ``next``.

        Yields:
            Batches of the loader.

        Raises:
            ValueError: At ``next``: no epoch is active; or the first one has no batches.
            Exception: At ``next``: the error of the loader.
        """
        epoch, is_first = None, self._epoch is None
        while self._is_running:
            try:
                if epoch is None:
                    backups.note_epoch(self._epochs.loader)
                    epoch = self._epoch = self._epochs.begin(on_trial=is_first)
                batch = epoch.__next__()
            except StopIteration:
                if not is_first or epoch is None or epoch.num_taken:
                    return
                self._is_running = False
                # Keras builds models from the first batch, and would raise a StopIteration without a message.
                raise ValueError(
                    f"Keras needs at least one batch, and the first epoch of {self._epochs.loader!r} for this call has "
                    "none: check its source, and the place of a loaded state"
                ) from None
            except Exception:
                self._is_running = False
                raise
            yield batch
            del batch  # otherwise this frame would hold the slot until the next batch is requested
        raise ValueError("a batch was requested outside an epoch: call start() before next()")

    def statistics(self) -> Statistics:
        """Return the loader's counters."""
        return self._epochs.loader.statistics()

    def __repr__(self) -> str:
        return f"<LoaderEnqueuer of {self._epochs.loader!r}, {'running' if self._is_running else 'stopped'}>"
