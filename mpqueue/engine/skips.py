"""Samples and batches that are skipped because the source raised for them: counted, logged, and bounded.

An error is recorded when its batch would have been delivered, not when it happened ahead of that. Only errors of the
source are skipped: a worker crash, a timeout and a lack of memory are always raised.
"""

import traceback
from typing import Any, NamedTuple, Self

from mpqueue.engine.outcomes import Outcome, Result, Unreadable, is_interrupt
from mpqueue.errors import BatchTimeout, BatchTooLarge, SharedMemoryFull, TooManyErrors, WorkerDied
from mpqueue.plan.cursors import WorkItem
from mpqueue.system.interrupts import defer_signals
from mpqueue.system.log import warn

NOTHING_LEFT = Result(is_end=True)
_NOT_OF_THE_SOURCE = (BatchTimeout, BatchTooLarge, SharedMemoryFull, WorkerDied)


def is_of_source(error: Exception) -> bool:
    """Return whether the source raised this error, so that it can be skipped."""
    return not isinstance(error, _NOT_OF_THE_SOURCE)


class Skipped(NamedTuple):
    """The samples, or the batch, skipped because of one error.

    Attributes:
        indices: The indices that the source was called with.
        text: The error with its traceback.
    """

    indices: tuple[Any, ...]
    text: str

    @classmethod
    def because_of(cls, error: BaseException, *indices: Any) -> Self:
        """Return the entry of these indices."""
        # An exception that a signal handler raises inside `traceback` would be swallowed there.
        with defer_signals():
            text = "".join(traceback.format_exception(error))
        return cls(indices, text)


class Skips:
    """Counters of the samples that one stream skips.

    Args:
        max_errors: Raise an error if more samples (or batches) of one epoch are skipped; None for no bound.

    Attributes:
        total: The number of skipped samples.
        latest: The number of the last work item with skipped samples, and their indices.
    """

    def __init__(self, max_errors: int | None) -> None:
        self.total = 0
        self.latest: tuple[int, tuple[Any, ...]] = -1, ()
        self._max_errors = max_errors
        self._epoch, self._count = -1, 0

    def resolve(self, work_item: WorkItem, outcome: Outcome) -> Outcome:
        """Return the rest of a batch (or `NOTHING_LEFT`), or the error that must be raised."""
        left: Outcome = NOTHING_LEFT
        try:
            batch, skipped, is_empty = outcome.open()
            if not is_empty:
                left = Result(batch)
        # Not the fault of a sample: skipping it would hide that data is missing.
        except _NOT_OF_THE_SOURCE as error:
            return Result.failed(error)
        except Unreadable as unreadable:
            skipped = [
                Skipped.because_of(
                    unreadable.settle(f"index {work_item.unit} of epoch {work_item.epoch}"), work_item.unit
                )
            ]
        except (Exception, KeyboardInterrupt) as error:
            if is_interrupt(error, outcome):
                raise
            if isinstance(error, KeyboardInterrupt):  # raised by the source: it must not be skipped
                return Result.failed(error)
            skipped = [Skipped.because_of(error, work_item.unit)]
        self.latest = work_item.number, tuple(index for indices, _ in skipped for index in indices)
        too_many = self._enter(work_item.epoch, skipped)
        return left if too_many is None else Result.failed(too_many)

    def _enter(self, epoch: int, skipped: list[Any]) -> TooManyErrors | None:
        """Count and log the entries; return the error if there are too many."""
        if epoch != self._epoch:
            self._epoch, self._count = epoch, 0
        for indices, text in skipped:
            names = ", ".join(map(repr, indices))
            warn(f"skipped index {names} of epoch {epoch} because the source raised:\n{text}")
            self._count += len(indices)
            self.total += len(indices)
            if self._max_errors is not None and self._count > self._max_errors:
                return TooManyErrors(self._count, self._max_errors, epoch, text)
        return None
