"""Samples and batches that are skipped because the source raised for them: counted, logged, and bounded.

An error is recorded when its batch would have been delivered, not when it happened ahead of that; after the last batch
of a lane, with the end of the lane. Elements skipped in a stream use up no position of a batch. Only errors of the
source are skipped: a worker crash, a timeout and a lack of memory are always raised.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from mpqueue.engine.outcomes import Outcome, Result, Unreadable
from mpqueue.errors import BatchTimeout, BatchTooLarge, SharedMemoryFull, TooManyErrors, WorkerDied, WorkerRaised
from mpqueue.system.log import warn
from mpqueue.system.signals.exceptions import matches
from mpqueue.system.user_code.exception_texts import traceback_text_of

if TYPE_CHECKING:  # not imported: a worker deals no work items
    from mpqueue.plan.position.cursors import WorkItem

ALL_SKIPPED = Result(is_end=True)
_NOT_OF_THE_SOURCE = (BatchTimeout, BatchTooLarge, SharedMemoryFull, WorkerDied)


def may_skip(error: BaseException) -> bool:
    """Return whether this is an error of the source about a sample.

    A lack of memory, for example, would also affect all later samples. An exception that is not an `Exception`, such as
    asyncio's CancelledError, reports no bad sample, and code that skips errors must not hide it. A SystemExit does: a
    library has given up on the sample.
    """
    if matches(error, WorkerRaised):
        return error._may_be_skipped
    return matches(error, Exception, SystemExit) and not matches(error, *_NOT_OF_THE_SOURCE)


def _parts_of(text: str) -> tuple[str, str]:
    """Return the innermost frame of a traceback, and the line with its exception, without the notes after it."""
    lines, frame, end = text.splitlines() or [""], "", 0
    for index, line in enumerate(lines):
        if line.startswith("  File "):
            frame = line
        if line.startswith("  "):
            end = index + 1
    return frame, lines[min(end, len(lines) - 1)]


class Skipped(NamedTuple):
    """The samples, or the batch, skipped because of one error.

    Attributes:
        indices: The indices that the source was called with; empty if an element of a dataset remains without some of
            its samples.
        text: The error with its traceback.
        ids: The ids of these samples, if ``indices`` is empty.
    """

    indices: tuple[Any, ...]
    text: str
    ids: tuple[Any, ...] = ()

    @classmethod
    def because_of(cls, error: BaseException, *indices: Any, ids: Iterable[Any] = ()) -> Self:
        """Return the entry of these indices, or of samples with these ids within an element."""
        return cls(indices, traceback_text_of(error), tuple(ids))

    @property
    def num(self) -> int:
        """The number to count. Samples within an element are one: a sample, or an element of several, has raised."""
        return len(self.indices) or 1

    @property
    def names(self) -> str:
        """The indices or the ids, for a message."""
        which, names = ("index", self.indices) if self.indices else ("sample", self.ids)
        return f"{which} {', '.join(map(repr, names))}"


class SkippedSamples(NamedTuple):
    """The samples that were skipped in a batch because of errors.

    Attributes:
        indices: The indices that the source was called with.
        ids: The ids of samples that were skipped in an element of a dataset.
        num: The number to count.
    """

    indices: tuple[Any, ...] = ()
    ids: tuple[Any, ...] = ()
    num: int = 0

    @classmethod
    def of(cls, entries: Iterable[Iterable[Any]]) -> Self:
        """Return the samples that these entries skipped: `Skipped` entries, or plain tuples of another process."""
        skipped = [Skipped(*entry) for entry in entries]
        indices = tuple(index for each in skipped for index in each.indices)
        return cls(indices, tuple(sample for each in skipped for sample in each.ids), sum(each.num for each in skipped))

    def sort(self, samples: Iterable[Any], whole: Iterable[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the samples that are in a batch, and the skipped samples.

        Args:
            samples: The ids of the samples of the elements in the batch.
            whole: The ids of the samples of the elements that were skipped as a whole.
        """
        kept, missing = list(samples), list(whole)
        for sample in self.ids:
            # A batch may contain a sample twice. If its element was skipped later, a sample is in neither list.
            if sample in kept:
                kept.remove(sample)
                missing.append(sample)
        return tuple(kept), tuple(missing)


class Skips:
    """Counters of the samples that one stream skips.

    Args:
        max_errors: Raise an error if more samples (or batches) of one epoch are skipped; None for no bound.

    Attributes:
        total: The number of skipped samples.
        latest: The id of the last work item with skipped samples, and these.
    """

    def __init__(self, max_errors: int | None) -> None:
        self.total = 0
        self.latest: tuple[int, SkippedSamples] = -1, SkippedSamples()
        self._max_errors = max_errors
        self._errors: Counter[int] = Counter()  # by the hash of the line that raised, and the class
        self._epoch, self._count = -1, 0

    def resolve(self, work_item: "WorkItem", outcome: Outcome) -> Outcome:
        """Return the rest of a batch (or `ALL_SKIPPED`), or the error that must be raised."""
        left: Outcome = ALL_SKIPPED
        try:
            batch, skipped, is_empty = outcome.open()
            if not is_empty:
                left = Result(batch)
        except BaseException as raised:
            if matches(raised, Unreadable):
                error = raised.settle(f"index {work_item.source_index} of epoch {work_item.epoch}")
            elif not outcome.is_own(raised):
                raise
            else:
                error = raised
            if not may_skip(error):
                return Result.failed(error)
            skipped = [Skipped.because_of(error, work_item.source_index)]
        self.latest = work_item.work_id, SkippedSamples.of(skipped)
        too_many = self._enter(work_item.epoch, skipped)
        return left if too_many is None else Result.failed(too_many)

    def _tell(self, entry: Skipped, epoch: int) -> None:
        """Log an entry; without its traceback, if an earlier error is of the same line and class."""
        what = f"skipped {entry.names} of epoch {epoch} because the source raised"
        frame, message = _parts_of(entry.text)
        of = hash((frame, message.partition(":")[0]))
        self._errors[of] += 1
        if self._errors[of] == 1:
            warn(f"{what}:\n{entry.text}")
        else:
            warn(f"{what} the error of this line again ({self._errors[of]} times so far): {message}")

    def _enter(self, epoch: int, skipped: list[Any]) -> TooManyErrors | None:
        """Count and log the entries; return the error if there are too many."""
        if epoch != self._epoch:
            self._epoch, self._count = epoch, 0
        for each in skipped:
            entry = Skipped(*each)  # a plain tuple, if another process sent it
            self._tell(entry, epoch)
            self._count += entry.num
            self.total += entry.num
            if self._max_errors is not None and self._count > self._max_errors:
                return TooManyErrors(self._count, self._max_errors, epoch, entry.text)
        return None
