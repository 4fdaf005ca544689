"""The epochs of a `Loader` for frameworks that look at a batch before they begin one.

A framework learns the shapes of its data from a first batch: it asks for one by number, or begins an epoch, takes a
batch or two, drops the iterator and begins again. Neither must use up an epoch of the loader, whose order is its own::

    peek(i)              batch i of the coming epoch
    begin()              an iterator of it, which gives what was looked at, too
    begin(on_trial=True) the same, and the first batches are kept, in case it was only a look; then
    take_back(epoch)     undoes that `begin`: the coming epoch is this one, from its first batch on

What is kept are private copies: the framework may write into what it was given, and may hold us for good, but no slot
is leased for that. `MOST_KEPT` batches are kept at most. With the next one, or at its end, the epoch is begun in
earnest, and cannot be taken back.

The loader has counted what was looked at, and its caller has not got it. So each such batch comes with the place of the
loader before it, and `place` gives that of the first one: a state of the loader is of that place. An interrupt may
leave a batch in an epoch that has given nothing; the next `begin`, or `peek`, takes that epoch back.

Where the framework takes a batch ahead of use, it holds one that no step has seen until it asks for the next, or for
the end. `place` is before that one: a state that is saved in a step is of the batches that steps have seen. The end is
`StopIteration`, or of a loader that has a length, whose adapter counts, the `stop` behind the last batch.

A callback that restores the model as the training begins may have the loader go on from a state then. What was looked
at before is not of the epoch that is to come, and is dropped.
"""

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mpqueue.frameworks.keras import backups
from mpqueue.loader.loader import Loader
from mpqueue.system.locks import RLock
from mpqueue.telemetry.stats import Statistics

# Keras takes one batch, or two where it puts them on a device ahead of use; two, to learn their shapes.
MOST_KEPT = 4

# A place of the loader, and the batch that it gave there. No class of ours: its `__init__` would be a place where an
# interrupt loses the batch.
Looked = tuple[dict[str, Any], Any]


