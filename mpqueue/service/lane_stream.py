"""The engine of a server whose source is a stream: elements of virtual shards (lanes), each after the one before it.

Consumers and the journal count the batches of an epoch over all lanes, in the order of delivery. A batch cannot be
computed by its position alone. So the stream knows places with snapshots of its lanes (`LaneStream.places`), and the
lanes of the batches that it yielded last: to continue after a restart of the server, to change the plan in the middle
of an epoch, and to find the samples of a batch.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mpqueue.engine.skips import may_raise_again
from mpqueue.errors import ServiceStateError, SharedMemoryFull
from mpqueue.loader.run import Run
from mpqueue.memory.layout import Array
from mpqueue.plan.cursors import Place, WorkItem
from mpqueue.plan.history import History
from mpqueue.plan.lane_order import Element
from mpqueue.plan.lanes import BEGINNING
from mpqueue.plan.plans import Plan, StreamPlan
from mpqueue.plan.sample_ids import SampleSet
from mpqueue.service.routing import BatchHandle, Failure
from mpqueue.service.stream import Stream, StreamStart
from mpqueue.system.log import warn
from mpqueue.workers.job import Job

if TYPE_CHECKING:
    from mpqueue.loader.stream_questions import StreamQuestions

MOST_ELEMENTS = 1 << 14  # whose lanes are known: more than all consumers can be offered at once


class LaneStream(Stream):
    """A stream of elements of lanes.

    Args:
        job: The plan of the stream, and the resources to run it.
        start: Where it begins.

    Attributes:
        history: The exclusions and changes of weights. While a resumed stream is before one of them, its plan has
            another history.
        is_endless: An epoch has a fixed number of batches, and the next one continues where it stopped.
        places: Known places of the open epoch, to compute it again; the first is its beginning. A batch after a change
            can be computed only from the place of that change.
    """

    def __init__(self, job: Job, start: StreamStart) -> None:
        # A resumed stream: the first position that a consumer still needs, and the taken positions after it.
        plan, first = job.plan, start.place
        self._missing_from, self._given = first.position, frozenset(first.ahead)
        place = start.lane_place or Place(first.epoch)
        self.places: tuple[Place, ...] = (start.begun or Place(first.epoch),)
        for known in sorted((place, *start.changes), key=lambda known: known.position):
            self._know(known)
        # Changes that the stream reaches later: they were made before the restart, or the stream is a replay.
        self._upcoming = tuple(change for change in start.changes if change.position > place.position)
        place = next(known for known in self.places if known.position == place.position)
        self._is_resumed = self._missing_from > 0 or bool(self._given or self._upcoming)
        # The elements that `take` returned last, with their epochs and positions. Those of an epoch that is over, and
        # its places, too: a consumer may ask for the samples of its last batch in the next epoch.
        self._elements: deque[tuple[int, int, WorkItem]] = deque(maxlen=MOST_ELEMENTS)
        self._places_before: tuple[Place, ...] = ()
        self._has_raised = False  # see `Run`
        self._goes_on = first != Place()  # the errors that the previous server met are unknown
        self._has_warned = False
        followed = start.history.before(place.epoch, place.position, plan.shard.world)
        super().__init__(job, StreamStart(place, history=followed))
        self.history, self.is_endless = start.history, plan.ends_by_count
        # The positions are assigned when the batches are taken. Lanes have snapshots, to start in the middle.
        self.is_ordered = True
        self.can_replay = self.can_replay and plan.lanes is not None

    def _check_source_restartable(self) -> None:
        if self.plan.lanes is None:
            raise ValueError(
                "journal requires a source that can resume, got a generator without lanes: pass lanes=n with a "
                "generator function, use a source with __getitem__, or leave out journal"
            )

    def source_state(self) -> None:
        """Return None: snapshots of the lanes contain all that a restarted server needs."""

    # -- Epochs

    def open_epoch(self, epoch: int) -> int | None:
        """Open an epoch for `take`; drop the rest of a previous one that has not ended."""
        if epoch != self.epoch:
            self._settle_changes()
            self._places_before = self.places
        return super().open_epoch(epoch)

    def _enter(self, epoch: int) -> None:
        pipeline = self._pipeline
        if pipeline.epoch == epoch or not self.is_endless:
            super()._enter(epoch)
            return
        # The previous epoch was abandoned. An endless stream continues at its current place.
        pipeline.begin_epoch(epoch)
        if pipeline.epoch != epoch:  # a failure in the middle of the work has left the pipeline at its place
            pipeline.restart_at(pipeline.place()._replace(epoch=epoch, position=0))

    def _request(self, epoch: int) -> None:
        if self.is_endless:
            super()._request(epoch)
        if epoch != self.places[0].epoch:
            self.places = (self._here(),)

    def next_place(self) -> Place | None:
        """Return the place where the next epoch of an endless stream begins; None for the beginning of the source."""
        self._settle_changes()
        return self._pipeline.place()._replace(epoch=self.epoch + 1, position=0) if self.is_endless else None

    def lane_place(self) -> Place:
        """Return a place of the open epoch after yielded batches only, with the snapshots of its lanes."""
        return self._here()

    def _here(self) -> Place:
        return self._pipeline.place()._replace(epoch=self.epoch, position=self.count)

    @property
    def count(self) -> int:
        """Number of handles and failures yielded in the open epoch, including those before the place of its start."""
        progress = self._pipeline.ledger.progress
        if progress.epoch == self.epoch:
            return progress.position
        return progress.ended[1] if progress.ended[0] == self.epoch else 0

    @property
    def begun(self) -> Place | None:
        """The place where the open epoch of an endless stream began; None for the beginning of the source."""
        return self.places[0] if self.places[0].counts else None

    # -- Batches

    def _counted(self, work_item: WorkItem, outcome: BatchHandle | Failure) -> BatchHandle | Failure | None:
        # The work item counts within its lane. Consumers and the journal count over all lanes.
        position = self.count - 1
        outcome = type(outcome)(self.epoch, position, *outcome[2:])  # `_replace` takes three times as long
        self._elements.append((self.epoch, position, work_item))
        if isinstance(outcome, Failure) and outcome.error is not None:
            self._has_raised |= may_raise_again(outcome.error)
        if self._upcoming and position >= self._upcoming[0].position:
            self._reach_change()
            self._drop(outcome)
            return None
        return self._needed(outcome)

    def _needed(self, outcome: BatchHandle | Failure) -> BatchHandle | Failure | None:
        """Return the next outcome that consumers need, now that this one is computed; None: not ready."""
        if not (self._is_resumed and self._is_given(outcome.position)):
            return outcome
        # This batch was taken before the restart, and was computed only to reach the later ones of its lane.
        self._drop(outcome)
        return None

    def _drop(self, outcome: BatchHandle | Failure) -> None:
        if isinstance(outcome, BatchHandle):
            self.release(outcome)

    def _is_given(self, position: int) -> bool:
        """Return whether a batch of a resumed stream was taken from the previous server."""
        if self.epoch != self._place.epoch or position > max(self._given, default=self._missing_from):
            self._is_resumed = bool(self._upcoming)
            return False
        return position < self._missing_from or position in self._given

    def _end(self) -> BatchHandle | Failure | None:
        plan, title = cast("StreamPlan", self.plan), self.plan.source.title
        if not self.is_endless:
            warning = plan.no_batches(self._pipeline.place(), title)
            if warning and not self._has_warned:
                self._has_warned = True
                warn(warning)
        # An endless stream without elements would restart forever.
        elif not self.count:
            return self._failed(plan.impossible_epoch(self._pipeline.place(), title), None)
        return super()._end()

    # -- Changes of the plan

    def check_change(self, awaited: Collection[int]) -> None:
        """Raise an error if the stream cannot be changed now.

        Args:
            awaited: Processes of consumers of the previous server that are not attached again.

        Raises:
            ValueError: It takes elements from a queue.
            ServiceStateError: Consumers are awaited.
        """
        if awaited:
            raise ServiceStateError(
                "the server has just been restarted, and only consumers that are attached again have told it which "
                f"batches they have: try again when those of process {', '.join(map(str, awaited))} have requested a "
                "batch"
            )
        if self.takes_from_queues:
            raise ValueError(
                f"{self.plan.source.name} takes elements from a queue, so its virtual shards cannot be run again "
                "for a change: filter the elements before they enter the queue"
            )

    def change_place(self, position: int | None, next_epoch: int) -> tuple[Place, bool]:
        """Return the place where a change begins, and whether it is in the open epoch."""
        place = self._pipeline.place()
        if position is not None:
            try:
                return self._place_before(place, position), True
            except LookupError as error:  # the previous server has yielded all of the epoch
                if self.is_endless:
                    raise ServiceStateError(
                        "the server has just been restarted, and computes the last batches of the epoch again: try "
                        "again when its consumers have begun the next epoch"
                    ) from error
        # An endless stream continues where it is.
        return (place._replace(epoch=next_epoch, position=0) if self.is_endless else Place(next_epoch)), False

    def _place_before(self, now: Place, position: int) -> Place:
        """Return the place before a position, with the newest known snapshots."""
        latest = self.places[-1] if self.places[-1].epoch == self.epoch else Place(self.epoch)
        # Batches before an earlier change stay as they are. Positions that are not kept were not offered for long.
        position = max(position, latest.position, self.count - len(self._elements))
        if position > self.count:
            return self.questions_at(max(now, latest, key=lambda place: place.position)).place_of(self.epoch, position)
        later = islice(reversed(self._elements), self.count - position)
        place = self._pipeline.ledger.progress.place(without=(work_item for *_, work_item in later))
        starts = place.starts or (BEGINNING,) * len(place.counts)
        for known in self.places:
            starts = tuple(
                new if old.number <= new.number <= count else old
                for old, new, count in zip(starts, known.starts or starts, place.counts, strict=True)
            )
        # Without an order, it is not known which ends are after the place.
        ends = place.ends if self.job.options.ordered else now.ends
        return place._replace(epoch=self.epoch, position=position, starts=starts, ends=ends)

    def questions_at(self, place: Place, history: History | None = None) -> "StreamQuestions":
        """Return the object that changes the plan at a place, or finds samples; by default with all changes."""
        # Imported for the first change or question.
        from mpqueue.loader.stream_questions import StreamQuestions

        plan = cast("StreamPlan", self.plan.with_history(self.history if history is None else history))
        # A separate source: that of the plan changes with the stream.
        plan = plan.excluding(plan.history.excluded)
        anchors = (*self._places_before, *self.places)
        is_resumed = self._is_resumed or self._goes_on
        run = Run(
            replace(self.job, plan=plan), self.job.options.backend, place=place, anchors=anchors,
            has_raised=self._has_raised, is_resumed=is_resumed,
        )  # fmt: skip
        return StreamQuestions(run)

    def change(self, plan: Plan, place: Place, *, is_open: bool) -> None:
        """Continue with another history of the same plan. What was computed ahead, or again, is dropped."""
        self.history = plan.history
        if not is_open:
            self._follow_all(place)
            return
        self._know(place)
        if place.position > self.count:
            earlier = (change for change in self._upcoming if change.position < place.position)
            self._upcoming, self._is_resumed = (*earlier, place), True
        else:
            self._go_to(place)

    def _follow_all(self, place: Place) -> None:
        """Follow all changes from the next epoch on, which begins at a place of an endless stream."""
        self._follow(self.history)
        if self.is_endless:
            self._pipeline.restart_at(place, refresh=True)
        else:
            self._is_outdated = True

    def _know(self, place: Place) -> None:
        """Add a known place of the open epoch, and forget later ones."""
        self.places = (*(known for known in self.places if known.position < place.position), place)

    def _reach_change(self) -> bool:
        """Continue at the next change, with its history; return False if there is none."""
        if not self._upcoming:
            return False
        place, *upcoming = self._upcoming
        self._upcoming = tuple(upcoming)
        self._go_to(place)
        return True

    def _go_to(self, place: Place) -> None:
        pipeline = self._pipeline
        self._follow(self.history.before(place.epoch, place.position, self.plan.shard.world))
        while self._elements and self._elements[-1][:2] >= place[:2]:
            self._elements.pop()
        pipeline.restart_at(place, refresh=True)
        if self.is_endless:
            pipeline.hand_out(place.epoch)
        self.has_ended = False

    def _settle_changes(self) -> None:
        """Apply the changes after the place where the open epoch of a resumed stream is left."""
        if self.plan.history is self.history:
            return
        self._upcoming = ()
        place = self._pipeline.place()
        if self.is_endless:
            with self.rerun:
                place = self.questions_at(place, self.plan.history).shortened(self.history.excluded or SampleSet())
        self._follow_all(place)

    # -- The samples in a batch

    def explain(self, epoch: int, position: int) -> Callable[[], dict[str, Any]]:
        """Return a function that calls the functions of the stream again, and returns the ids of a batch's samples.

        Raises:
            LookupError: The samples are unknown.
        """
        plan = self.plan
        if self.takes_from_queues:
            raise LookupError(f"{plan.source.name} takes elements from a queue, so its batches cannot be found again")
        kept = (item for of, number, item in reversed(self._elements) if (of, number) == (epoch, position))
        work_item = next(kept, None)
        if work_item is None and not (self.job.options.ordered and (self.is_endless or not plan.skips)):
            raise LookupError(
                f"the samples of batch {position} of epoch {epoch} are unknown: the server has not kept which virtual "
                "shard it is from"
            )
        questions = self.questions_at(self._here())
        element = None if work_item is None else Element(work_item.lane, work_item.unit)

        def find() -> dict[str, Any]:
            with self.rerun:
                return {"samples": questions.samples_of(epoch, position, element)}

        return find

    # -- Batches of replays

    def copy_of(self, handle: BatchHandle) -> Array:
        """Return a private copy of the bytes of a batch."""
        return np.frombuffer(self._backend.pool.ring.memory, np.uint8, handle.nbytes, handle.slot.offset).copy()

    def enter(self, handle: BatchHandle, data: Array, *, may_fail: bool) -> BatchHandle | Failure | None:
        """Copy a batch of a replay into a slot of this ring; return None if there is no room now.

        Args:
            handle: The handle in the other stream.
            data: Its bytes.
            may_fail: See `take`.
        """
        pipeline, ring = self._pipeline, self._backend.pool.ring
        with pipeline.lock:
            try:
                # Priority -1, before all other batches: its consumer waits for this batch only.
                slot = self._backend.pressure.make_slot(-1, handle.nbytes, may_fail=may_fail)
            except SharedMemoryFull as error:
                return Failure(handle.epoch, handle.position, error)
            if slot is None:
                return None
            # Copy before `publish`: a published slot can be offered.
            ring.memory[slot.offset : slot.offset + handle.nbytes] = data.data
            ring.slots.publish(slot, handle.nbytes)
        # Use the turn of this ring: consumers name it to release the slot.
        return handle._replace(turn=slot.turn, slot=slot)

    def forget_entering(self) -> None:
        """Withdraw the request for room for another stream's batch."""
        if self.ring is not None:
            self._backend.pressure.cancel()

    @property
    def takes_from_queues(self) -> bool:
        """True if the source has used a queue in a worker."""
        return any(worker.uses_queues for worker in self._backend.pool.roster.workers.values())

    def wake(self) -> None:
        """Make `fileno` readable; from any thread, as long as the stream runs."""
        self._backend.wake()
