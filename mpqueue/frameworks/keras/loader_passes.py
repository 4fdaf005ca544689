"""The epochs of a `Loader` for frameworks that look at a batch before they begin an epoch.

A framework learns the shapes of its data from a first batch: it requests a batch by index, or begins an epoch, takes a
batch or two, drops the iterator and begins again. Such a *look* must not use up an epoch of the loader::

    peek(i)              return batch i of the next epoch
    begin()              return an iterator of the next epoch, including batches that were peeked at
    begin(on_trial=True) the same, and keep the first batches, in case this is only a look
    take_back(epoch)     undo that `begin`: the next epoch is this one again, from its first batch

Kept batches are private copies: the framework may modify its batches and keep this object forever, and no slot
is leased for that. At most `MOST_KEPT` batches are kept. After the next batch, or when it ends, the epoch cannot be
taken back.

The training has not used the batches of a look. They are held (`mpqueue.loader.undelivered`), so that the loader's
state and ``last`` do not count them. An interrupt may leave a batch in an epoch that has returned none; the next
`begin` or `peek` takes the epoch back.

If the framework takes a batch ahead of use, no step has used this batch before the framework requests the next batch or
the end. Until then it is lent, so that a state saved in a step covers the batches of finished steps. The end is
`StopIteration`; or, if the loader has a length, the `stop` after the last batch.

A callback that restores the model at the beginning of the training may load a state into the loader. Batches of an
earlier look do not belong to the resumed epoch, and are dropped.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.engine.progress.deliveries import Delivery
from mpqueue.frameworks.keras import backups
from mpqueue.loader.loader import Loader
from mpqueue.loader.undelivered import Failed, Held
from mpqueue.plan.options.checks import flag
from mpqueue.system.signals.interrupts import ends_iterator
from mpqueue.system.signals.locks import RLock
from mpqueue.telemetry.stats import Statistics

# Keras takes one batch, two if it transfers batches to a device ahead of use, and two to learn their shapes.
MOST_KEPT = 4


class NoBatch(IndexError):
    """A batch does not exist. Not a plain `IndexError`, which may be an error of the source."""


def _unchanged(batch: Any) -> Any:
    return batch


class LoaderEpoch(Iterator[Any]):
    """The batches of one epoch, which can be taken back while `kept` is a list.

    Args:
        held: The batches of the epoch; some may be taken already.
        on_trial: Keep the first batches.
        is_ahead: The framework takes one batch ahead of use.

    Attributes:
        held: The batches that were taken and not returned; None: the epoch was taken back.
        kept: Copies of the returned batches, as entries; None: the epoch cannot be taken back.
        num_taken: Number of returned batches.
        returned: The batch that the training has used last before this epoch.
    """

    def __init__(self, held: Held, *, on_trial: bool, is_ahead: bool = False) -> None:
        self.held: Held | None = held
        self._is_ahead = is_ahead
        self._lent: Delivery | None = None
        self.kept: list[list[Any]] | None = [] if on_trial else None
        self.num_taken, self.returned = 0, held.progress.returned

    def __next__(self) -> Any:
        return self.next(_unchanged)

    def next(self, convert: Callable[[Any], Any]) -> Any:
        """Return the next batch, converted for the framework."""
        held, kept = self.held, self.kept
        if held is None:
            raise StopIteration
        self.use_lent()
        held.drop_outdated()
        try:
            if not held.entries:
                held.take()
        except StopIteration:
            self.kept = None
            raise
        delivery, batch = held.entries[0]
        if type(batch) is Failed:
            held.pop()
            try:
                raise batch.error
            finally:
                del delivery, batch  # otherwise the error's traceback would keep this frame in memory
        if kept is not None:
            kept = [*kept, [delivery, copy.deepcopy(batch)]] if len(kept) < MOST_KEPT else None
        converted = convert(batch)
        if not self._is_ahead:
            if kept is None:  # otherwise it may be taken back
                held.end_soon()
            held.pop()
        else:
            self._lent = delivery
            held.entries, delivery.is_lent = held.entries[1:], True
        self.num_taken, self.kept = self.num_taken + 1, kept
        return converted

    def use_lent(self) -> None:
        """Record that the framework has used the batch that it took ahead."""
        if self._lent is not None and self.held is not None:
            self.held.pass_on(self._lent)
            if self.kept is None:
                self.held.end_soon()
        self._lent = None

    def take_back(self) -> Held | None:
        """End this epoch, and return its batches, including the kept ones; None: it cannot be taken back."""
        held, kept = self.held, self.kept
        if held is None or kept is None:
            return None
        held.hold_again(kept, self.returned)
        self.held = self.kept = self._lent = None
        return held

    def finish(self) -> None:
        """End the epoch after its last batch was taken, so that the loader ends it, too."""
        for _ in self:
            pass


class LoaderEpochs:
    """The epochs of a loader, one after the other; see the module docstring.

    Args:
        loader: The loader, which must not be iterated elsewhere at the same time.
        takes_ahead: Returns whether batches are taken one ahead of use; called when an epoch begins.

    Raises:
        ValueError: A batch of the loader is a list of micro-batches.
    """

    def __init__(self, loader: Loader, takes_ahead: Callable[[], bool] = lambda: False) -> None:
        balance = loader._run.plan.options.balance
        if balance is not None and balance.makes_lists:
            raise ValueError(
                "with Balance(max_cost=...), a batch is a list of micro-batches, and Keras and tf.data take a list for "
                "several inputs of a model: use Balance(cost, accumulate=n), or a loop of your own over the Loader"
            )
        self.loader, self._takes_ahead = loader, takes_ahead
        self._coming: Held | None = None  # the next epoch, if a batch was peeked at, or if it was taken back
        self._latest: LoaderEpoch | None = None  # the latest epoch that was started
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
            coming = self._open()
            coming.drop_outdated()
            while len(coming.entries) <= index:
                if not self._peek_next(coming):
                    raise NoBatch(f"batch {index} does not exist: the epoch has {len(coming.entries)}")
            return copy.deepcopy(coming.entries[index][1])

    @staticmethod
    def _peek_next(coming: Held) -> bool:
        try:
            if not coming.take():
                return False
        except StopIteration:
            return False
        entry = coming.entries[-1]
        if type(entry[1]) is Failed:
            left = coming.progress.without(entry[0])
            coming.entries, coming.progress.deliveries = coming.entries[:-1], left
            raise entry[1].error
        entry[1] = copy.deepcopy(entry[1])
        return True

    def begin(self, *, on_trial: bool = False) -> LoaderEpoch:
        """Begin the next epoch."""
        with self._lock:
            epoch = LoaderEpoch(self._open(), on_trial=on_trial, is_ahead=self._takes_ahead())
            self._latest, self._coming = epoch, None
            return epoch

    def take_back(self, epoch: LoaderEpoch) -> None:
        """Make the next epoch this one again, and end it here; no effect if it cannot be taken back."""
        with self._lock:
            self._read = None
            self._coming = epoch.take_back() or self._coming

    def note_read(self, epoch: LoaderEpoch) -> None:
        """Record that an epoch was stopped. If all its batches were taken, `end` finishes it."""
        if epoch.num_taken == self.length:
            self._read = epoch
            epoch.use_lent()

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

    def _open(self) -> Held:
        """Return the next epoch."""
        latest = self._latest
        held = None if latest is None or latest.num_taken else latest.held
        if self._coming is None and held is not None and held.entries:
            self._coming = held  # an epoch that has returned none of its batches
        # A state was loaded: batches of an earlier look do not belong to the next epoch.
        if self._coming is None or not self._coming.is_current:
            self._coming = Held.of(self.loader)
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
        flag("shuffle", shuffle)
        self._epochs, self.shuffle = epochs, shuffle
        self._epoch: LoaderEpoch | None = None
        self._is_running = False

    def start(self, epoch: int | None = None) -> None:  # the loader counts its epochs
        """Begin an epoch: batches may be requested. Has no effect within an epoch.

        Args:
            epoch: Number of Keras's epoch (Keras 3.16 and later); not used.
        """
        self._is_running = True

    def stop(self, drain_queue_and_join: bool = True) -> None:  # the loader keeps its workers
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
            except BaseException as error:
                if ends_iterator(error):
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
