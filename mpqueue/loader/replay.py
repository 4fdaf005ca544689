"""A batch of a run, computed again by the calling thread, next to the run.

The batch is computed as a loader without workers computes it, with the seed of the run. The loop, its place and the
random generators of this process remain as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mpqueue.engine.backend import EndOfStream
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.skips import Skips
from mpqueue.plan.cursors import Cursor, Place, WorkItem
from mpqueue.telemetry.recorder import Recorder
from mpqueue.workers.inline import InlineBackend
from mpqueue.workers.job import Job


class GivenCursor(Cursor):
    """A cursor that deals given work items.

    Args:
        work_items: The work items.
    """

    def __init__(self, work_items: Sequence[WorkItem]) -> None:
        super().__init__()
        self._work_items: Iterator[WorkItem] = iter(work_items)
        self.epoch = work_items[0].epoch

    def go_to(self, place: Place) -> None:
        """Do nothing: the work items are given."""

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return up to ``limit`` of the next work items."""
        dealt: list[WorkItem] = []
        while len(dealt) < limit and (work_item := next(self._work_items, None)) is not None:
            dealt.append(work_item._replace(number=self.next_number))
            self.next_number += 1
        return dealt


class QuietSkips(Skips):
    """Leaves out samples that raise, without a count and a message: the run reports them."""

    def __init__(self) -> None:
        super().__init__(None)

    def _enter(self, epoch: int, skipped: list[Any]) -> None:
        """Do nothing."""


def computed(job: Job, work_item: WorkItem) -> Any:
    """Return the batch of a work item of a source with an index.

    Raises:
        LookupError: The batch is empty: its samples are excluded, or raised and were left out.
        Exception: The error of the source.
    """
    pipeline = opened(job, GivenCursor([work_item]), Place(work_item.epoch, work_item.position))
    try:
        return pipeline.next()
    except EndOfStream:
        raise empty_batch(work_item.epoch, work_item.position) from None
    finally:
        pipeline.stop()


def empty_batch(epoch: int, position: int) -> LookupError:
    """Return the error for a batch without samples."""
    return LookupError(
        f"the batch at position {position} of epoch {epoch} is empty: all of its samples are excluded or were left out"
    )


def opened(job: Job, cursor: Cursor, place: Place) -> Pipeline:
    """Return a pipeline that computes batches in the calling thread, from a place on."""
    # With the seed, so that the batch has the numbers that worker processes drew, and the caller's generators are
    # restored.
    plan = job.plan.with_seed(job.plan.seed, given=True)
    job = replace(job, plan=plan, recorder=Recorder(None))
    ledger = Ledger(cursor, 1)
    ledger.go_to(place)
    pipeline = Pipeline(ledger, skips=QuietSkips() if plan.skips else None, recorder=job.recorder)
    pipeline.start(InlineBackend(ledger, job))
    return pipeline
