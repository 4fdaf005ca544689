"""`Held`: batches that a frontend has taken from a loader, and the user has not got yet.

A framework transfers batches to a device ahead of use, or looks at them before an epoch. The loader's state, its
``last`` and its end of the epoch still follow the user. `mpqueue.engine.ledger.Progress.held` lists these deliveries.
Their batches are stored here, each with its entry in that list.

A change of the run clears the list: an exclusion, new weights, a loaded state, a later loop. Then the batches are
dropped here, too. If this object is dropped, the list remains until the next loop. So no state counts a batch that the
user can no longer get.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from mpqueue.engine.ledger import Delivery
from mpqueue.engine.pipeline import Pipeline
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
            `Failed`. Entries are lists, because one instruction creates a list: a signal handler cannot lose a batch.
        returned: The place of the batch that the user has got last, for `put_back`.
    """

    returned: Any = None

    def __init__(self) -> None:
        self.entries: deque[list[Any]] = deque()

    def take(self) -> bool:
        """Take the next batch or error. Return False at the end if there are entries.

        Raises:
            StopIteration: It is the end, and there are no entries.
            BaseException: A signal handler has raised it.
        """
        raise NotImplementedError

    def drop_outdated(self) -> None:
        """Drop entries after a change of the run, which computes them again."""

    def pop(self) -> list[Any]:
        """Remove the first entry: the user gets it."""
        entry = self.entries[0]
        del self.entries[0]
        return entry

    def put_back(self, entries: list[list[Any]], returned: Any) -> None:  # noqa: ARG002 - for `Held`
        """Insert removed entries again, before all others. Entries that are still here remain.

        Args:
            entries: The entries.
            returned: The value of ``returned`` before they were removed.
        """
        for entry in reversed(entries):
            if not any(each is entry for each in self.entries):
                self.entries.appendleft(entry)


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

    def take(self) -> bool:
        """Take the next batch; see `Taken.take`."""
        entries = self.entries
        append: Callable[[list[Any]], None] = entries.append
        if self._is_error_missing():
            self._append_error(None)
            return True
        try:
            taken = self._request()
            if taken is None:
                return False
            append([*taken])  # no call but this one since the batch was delivered
        except StopIteration:
            if not entries:
                raise
            return False
        except not_of_handler(BaseException) as error:
            self._append_error(error)
        return True

    def _is_error_missing(self) -> bool:
        """Return whether an error was counted, and an interrupt prevented its entry."""
        held = self._pipeline.ledger.progress.held
        return bool(held) and held[-1][1] < 0 and not (self.entries and self.entries[-1][0] is held[-1])

    def _append_error(self, error: BaseException | None) -> None:
        delivery = self._pipeline.ledger.progress.held[-1] if self._is_error_missing() else None
        if error is None and delivery is not None:
            error = never_an_end(delivery[3])
        if error is not None:
            self.entries.append([delivery, Failed(error)])

    def drop_outdated(self) -> None:
        """Drop entries after a change of the run, which computes them again.

        Raises:
            RuntimeError: This process is a fork of the process that owns the workers.
        """
        self._pipeline.lifetime.check_own()
        entries, is_held = self.entries, self._pipeline.is_held
        while entries and entries[0][0] is not None and not is_held(entries[0][0]):
            entries.popleft()

    @property
    def is_current(self) -> bool:
        """True if the loader has not begun another epoch, and no state was loaded."""
        return self._is_current()

    def pop(self, *, is_final: bool = True) -> list[Any]:
        """Remove the first entry: the user gets it.

        Args:
            is_final: Only an interrupt can make the caller put it back.
        """
        # In this order: after an interrupt between the two, `put_back` restores the entry.
        entry = super().pop()
        self.pass_on(entry, is_final=is_final)
        return entry

    def lend(self) -> Delivery:
        """Remove the first entry, which a framework has taken ahead of use. Call `pass_on` when it was used."""
        delivery: Delivery = self.entries[0][0]
        del self.entries[0]
        self._pipeline.lend(delivery)
        return delivery

    def pass_on(self, entry: Sequence[Any], *, is_final: bool = True) -> None:
        """Record that the user has got a removed entry."""
        if entry[0] is not None:
            self._pipeline.pass_on(entry[0], is_final=is_final)

    @property
    def returned(self) -> Delivery | None:
        """The batch that the user has got last."""
        return self._pipeline.returned

    def put_back(self, entries: list[list[Any]], returned: Any) -> None:
        """Hold entries again; see `Taken.put_back`."""
        self._pipeline.hold_again([delivery for delivery, _ in entries if delivery is not None], returned)
        super().put_back(entries, returned)