class LoaderEpoch(Iterator[Any]):
    """The batches of one epoch, which can be taken back as long as `kept` is a list.

    Args:
        loader: Whose.
        batches: The loader's iterator.
        first: Batches of the epoch that were taken from it before.
        on_trial: Keep the first batches.
        is_ahead: They are taken one ahead of use.

    Attributes:
        batches: The loader's iterator.
        first: What it gives before it asks that.
        kept: Copies of what it has given, or None: it was begun in earnest.
        num_taken: How many batches it has given.
        held: The place before the one that was taken and not used yet; None: there is none.
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
        self.held: dict[str, Any] | None = None
        self.kept: list[Looked] | None = [] if on_trial else None
        self.num_taken = 0

    def __next__(self) -> Any:
        first, kept = self.first, self.kept
        if kept is None and not first and not self._is_ahead:
            batch = self.batches.__next__()  # by no call of C, see NOTE [ Interrupts ] in mpqueue.engine.pipeline
            self.num_taken += 1
            return batch
        if not first:
            # Before the batch is taken: until it is used, a state of the loader is of here.
            place = self._loader.place()
            try:
                first = self.first = ((place, self.batches.__next__()),)  # what strikes from here on leaves it there
            except StopIteration:
                self.kept = self.held = None
                raise
        place, batch = first[0]
        if kept is not None:
            kept = [*kept, (place, copy.deepcopy(batch))] if len(kept) < MOST_KEPT else None
        # Behind all that may raise: an interrupt until here leaves the batch to the next call.
        self.first, self.kept, self.num_taken = first[1:], kept, self.num_taken + 1
        if self._is_ahead:
            self.held = place
        return batch

    def finish(self) -> None:
        """Come to the end of the epoch, after its last batch was taken: the loader ends it then, too."""
        for _ in self:
            pass


class LoaderEpochs:
    """The epochs of a loader, one after the other; see the module's head for its protocol.

    Args:
        loader: Whose; nobody else is to iterate over it meanwhile.
        takes_ahead: Tells, as an epoch begins, whether its batches are taken one ahead of use.
    """

    def __init__(self, loader: Loader, takes_ahead: Callable[[], bool] = lambda: False) -> None:
        self.loader, self._takes_ahead = loader, takes_ahead
        self._coming: Iterator[Any] | None = None  # the epoch that was looked at
        self._seen: list[Looked] = []  # its first batches
        self._latest: LoaderEpoch | None = None  # that was begun
        self._num_loads = self._loop = 0  # of the loader, when it was opened
        self._read: LoaderEpoch | None = None  # all of it was taken, and it was stopped
        self._lock = RLock()

    @property
    def length(self) -> int | None:
        """Batches per epoch, None where the loader has no length."""
        try:
            return len(self.loader)
        except TypeError:
            return None

    def peek(self, index: int) -> Any:
        """Return a copy of batch ``index`` of the coming epoch, which is not used up by that.

        Raises:
            IndexError: There is none, or it is not among the first.
            Exception: What the source raised in its place; the next call gives the batch after it.
        """
        if not 0 <= index < MOST_KEPT:
            raise IndexError(
                f"batch {index} cannot be peeked at: a Loader gives its batches in an order of its own, and only the "
                f"first {MOST_KEPT} of an epoch can be seen before it begins"
            )
        with self._lock:
            self._settle()
            while len(self._seen) <= index:
                try:
                    self._peek_next()
                except StopIteration:
                    raise IndexError(f"there is no batch {index}: the epoch has {len(self._seen)}") from None
            return copy.deepcopy(self._seen[index][1])

    def _peek_next(self) -> None:
        batches, seen, place = self._open(), self._seen, self.loader.place()
        seen.append((place, batches.__next__()))  # what strikes behind it leaves the batch there
        seen[-1] = place, copy.deepcopy(seen[-1][1])

    def begin(self, *, on_trial: bool = False) -> LoaderEpoch:
        """Begin the coming epoch."""
        with self._lock:
            self._settle()
            is_ahead = self._takes_ahead()
            epoch = LoaderEpoch(self.loader, self._open(), self._seen, on_trial=on_trial, is_ahead=is_ahead)
            self._latest, self._coming, self._seen = epoch, None, []
            return epoch

    def take_back(self, epoch: LoaderEpoch) -> None:
        """Have the coming epoch be this one again, which is over with that; nothing if it was begun in earnest."""
        with self._lock:
            self._read = None
            if epoch.kept is not None:
                self._take_from(epoch, epoch.kept)

    def _take_from(self, epoch: LoaderEpoch, kept: list[Looked]) -> None:
        nothing: Iterator[Any] = iter(())
        self._coming, self._seen = epoch.batches, [*kept, *epoch.first]
        epoch.batches, epoch.first, epoch.kept, epoch.held = nothing, (), None, None

    def place(self) -> dict[str, Any] | None:
        """Return the place of the loader before the first batch that nobody has used; None: its own is right."""
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
        """Note that an epoch was stopped; if all its batches were taken, `end` brings it to its end."""
        if epoch.num_taken == self.length:
            self._read, epoch.held = epoch, None

    def is_to_end(self, epoch: LoaderEpoch) -> bool:
        """Return True if `end` is to bring this epoch to its end."""
        return self._read is epoch

    def end(self) -> None:
        """Bring the epoch that was read to its end, if it was not taken back.

        Raises:
            Exception: What the ``on_epoch_end`` of the loader's source raised.
        """
        epoch, self._read = self._read, None
        if epoch is not None:
            epoch.finish()

    def _settle(self) -> None:
        """Forget what was looked at before the loader went to another place; take back what has given nothing."""
        latest = self._latest
        # A state was loaded since: what was looked at is not of the epoch that is to come.
        if self._num_loads != self.loader._position.num_loads:
            self._latest, self._coming, self._seen = None, None, []
        elif self._coming is None and latest is not None and latest.first and not latest.num_taken:
            self._take_from(latest, [])

    def _open(self) -> Iterator[Any]:
        if self._coming is None:
            loader, position = self.loader, self.loader._position
            loader._looked_at = weakref.WeakMethod(self.place)
            coming = iter(loader)
            self._num_loads, self._loop, self._coming = position.num_loads, position.iterator, coming
        return self._coming


class LoaderEnqueuer:
    """Gives Keras's adapter the epochs of a loader; what its calls mean is said in `mpqueue.frameworks.keras.passes`.

    The loader's workers, order and hooks are its own. The adapter's first pass is on trial: where Keras has built a
    model from it and resets the adapter, `take_back` is called, and the next pass is the same epoch. Otherwise the
    dataset's ``on_epoch_end``, which the adapter calls after `stop`, is that of the epoch: `LoaderEpochs.end`.

    Args:
        epochs: Of the loader.
        shuffle: Of ``fit``; the order is the loader's.

    Follows: Keras 3's ``OrderedEnqueuer``.
    """

    def __init__(self, epochs: LoaderEpochs, *, shuffle: bool = False) -> None:
        self._epochs, self.shuffle = epochs, shuffle
        self._epoch: LoaderEpoch | None = None
        self._is_running = False

    def start(self, epoch: int | None = None) -> None:  # noqa: ARG002 - the loader counts its epochs
        """Begin an epoch: batches may be requested. Has no effect if an epoch has begun.

        Args:
            epoch: Of Keras's, from Keras 3.16 on; the loader has its own order.
        """
        self._is_running = True

    def stop(self, drain_queue_and_join: bool = True) -> None:  # noqa: ARG002 - the loader's workers go on
        """An epoch is over; the loader's workers live on. Has no effect where none has begun.

        Args:
            drain_queue_and_join: Of Keras's; there is nothing to wait for.
        """
        if self._is_running:
            self._is_running = False
            if self._epoch is not None:
                self._epochs.note_read(self._epoch)

    def take_back(self) -> None:
        """Keras resets its data: what was taken was a look, unless the epoch was begun in earnest."""
        epoch = self._epoch
        if epoch is not None and (self._is_running or self._epochs.is_to_end(epoch)):
            self._epochs.take_back(epoch)
        self._is_running = False

    def is_running(self) -> bool:
        """Return True if an epoch has begun and is not over; a failure of the source ends it."""
        return self._is_running

    def get(self) -> Iterator[Any]:
        """A generator of the batches of one epoch of the loader, which begins with the first ``next``.

        Yields:
            Batches, as the loader gives them.

        Raises:
            ValueError: At ``next``: no epoch has begun.
            Exception: At ``next``: what the loader raised.
        """
        epoch = None
        while self._is_running:
            try:
                if epoch is None:
                    backups.note_epoch(self._epochs.loader)
                    epoch = self._epoch = self._epochs.begin(on_trial=self._epoch is None)
                batch = epoch.__next__()
            except StopIteration:
                return
            except Exception:
                self._is_running = False
                raise
            yield batch
            del batch  # or this frame would keep the slot while it waits for the next batch
        raise ValueError("asked for a batch after the end of an epoch, or before the beginning of one: call start()")

    def statistics(self) -> Statistics:
        """Return the loader's counters."""
        return self._epochs.loader.statistics()

    def __repr__(self) -> str:
        return f"<LoaderEnqueuer of {self._epochs.loader!r}, {'running' if self._is_running else 'stopped'}>"
