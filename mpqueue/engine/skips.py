"""Samples and batches that are left out because the source raised for them: counted, logged, and bounded.

An error is entered when its batch would have been handed out, not when it happened ahead of that. Only what the source
raises is left out: the end of a worker, a timeout and a lack of memory are raised as ever.
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
    """Return whether the source raised this, so that it can be left out."""
    return not isinstance(error, _NOT_OF_THE_SOURCE)


class Skipped(NamedTuple):
    """The samples (or the batch) left out because of one error.

    Attributes:
        indices: By which the source was asked for it.
        text: The error with its traceback.
    """

    indices: tuple[Any, ...]
    text: str

    @classmethod
    def because_of(cls, error: BaseException, *indices: Any) -> Self:
        """Return the entry of these indices."""
        # The standard library drops an exception that a signal handler raises amid some of this.
        with defer_signals():
            text = "".join(traceback.format_exception(error))
        return cls(indices, text)


class Skips:
    """Counts what one stream leaves out.

    Args:
        max_errors: More samples (or batches) of one epoch are an error; None: no bound.

    Attributes:
        total: How many were left out.
    """

    def __init__(self, max_errors: int | None) -> None:
        self.total = 0
        self._max_errors = max_errors
        self._epoch, self._count = -1, 0

    def sort_out(self, work_item: WorkItem, outcome: Outcome) -> Outcome:
        """Return what is left of a batch (or `NOTHING_LEFT`), or the error that is to be raised all the same."""
        left: Outcome = NOTHING_LEFT
        try:
            batch, skipped, is_empty = outcome.open()
            if not is_empty:
                left = Result(batch)
        # No fault of a sample: who went on without it would never hear what is lacking.
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
            if isinstance(error, KeyboardInterrupt):  # of the source: no error that can be left out
                return Result.failed(error)
            skipped = [Skipped.because_of(error, work_item.unit)]
        too_many = self._enter(work_item.epoch, skipped)
        return left if too_many is None else Result.failed(too_many)

    def _enter(self, epoch: int, skipped: list[Any]) -> TooManyErrors | None:
        """Count and log; return the error if these are too many."""
        if epoch != self._epoch:
            self._epoch, self._count = epoch, 0
        for indices, text in skipped:
            names = ", ".join(map(repr, indices))
            warn(f"left out index {names} of epoch {epoch}, for which the source raised:\n{text}")
            self._count += len(indices)
            self.total += len(indices)
            if self._max_errors is not None and self._count > self._max_errors:
                return TooManyErrors(self._count, self._max_errors, epoch, text)
        return None
