"""`RareOutcomes`: what happens to an outcome that is not a complete batch.

The end of a lane is recorded. An error of the source is skipped, or raised in the batch's position.
"""

from mpqueue.engine.epochs import Epochs
from mpqueue.engine.guard import Guard
from mpqueue.engine.outcomes import Outcome
from mpqueue.engine.skips import ALL_SKIPPED, Skips
from mpqueue.plan.position.cursors import WorkItem


class RareOutcomes:
    """The outcomes of one pipeline that are not complete batches.

    Args:
        guard: The lock around the ledger and the backend.
        epochs: The epochs of the pipeline.
        skips: Records the errors of the source, which are skipped; if None, they are raised.

    Attributes:
        failed: The last work item that made `step` raise.
    """

    def __init__(self, guard: Guard, epochs: Epochs, skips: Skips | None) -> None:
        self._guard, self._epochs, self._skips = guard, epochs, skips
        self._ledger = guard.ledger
        self.failed: WorkItem | None = None

    def take(self, work_item: WorkItem, outcome: Outcome) -> Outcome | None:
        """Process an outcome, or raise the exception of its batch; return its remaining samples as a batch.

        Raises:
            Exception: The exception that the source raised for this batch.
        """
        ledger = self._ledger
        # The end of a lane, not of the stream: the stream ends when no lane has anything to deal.
        if outcome.is_end:
            self._end_lane(work_item, outcome)
            return None
        # Skip in the order of delivery, not of arrival: the maximum number of errors applies to the consumer's epoch.
        # An error in dealing has no position, and belongs to no batch that could be skipped.
        if self._skips is not None and work_item.position >= 0:
            outcome = self._skipped(self._skips, work_item, outcome)
            if outcome.is_plain:
                return outcome
        try:
            if outcome is not ALL_SKIPPED:
                outcome.open()
        except BaseException as error:
            if outcome.is_own(error):
                # Counted like a batch, otherwise it would be raised forever.
                if work_item.position >= 0:
                    self._count_empty(work_item)
                    if ledger.holds:
                        ledger.counts.hold(work_item, self._skips, error)
                self.failed, self._guard.own = work_item, error
            raise
        if work_item.lane >= 0:  # the epoch gets another batch instead, so that positions have no gaps
            ledger.counts.parts.drop(work_item)
            ledger.progress.count_skipped(work_item)
        elif work_item.position >= 0:
            self._count_empty(work_item)
        return None

    def _skipped(self, skips: Skips, work_item: WorkItem, outcome: Outcome) -> Outcome:
        return skips.resolve(work_item._replace(epoch=self._ledger.counts.epoch_of(work_item)), outcome)

    def _count_empty(self, work_item: WorkItem) -> None:
        """Count an outcome that is not a batch."""
        counts, progress = self._ledger.counts, self._ledger.progress
        if counts.count(work_item, is_empty=True):
            # After an interrupt of the next call, it is counted again, so that the epoch ends.
            progress.interrupted, counts.num_empty = work_item, counts.num_empty - 1
            self._epochs.mark_due()
            progress.interrupted, counts.num_empty = None, counts.num_empty + 1

    def _end_lane(self, work_item: WorkItem, outcome: Outcome) -> None:
        """Process the end of a lane, and the samples skipped after its last element. It counts as no batch."""
        left: Outcome = ALL_SKIPPED
        if self._skips is not None and outcome.is_partial:
            left = self._skipped(self._skips, work_item, outcome)
        self._ledger.cursor.end_lane(work_item.lane, work_item.source_index)
        if left is not ALL_SKIPPED:  # too many errors, which belong to no batch
            try:
                left.open()
            except BaseException as error:
                if left.is_own(error):
                    self._guard.own = error
                raise
