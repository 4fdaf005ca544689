"""`Held`: the batches that a frontend has taken from a loader, and that its user has not got.

A framework takes batches ahead of use, to transfer them to a device, or looks at them before an epoch. The state of the
loader, its ``last`` and the end of its epoch follow the user, not the framework. The list of what is held is
`mpqueue.engine.ledger.Progress.held`; the batches themselves are here, and each names its entry in that list.

A change of the run clears the list: an exclusion, other weights, a state that is loaded, a later loop. The batches here
are then dropped, because the run computes them again or has left them. If this object is dropped instead, the list
remains until the next loop, so that no state counts a batch that nobody can get.
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
    """The batches that a frontend has taken from an iterable, and that its user has not got, in their order.

    Attributes:
        entries: The batches, or what the frontend has made of them, or a `Failed`. Each is behind what identifies its
            place. Entries are lists, because one instruction creates a list: a signal handler that raises cannot lose a
            batch.
        returned: What identifies the place of the batch that the user has got last, for `put_back`.
    """

    returned: Any = None

    def __init__(self) -> None:
        self.entries: deque[list[Any]] = deque()

    def take(self) -> bool:
        """Take the next batch, or the error in its place. Return False at the end, if there are entries.

        Raises:
            StopIteration: The end is reached, and there is no entry.
            BaseException: A signal handler has raised it.
        """
        raise NotImplementedError

    def drop_outdated(self) -> None:
        """Drop entries that a change of the run has dropped."""

    def pop(self) -> list[Any]:
        """Remove the first entry: the user gets it."""
        entry = self.entries[0]
        del self.entries[0]
        return entry

    def put_back(self, entries: list[list[Any]], returned: Any) -> None:  # noqa: ARG002 - for `Held`
        """Put entries back that were removed, before all others. Those that are here already remain.

        Args:
            entries: The entries.
            returned: The value of ``returned`` before they were removed.
        """
        for entry in reversed(entries):
            if not any(each is entry for each in self.entries):
                self.entries.appendleft(entry)


class Held(Taken):
    """The held batches of one epoch of a loader. An entry begins with its `Delivery`; None: an error without a batch.

    Call it from one thread at a time.

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
        """Return the held batches of the next epoch of a loader, which begins."""
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
        """Return whether an interrupt has kept a counted error out of the entries."""
        held = self._pipeline.ledger.progress.held
        return bool(held) and held[-1][1] < 0 and not (self.entries and self.entries[-1][0] is held[-1])

    def _append_error(self, error: BaseException | None) -> None:
        delivery = self._pipeline.ledger.progress.held[-1] if self._is_error_missing() else None
        if error is None and delivery is not None:
            error = never_an_end(delivery[3])
        if error is not None:
            self.entries.append([delivery, Failed(error)])

    def drop_outdated(self) -> None:
        """Drop what a change of the run has dropped.

        Raises:
            RuntimeError: This process was forked from the one that owns the workers, which returns these batches.
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
            is_final: It is not put back, unless an interrupt keeps it from the user.
        """
        # In this order: an interrupt between the two leaves an entry to `put_back`.
        entry = super().pop()
        self.pass_on(entry, is_final=is_final)
        return entry

    def lend(self) -> Delivery:
        """Remove the first entry: a framework has taken it ahead of use. `pass_on` tells that it was used."""
        delivery: Delivery = self.entries[0][0]
        del self.entries[0]
        self._pipeline.lend(delivery)
        return delivery

    def pass_on(self, entry: Sequence[Any], *, is_final: bool = True) -> None:
        """Record that the user has got an entry that was removed."""
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
