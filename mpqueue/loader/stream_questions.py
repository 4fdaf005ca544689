"""The samples of a batch that a stream has returned, and its place without excluded samples.

To find the ids of a batch, its lane is run again in the calling thread, from the newest snapshot that is not after the
batch: its outline if no user code decides which samples pass, or the stream itself.
"""

import pickle
from contextlib import AbstractContextManager
from dataclasses import replace

from mpqueue.engine.backend import EndOfStream
from mpqueue.engine.pipeline import Mark, Pipeline
from mpqueue.loader.questions import Questions
from mpqueue.loader.replay import OneWorkItem, opened
from mpqueue.plan.batch_info import BatchInfo, SampleIds
from mpqueue.plan.cursors import Place, StreamCursor, WorkItem
from mpqueue.plan.lanes import BEGINNING, LaneShare, LaneStart, with_exclusions
from mpqueue.plan.plans import StreamPlan


class LaneCursor(OneWorkItem, StreamCursor):
    """A cursor that deals a single element."""


class StreamQuestions(Questions):
    """Answers about the places of a stream."""

    _plan: StreamPlan

    def info_of(self, returned: Mark) -> BatchInfo:
        """Return the samples of a batch that the loops returned."""
        plan, work_item, start = self._plan, returned.work_item, returned.start
        epoch, position, step = returned.epoch, returned.position, returned.step
        if plan.history.excluded is None:
            # Samples may be excluded before the ids are read, which changes the source of the plan.
            return self._info(
                plan, epoch, position, lambda: self._ids(self._plan_at(epoch, position), work_item, start), step=step
            )
        # Samples may be excluded after this batch. Later calls of the loader do not change these places.
        known = StreamQuestions(self._run.frozen(self._run.where()))
        return self._info(plan, epoch, position, lambda: known._samples_of(epoch, position, work_item), step=step)

    def _samples_of(self, epoch: int, batch: int, returned: WorkItem) -> SampleIds:
        """Return the ids of the samples of a batch that was returned; user code is called.

        Args:
            epoch: The epoch.
            batch: The number of the batch.
            returned: Its work item.

        Raises:
            LookupError: They are unknown.
        """
        self._check_replay()
        plan = self._plan_at(epoch, batch)
        # Elements of an endless stream belong to no epoch.
        of = epoch if plan.epoch_batches is None else 0
        work_item = WorkItem(0, of, batch, returned.unit, returned.lane)
        samples = self._ids(plan, work_item, self._newest_before(epoch, batch, work_item))
        if not samples:
            raise LookupError(
                f"the samples of batch {batch} of epoch {epoch} are unknown: {plan.source.name} must return the same "
                "elements each time, and has ended before this batch when it was run again"
            )
        return samples

    def _plan_at(self, epoch: int, batch: int) -> StreamPlan:
        """Return the plan with the samples that are excluded at a place."""
        return self._plan.excluding(self._plan.history.exclusions_at(epoch, batch, self._plan.shard.world))

    def share(self) -> LaneShare:
        """Return the lanes of this rank."""
        return self._plan.share(self._job.workers, self._run.backend)

    def excluding_from_here(self) -> Place:
        """Return the place of the loops, where the lanes begin one more exclusion."""
        known = len(self._plan.history.exclusions)
        where = self._excluding(self._run.where(), known, known + 1)
        # A lane that continues may have another end.
        ends = [end if count == end else -1 for count, end in zip(where.counts, where.ends, strict=False)]
        return where._replace(ends=tuple(ends) if ends and max(ends) >= 0 else ())

    def _excluding(self, place: Place, before: int, after: int) -> Place:
        if before == after:
            return place
        starts = place.starts or [BEGINNING] * len(place.counts)
        marked = [with_exclusions(*each, before, after) for each in zip(starts, place.counts, strict=True)]
        return place._replace(starts=tuple(marked))

    def saved_here(self) -> Place:
        """Return the place of the loops, with snapshots of the lanes at the place itself."""
        where, share, plan = self._run.where(), self.share(), self._plan
        if not any(where.counts):
            return where
        starts = list(where.starts or [BEGINNING] * share.num_lanes)
        left = {share.lane(lane): count - starts[lane].number for lane, count in enumerate(where.counts)}
        plan = plan.saving(left)
        for lane, count in enumerate(where.counts):
            if count:
                of = where.epoch if plan.epoch_batches is None else 0
                with self._opened_lane(plan, WorkItem(0, of, 0, count, lane), starts[lane]) as pipeline:
                    starts[lane] = LaneStart(count, pickle.dumps(pipeline.next(), 5))
        return where._replace(starts=tuple(starts))

    def _check_beginning(self, begin: Place, epoch: int, batch: int) -> None:
        """Raise a `LookupError` if samples were excluded between a place to begin and a batch."""
        history, world = self._plan.history, self._plan.shard.world
        if history.excluded_at(begin.epoch, begin.position, world) != history.excluded_at(epoch, batch, world):
            raise LookupError(
                f"batch {batch} of epoch {epoch} is unknown: samples were excluded before it in the same epoch, by "
                "another process or more than 8 changes ago"
            )

    def _newest_before(self, epoch: int, batch: int, work_item: WorkItem) -> LaneStart:
        """Return the newest snapshot of the lane of a batch that is not after it."""
        is_endless, world, lane = self._plan.epoch_batches is not None, self._plan.shard.world, work_item.lane
        where, excluded_at = self._run.where(), self._plan.history.excluded_at
        start, is_known = BEGINNING, work_item.unit == 0
        for place in (*self._run.anchors, where):
            is_usable = place is where or excluded_at(place.epoch, place.position, world) == excluded_at(
                epoch, batch, world
            )
            if not (is_usable and (is_endless or place.epoch == epoch)):
                continue
            is_known |= not place.counts or place.counts[lane] <= work_item.unit
            if place.starts and start.number <= place.starts[lane].number <= work_item.unit:
                start = place.starts[lane]
        if not is_known and start.state is None:
            self._check_beginning(Place(0 if is_endless else epoch), epoch, batch)
        return start

    def _ids(self, plan: StreamPlan, work_item: WorkItem, start: LaneStart) -> SampleIds:
        """Return the ids of the samples of an element."""
        # A batch without the sample that raised takes the next one, so the outline of the stream is at other places.
        identified = plan.identified(has_raised=self._passes_over(work_item, start) or self._run.has_raised)
        with self._opened_lane(identified, work_item, start) as pipeline:
            try:
                element = pipeline.next()
            except EndOfStream:
                return ()
        return identified.ids_of(work_item, element, plan.share(self._job.workers, self._run.backend))

    def _passes_over(self, work_item: WorkItem, start: LaneStart) -> bool:
        """Return whether an element after a snapshot may have raised in no loop of this process."""
        is_endless, run = self._plan.epoch_batches is not None, self._run
        return run.is_resumed and any(
            (is_endless or place.epoch == work_item.epoch)
            and place.counts
            and start.number < place.counts[work_item.lane] <= work_item.unit
            for place in run.anchors
        )

    def _opened_lane(self, plan: StreamPlan, work_item: WorkItem, start: LaneStart) -> AbstractContextManager[Pipeline]:
        share = plan.share(self._job.workers, self._run.backend)
        cursor = LaneCursor(work_item, share, epoch_batches=plan.epoch_batches)
        counts, starts = [0] * share.num_lanes, [BEGINNING] * share.num_lanes
        counts[work_item.lane], starts[work_item.lane] = work_item.unit, start
        place = Place(work_item.epoch, counts=tuple(counts), starts=tuple(starts))
        return opened(replace(self._job, plan=plan), cursor, place)
