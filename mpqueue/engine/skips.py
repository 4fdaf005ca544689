"""Samples and batches that are skipped because the source raised for them: counted, logged, and bounded.

An error is recorded when its batch would have been delivered, not when it happened ahead of that. Only errors of the
source are skipped: a worker crash, a timeout and a lack of memory are always raised.
"""

from typing import Any, NamedTuple, Self

from mpqueue.engine.outcomes import Outcome, Result, Unreadable, interrupted_opening
from mpqueue.errors import BatchTimeout, BatchTooLarge, SharedMemoryFull, TooManyErrors, WorkerDied
from mpqueue.plan.cursors import WorkItem
from mpqueue.system.exception_texts import traceback_text_of
from mpqueue.system.exceptions import matches
from mpqueue.system.log import warn

NOTHING_LEFT = Result(is_end=True)
_NOT_OF_THE_SOURCE = (BatchTimeout, BatchTooLarge, SharedMemoryFull, WorkerDied)


def may_skip(error: BaseException) -> bool:
    """Return whether this is an error of the source about a sample.

    A lack of memory, for example, would also affect all later samples. An exception that is not an `Exception`, such as
    asyncio's CancelledError, reports no bad sample, and code that skips errors must not hide it.
    """
    return matches(error, Exception) and not matches(error, *_NOT_OF_THE_SOURCE)


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
        return cls(indices, traceback_text_of(error))


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
        except BaseException as raised:
            if matches(raised, Unreadable):
                error = raised.settle(f"index {work_item.unit} of epoch {work_item.epoch}")
            elif interrupted_opening(raised, outcome):
                raise
            else:
                error = raised
            if not may_skip(error):
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
