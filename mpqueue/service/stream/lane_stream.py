"""The engine of a server with a stream as its source: elements of virtual shards (lanes), each after the one before it.

Consumers and the journal count the batches of an epoch over all lanes, in the order of delivery. A batch cannot be
computed by its position alone. So a restarted server begins at an earlier point with snapshots of the lanes, and drops
the batches that were taken.
"""

from typing import cast

from mpqueue.backends.job import Job
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.service.routing.seat_batches import BatchHandle, Failure
from mpqueue.service.stream.stream import Stream, StreamStart
from mpqueue.system.log import warn


class LaneStream(Stream):
    """A stream of elements of lanes.

    Args:
        job: The plan of the stream, and the resources to run it.
        start: Where it begins.

    Attributes:
        is_endless: An epoch has a fixed number of batches, and the next one continues where it stopped.
    """

    def __init__(self, job: Job, start: StreamStart) -> None:
        # A resumed stream: the first position that a consumer still needs, and the taken positions after it.
        plan, first = job.plan, start.point
        self._missing_from, self._given = first.position, frozenset(first.ahead)
        self._is_resumed = self._missing_from > 0 or bool(self._given)
        self._has_warned = False
        point, history = start.lane_point or ResumePoint(first.epoch), start.history
        super().__init__(job, StreamStart(point, history=history.before(point.epoch, point.position, 1)))
        self.history, self.is_endless = history, plan.ends_by_count
        # The positions are assigned when the batches are taken.
        self.is_ordered = True

    def _check_source_restartable(self) -> None:
        if self.plan.order.lanes is None:
            raise ValueError(
                "journal requires a source that can resume, got a generator without lanes: pass lanes=n with a "
                "generator function, use a source with __getitem__, or leave out journal"
            )

    def source_state(self) -> None:
        """Return None: snapshots of the lanes contain everything that a restarted server needs."""

    # -- Epochs

    def _enter(self, epoch: int) -> None:
        pipeline = self._pipeline
        # Exclusions that begin with the epoch after a restart. The workers get the changed source.
        if epoch > self._point.epoch and self.plan.history is not self.history:
            self.plan.source.follow(self.history)
            pipeline.epochs.restart_at(ResumePoint(epoch), refresh=True)
            self._follow(self.history)  # the last step: after an error, this method is called again
        elif pipeline.progress.epoch == epoch or not self.is_endless:
            super()._enter(epoch)
        else:
            # The previous epoch was abandoned. An endless stream continues at its current point.
            pipeline.epochs.begin(epoch)
            if (
                pipeline.progress.epoch != epoch
            ):  # a failure in the middle of the work has left the pipeline at its point
                pipeline.epochs.restart_at(pipeline.progress.point()._replace(epoch=epoch, position=0))

    def _request(self, epoch: int) -> None:
        if self.is_endless:
            super()._request(epoch)

    def next_point(self) -> ResumePoint | None:
        """Return the point where the next epoch of an endless stream begins; None for the beginning of the source."""
        return self._pipeline.progress.point()._replace(epoch=self.epoch + 1, position=0) if self.is_endless else None

    def lane_point(self) -> ResumePoint:
        """Return a point of the open epoch after yielded batches only, with the snapshots of its lanes."""
        return self._pipeline.progress.point()._replace(epoch=self.epoch, position=self.count)

    @property
    def count(self) -> int:
        """Number of handles and failures yielded in the open epoch, including the ones before its starting point."""
        progress = self._pipeline.progress
        if progress.epoch == self.epoch:
            return progress.position
        return progress.ended[1] if progress.ended[0] == self.epoch else 0

    # -- Batches

    def _counted(self, outcome: BatchHandle | Failure) -> BatchHandle | Failure | None:
        # The work item counts within its lane. Consumers and the journal count over all lanes.
        position = self.count - 1
        outcome = type(outcome)(self.epoch, position, *outcome[2:])  # `_replace` takes three times as long
        if not (self._is_resumed and self._is_given(position)):
            return outcome
        # This batch was taken before the restart, and was computed only to reach the later ones of its lane.
        if isinstance(outcome, BatchHandle):
            self.slots.release(outcome)
        return None

    def _is_given(self, position: int) -> bool:
        """Return whether a batch of a resumed stream was taken from the previous server."""
        if self.epoch != self._point.epoch or position > max(self._given, default=self._missing_from):
            self._is_resumed = False
            return False
        return position < self._missing_from or position in self._given

    def _end(self) -> BatchHandle | Failure | None:
        order, title = cast("StreamOrder", self.plan.order), self.plan.source.title
        if not self.is_endless:
            warning = order.no_batches(self._pipeline.progress.point(), title)
            if warning and not self._has_warned:
                self._has_warned = True
                warn(warning)
        # An endless stream without elements would restart forever.
        elif not self.count:
            return self._failed(order.impossible_epoch(self._pipeline.progress.point(), title), None)
        return super()._end()
