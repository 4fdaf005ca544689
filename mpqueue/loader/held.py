"""`Held`: batches that a frontend has taken from a loader, and the user has not got yet.

A framework transfers batches to a device ahead of use, or looks at them before an epoch. The loader's state, its
``last`` and its end of the epoch still follow the user. `mpqueue.engine.ledger.Progress.held` lists these deliveries.
Their batches are stored here, each with its entry in that list.

A change of the run clears the list: an exclusion, new weights, a loaded state, a later loop. Then the batches are
dropped here, too. If this object is dropped, the list remains until the next loop. So no state counts a batch that the
user can no longer get.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from mpqueue.engine.ledger import Delivery, Progress
from mpqueue.engine.pipeline import Pipeline, without
from mpqueue.loader.loader import Loader
from mpqueue.system.interrupts import not_of_handler
from mpqueue.worker.failures import never_an_end


class Failed(NamedTuple):
    """An error in place of a batch.

    Attributes:
        error: The error.
    """

    error: BaseException


class Taken:
    """Batches that a frontend has taken from an iterable, and the user has not got yet, in order.

    Attributes:
        entries: Pairs of a place and a batch; a frontend may replace the batch. For an error, the second item is a
            `Failed`.
    """

    def __init__(self) -> None:
        self.entries: tuple[list[Any], ...] = ()

    @property
    def progress(self) -> Progress:
        """The progress of the user. Its ``held`` and ``returned`` change together with the entries."""
        raise NotImplementedError

    def take(self) -> bool:
        """Take the next batch or error. Return False at the end if there are entries.

        Raises:
            StopIteration: It is the end, and there are no entries.
            BaseException: A signal handler has raised it.
        """
        raise NotImplementedError

    def drop_outdated(self) -> None:
        """Drop entries after a change of the run, which computes them again."""

    def popped(self) -> tuple[tuple[list[Any], ...], tuple[Delivery, ...], Delivery | None]:
        """Return the entries, and ``held`` and ``returned`` of the progress, after the user has got the first entry.

        The caller assigns them, as its last step: an assignment cannot be interrupted, and a call can.
        """
        return self.entries[1:], (), None

    def end_soon(self) -> None:
        """End the epoch in 0.1 s, if the user has got all of its batches."""


class Held(Taken):
    """The held batches of one epoch of a loader. The place of an entry is its `Delivery`; None: it is no batch's error.

    Use it in one thread at a time.

    Args:
        request: Returns the next delivery and its batch; None at the end, while anything is held.
        pipeline: Returns the pipeline that delivers them.
        is_current: Returns whether the loader has begun no other epoch, and no state was loaded.
    """

    def __init__(
        self, request: Callable[[], Any], pipeline: Callable[[], Pipeline],
        is_current: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        super().__init__()
        self._request, self._pipeline_of, self._is_current = request, pipeline, is_current

    @classmethod
    def of(cls, loader: Loader[Any]) -> Self:
        """Begin the next epoch of a loader, and hold its batches."""
        batches = loader._iterate(lambda pipeline: pipeline.take, holds=True)
        return cls(batches.__next__, lambda: batches.pipeline, lambda: batches.is_current)

    @property
    def _pipeline(self) -> Pipeline:
        return self._pipeline_of()

    @property
    def progress(self) -> Progress:
        """The progress of the user."""
        return self._pipeline.ledger.progress

    def take(self) -> bool:
        """Take the next batch; see `Taken.take`."""
        if self._is_error_missing():
            self._append_error(None)
            return True
        try:
            taken = self._request()
            if taken is None:
                return False
            # No call since the batch was delivered: a signal handler cannot take it from here.
            self.entries = (*self.entries, [*taken])
        except StopIteration:
            if not self.entries:
                raise
            return False
        except not_of_handler(BaseException) as error:
            self._append_error(error)
        return True

    def _is_error_missing(self) -> bool:
        """Return whether an error was counted, and an interrupt prevented its entry."""
        held = self.progress.held
        return bool(held) and held[-1][1] < 0 and not (self.entries and self.entries[-1][0] is held[-1])

    def _append_error(self, error: BaseException | None) -> None:
        delivery = self.progress.held[-1] if self._is_error_missing() else None
        if error is None and delivery is not None:
            error = never_an_end(delivery[3])
        if error is not None:
            self.entries = (*self.entries, [delivery, Failed(error)])

    def drop_outdated(self) -> None:
        """Drop entries after a change of the run, which computes them again.

        Raises:
            RuntimeError: This process is a fork of the process that owns the workers.
        """
        self._pipeline.lifetime.check_own()
        is_held = self._pipeline.is_held
        kept = tuple(entry for entry in self.entries if entry[0] is None or is_held(entry[0]))
        if len(kept) < len(self.entries):
            self.entries = kept

    @property
    def is_current(self) -> bool:
        """True if the loader has not begun another epoch, and no state was loaded."""
        return self._is_current()

    def popped(self) -> tuple[tuple[list[Any], ...], tuple[Delivery, ...], Delivery | None]:
        """Return the entries, ``held`` and ``returned`` without the first entry; see `Taken.popped`."""
        delivery, progress = self.entries[0][0], self.progress
        if delivery is None:
            return self.entries[1:], progress.held, progress.returned
        # An error is no batch that the user has got.
        returned = delivery if delivery[1] >= 0 else progress.returned
        return self.entries[1:], without(progress.held, delivery), returned

    def pass_on(self, delivery: Delivery) -> None:
        """Record that the user has got a batch that was lent."""
        self._pipeline.pass_on(delivery)

    def end_soon(self) -> None:
        """End the epoch in 0.1 s, if the user has got all of its batches."""
        self._pipeline.end_soon()

    def put_back(self, entries: Sequence[list[Any]], returned: Delivery | None) -> None:
        """Hold batches again that the user had got or that were lent, before all others.

        Args:
            entries: Their entries.
            returned: The batch that the user has got last before them.
        """
        progress = self.progress
        added = tuple(entry[0] for entry in entries if not self._pipeline.is_held(entry[0]))
        held = (*added, *progress.held)
        lent = tuple(each for each in progress.lent if not any(each is delivery for delivery in added))
        self.entries = (*entries, *self.entries)
        progress.held, progress.lent, progress.returned = held, lent, returned
