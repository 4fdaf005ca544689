"""The batches of a pass with workers, as its loader stores them: their point, their samples, and a repeated batch."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from mpqueue.backends.job import Job
from mpqueue.engine.backend import Stopped
from mpqueue.engine.progress.counts import DeliveredBatch
from mpqueue.frameworks.torch.order import state
from mpqueue.frameworks.torch.order.order import DrawnBatches, SamplerWatch
from mpqueue.frameworks.torch.source.streams import IterableOrder
from mpqueue.frameworks.torch.source.worker import MapSource
from mpqueue.loader.replay import computed
from mpqueue.loader.session import Session
from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.cursors import Cursor, Edit, ResumePoint, WorkItem
from mpqueue.plan.sources.sources import Items


class WorkerBatches:
    """The batches of a pass with workers. It does not refer to the iterator.

    Args:
        job: The job of the workers.
        cursor: Their cursor.
        session: Their session. Its pipeline is at the beginning of the pass.
        epoch: See `state.PassBatches`.
        first: See `state.PassBatches`.
        watch: The draw from the sampler; None for an iterable-style dataset.
        begun: The batches before the point where the pass begins.
    """

    def __init__(
        self, job: Job, cursor: Cursor, session: Session, epoch: int, first: int, watch: SamplerWatch | None,
        begun: DrawnBatches,
    ) -> None:  # fmt: skip
        assert session.pipeline is not None
        self.epoch, self.first = epoch, first
        self._job, self._cursor, self._pipeline = job, cursor, session.pipeline
        self.point, self.statistics, self.starts = self._pipeline.progress.point, session.statistics, session.starts
        self._watch = watch  # of a map-style dataset
        self._begun = begun  # where the pass begins
        self._num_before = self._pipeline.ledger.counts.num_returned  # in earlier passes of persistent workers

    @property
    def order(self) -> Iterator[Any] | None:
        """The iterator of the sampler; None for an iterable-style dataset."""
        return None if self._watch is None else self._watch.batches

    def drawn(self, point: ResumePoint) -> DrawnBatches:
        """Return the batches that the sampler has returned before the present point."""
        if self._watch is None:
            return DrawnBatches()
        mark = self._cursor.mark_at(point.epoch, point.position)
        # The cursor knows no fingerprint before it has drawn the batches before a resumed point again.
        return (
            self._begun
            if mark is None and point.position == self._begun.num_batches
            else self._watch.drawn(point.position, mark)
        )

    @property
    def num_returned(self) -> int:
        """The number of batches that the pass has returned."""
        return self._pipeline.ledger.counts.num_returned - self._num_before

    def returned(self) -> state.ReturnedBatch | None:
        """Return the batch that was returned last; None: none."""
        last = self._pipeline.ledger.counts.last() if self.num_returned else None
        if last is None:
            return None
        order = self._job.plan.order
        if not isinstance(order, StreamOrder):
            return state.ReturnedBatch(last.position, partial(order.samples_of, last.work_item))
        return state.ReturnedBatch(last.position, partial(self._ids, order, last))

    def _ids(self, order: StreamOrder, returned: DeliveredBatch) -> SampleIds:
        # Imported for the first question.
        from mpqueue.loader.stream_questions import ids_again

        workers = self._job.workers
        if isinstance(order, IterableOrder) and not self._may_be_short(order, returned.work_item):
            return order.ids_of(returned.work_item, None, order.share(workers, "process"))
        # Without `worker_init_fn`, which is for workers.
        job = Job(plan=replace(self._job.plan, order=order.identified()), workers=workers, options=Options())
        return ids_again(job, "process", returned, type(order.source.runs.parts.dataset).__name__)

    def _may_be_short(self, order: IterableOrder, work_item: WorkItem) -> bool:
        """Return whether an iterable-style dataset may end within a batch."""
        parts, pipeline = order.source.runs.parts, self._pipeline
        if parts.batch_size is None or parts.drop_last:
            return False
        with pipeline.guard.lock:
            ledger = pipeline.ledger
            if ledger.progress.epoch != work_item.epoch:  # persistent workers have started another pass
                return True
            if ledger.progress.counts[work_item.lane] > work_item.source_index + 1:
                return False
            # Batches are computed ahead, so the next one of the same worker is mostly known.
            ready = [(ledger.work_items.get(work_id), outcome) for work_id, outcome in ledger.ready.items()]
            return not any(
                each is not None
                and each.lane == work_item.lane
                and each.source_index > work_item.source_index
                and not outcome.is_end
                for each, outcome in ready
            )

    def compute(self, listed: BatchSamples) -> Any:
        """Return a batch, computed by this thread with the random numbers of the workers."""
        job = self._job
        source = MapSource(job.source.parts._replace(num_workers=0))
        plan = replace(job.plan, order=replace(job.plan.order, source=Items(source)))
        try:
            return computed(Job(plan=plan, workers=job.workers, options=Options()), WorkItem(0, 0, 0, 0, -1, listed))
        finally:
            source.end()

    def exclude(self, edit: Edit | None) -> None:
        """Remove samples from all batches that were not returned yet. Batches computed ahead are dropped."""
        self._cursor.edit = edit
        pipeline = self._pipeline
        if not pipeline.is_stopped:
            with contextlib.suppress(Stopped):  # stopped by another thread in the meantime
                pipeline.epochs.restart_at(pipeline.progress.point())
