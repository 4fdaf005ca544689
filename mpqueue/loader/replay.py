"""A batch of a run, computed again by the calling thread, next to the run.

The batch is computed as a loader without workers computes it, with the seed of the run. The loop, its point, the random
generators of this process and the caches of datasets remain as they are.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mpqueue.backends.inline import InlineBackend
from mpqueue.backends.job import Job
from mpqueue.engine.backend import EndOfStream
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.skips import Skips
from mpqueue.plan.position.cursors import Cursor, ResumePoint, WorkItem
from mpqueue.system.signals.contexts import context_manager
from mpqueue.telemetry.recorder import Recorder
from mpqueue.worker import context


class OneWorkItem(Cursor):
    """A cursor that deals a single work item.

    Args:
        work_item: The work item.
        *arguments: The arguments of a different class of cursors, if a subclass has one.
        **options: Its keyword arguments.
    """

    def __init__(self, work_item: WorkItem, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._left = [work_item]

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return the work item, once."""
        dealt, self._left = [each._replace(work_id=self.next_work_id) for each in self._left], []
        self.next_work_id += len(dealt)
        return dealt


class QuietSkips(Skips):
    """Leaves out samples that raise, without a count and a message: the run reports them."""

    def __init__(self) -> None:
        super().__init__(None)

    def _enter(self, epoch: int, skipped: list[Any]) -> None:
        """Ignore the samples."""


def computed(job: Job, work_item: WorkItem) -> Any:
    """Return the batch of a work item of a source with an index.

    Raises:
        LookupError: The batch is empty: its samples are excluded, or raised and were skipped.
        Exception: The error of the source.
    """
    with opened(job, OneWorkItem(work_item), ResumePoint(work_item.epoch, work_item.position)) as pipeline:
        try:
            return pipeline.next()
        except EndOfStream:
            raise empty_batch(work_item.epoch, work_item.position) from None


def empty_batch(epoch: int, position: int) -> LookupError:
    """Return the error for a batch without samples."""
    return LookupError(
        f"the batch at position {position} of epoch {epoch} is empty: all of its samples are excluded or were left out"
    )


@context_manager
def opened(job: Job, cursor: Cursor, point: ResumePoint) -> Iterator[Pipeline]:
    """Yield a pipeline that computes batches in the calling thread, from a point on."""
    # With the seed, so that the batch has the numbers that worker processes drew, and the caller's generators are
    # restored.
    plan = job.plan.with_seed(job.plan.seed, given=True)
    job = replace(job, plan=plan, recorder=Recorder(None))
    ledger = Ledger(cursor, 1)
    ledger.go_to(point)
    pipeline = Pipeline(ledger, skips=QuietSkips() if plan.skips else None, recorder=job.recorder)
    pipeline.start(InlineBackend(ledger, job))
    try:
        with context.asking():
            yield pipeline
    finally:
        pipeline.stop()
