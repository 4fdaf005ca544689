"""`Held`: batches that a frontend has taken from a loader, but the user has not received yet.

A framework transfers batches to a device ahead of use, or inspects them before an epoch. The loader's state, its
``last`` and the end of the epoch still follow the user, see `mpqueue.engine.progress.deliveries`. The batches are
stored here, each with its delivery.

A change of the run drops the deliveries: an exclusion, new weights, a loaded state, a later loop, an interrupt. Then
the batches are dropped here, too. If this object is dropped, the deliveries remain until the next loop. So no state
counts a batch that the user can no longer get.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.progress.deliveries import Delivery, Record
from mpqueue.engine.progress.progress import Progress
from mpqueue.loader.loader import Loader
from mpqueue.system.signals.interrupts import is_interrupt


class Failed(NamedTuple):
    """An error in place of a batch.

    Attributes:
        error: The error.
    """

    error: BaseException


class Taken:
    """Batches that a frontend has taken from an iterable, and the user has not received yet, in order.

    Attributes:
        entries: Pairs of a position and a batch; a frontend may replace the batch. For an error, the second item is a
            `Failed`.
    """

    def __init__(self) -> None:
        self.entries: tuple[list[Any], ...] = ()

    def take(self) -> bool:
        """Take the next batch or error. Return False at the end if there are entries.

        Raises:
            StopIteration: The end is reached, and no entry is left.
            BaseException: A signal handler has raised it.
        """
        raise NotImplementedError

    def drop_outdated(self) -> None:
        """Drop entries after a change of the run, which computes them again."""

    def pop(self) -> None:
        """Record that the user gets the first entry; assignments are the last step."""
        self.entries = self.entries[1:]

    def end_soon(self) -> None:
        """End the epoch in 0.1 s, if the user has got all of its batches by then."""


class Held(Taken):
    """The held batches of one epoch of a loader.

    An entry begins with its `Delivery`, or with None for an error without a batch. Use it in one thread at a time.

    Args:
        request: Returns the next delivery and its batch; None at the end, while anything is held.
        pipeline: Returns the pipeline that delivers them.
        is_current: Returns whether the loader has not started another epoch, and no state was loaded.
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
        return self._pipeline.progress

    def take(self) -> bool:
        """Take the next batch; see `Taken.take`."""
        try:
            taken = self._request()
        except StopIteration:
            if not self.entries:
                raise
            return False
        except BaseException as error:
            if is_interrupt(error):
                raise
            self._append_error(error)
            return True
        if taken is not None:
            self.entries = (*self._kept(), [*taken])
        return taken is not None

    def _append_error(self, error: BaseException) -> None:
        deliveries = self.progress.deliveries
        delivery = deliveries[-1] if deliveries and deliveries[-1].error is not None else None
        self.entries = (*self._kept(), [delivery, Failed(error)])

    def _kept(self) -> tuple[list[Any], ...]:
        """Return the entries that no change of the run, and no interrupt, has dropped."""
        deliveries = self.progress.deliveries
        return tuple(entry for entry in self.entries if entry[0] is None or entry[0] in deliveries)

    def drop_outdated(self) -> None:
        """Drop entries after a change of the run, which computes them again.

        Raises:
            RuntimeError: This process is a fork of the process that owns the workers.
        """
        self._pipeline.guard.lifetime.check_own()
        self.entries = kept = self._kept()
        num_held = sum(not each.is_lent for each in self.progress.deliveries)
        if num_held > sum(entry[0] is not None for entry in kept):
            self._pipeline.guard.restart_soon()  # an interrupt has kept a batch from its entry

    @property
    def is_current(self) -> bool:
        """True if the loader has not started another epoch, and no state was loaded."""
        return self._is_current()

    def pop(self) -> None:
        """Record that the user gets the first entry; see `Taken.pop`."""
        entry, rest, progress = self.entries[0], self.entries[1:], self.progress
        delivery, left, returned = entry[0], progress.deliveries, progress.returned
        if delivery is not None:
            left = progress.without(delivery)
            returned = delivery.record if delivery.error is None else returned  # an error is not a batch
        self.entries, progress.deliveries, progress.returned = rest, left, returned

    def pass_on(self, delivery: Delivery) -> None:
        """Record that the user has received a batch that was lent."""
        self._pipeline.progress.pass_on(delivery)

    def end_soon(self) -> None:
        """End the epoch in 0.1 s, if the user has got all of its batches by then."""
        self._pipeline.epochs.end_soon()

    def hold_again(self, entries: Sequence[list[Any]], returned: Record | None) -> None:
        """Hold batches again that the user had received or that were lent, before all others.

        Args:
            entries: Their entries.
            returned: The last batch that the user has received before them.
        """
        progress, added = self.progress, [entry[0] for entry in entries]
        for delivery in added:
            delivery.is_lent = False
        held = (*added, *(each for each in progress.deliveries if each not in added))
        self.entries = (*entries, *self.entries)
        progress.deliveries, progress.returned = held, returned
