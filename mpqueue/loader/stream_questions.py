"""The samples of the batch that a stream has returned last, and its point without excluded samples.

To find the ids, the calling thread runs the lane of the batch again, with the user's functions. It starts from the
newest snapshot that is not after the batch.
"""

from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import cast

from mpqueue.backends.job import Job
from mpqueue.engine.backend import EndOfStream
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.progress.counts import DeliveredBatch
from mpqueue.loader.questions import BatchLookup
from mpqueue.loader.replay import OneWorkItem, opened
from mpqueue.plan.ids.batch_info import BatchInfo, SampleIds
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.cursors import ResumePoint, WorkItem
from mpqueue.plan.position.lanes import BEGINNING, LaneShare, LaneStart, ends_at_change, with_change
from mpqueue.plan.position.stream_cursor import StreamCursor


class LaneCursor(OneWorkItem, StreamCursor):
    """A cursor that deals a single element."""


class StreamQuestions(BatchLookup):
    """Answers about the points of a stream."""

    _order: StreamOrder

    def info_of(self, returned: DeliveredBatch) -> BatchInfo:
        """Return the samples of a batch that the loops returned."""
        run, plan = self._run, self._job.plan
        if run.last_known is not None and run.last_known[0] is returned.work_item:
            return run.last_known[1]
        # Now, because the stream may be changed before the ids are read.
        samples = partial(
            ids_again,
            replace(self._job, plan=replace(plan, order=self._order.identified())),
            run.backend,
            returned,
            plan.source.name,
        )
        return self._info(self._order, returned.epoch, returned.position, samples, step=returned.step)

    def share(self) -> LaneShare:
        """Return the lanes of this rank."""
        return self._order.share(self._job.workers, self._run.backend)

    def changing(self, kind: str) -> ResumePoint:
        """Return the position of the loops, where the lanes begin one more change."""
        where, made = self._run.where(), len(getattr(self._history.changes, kind))
        starts = where.starts or [BEGINNING] * len(where.counts)
        marked = [with_change(start, kind, made, count) for start, count in zip(starts, where.counts, strict=True)]
        return where._replace(starts=tuple(marked), ends=ends_at_change(where.ends, where.counts))


def ids_again(job: Job, backend: BackendName, returned: DeliveredBatch, name: str) -> SampleIds:
    """Return the ids of the samples of a batch that was returned; user code is called.

    Args:
        job: The job, with the identified order.
        backend: The backend of the workers.
        returned: The batch.
        name: The name of the source, for errors.

    Raises:
        LookupError: The ids are unknown.
    """
    order, work_item = cast("StreamOrder", job.plan.order), returned.work_item
    if not order.source.can_replay:
        raise LookupError(f"the source is an iterator ({name}), which yields each element once: pass a function")
    with _opened_lane(job, backend, work_item, returned.start) as pipeline:
        try:
            element = pipeline.next()
        except EndOfStream:
            raise LookupError(
                f"the samples of batch {returned.position} of epoch {returned.epoch} are unknown: {name} must return "
                "the same elements each time, and has ended before this batch when it was run again"
            ) from None
    return order.ids_of(work_item, element, order.share(job.workers, backend))


def _opened_lane(
    job: Job, backend: BackendName, work_item: WorkItem, start: LaneStart
) -> AbstractContextManager[Pipeline]:
    """Return a pipeline that computes one element of a lane, from a snapshot."""
    order = cast("StreamOrder", job.plan.order)
    share = order.share(job.workers, backend)
    cursor = LaneCursor(work_item, share, epoch_batches=order.epoch_batches)
    counts, starts = [0] * share.num_lanes, [BEGINNING] * share.num_lanes
    counts[work_item.lane], starts[work_item.lane] = work_item.source_index, start
    return opened(job, cursor, ResumePoint(work_item.epoch, counts=tuple(counts), starts=tuple(starts)))
