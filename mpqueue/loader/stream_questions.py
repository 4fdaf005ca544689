"""The samples of a batch that a stream has returned, and its place without excluded samples.

The element of a stream at a place is found in one of two ways. Where no lane ends before it, or the ends are known, it
follows by arithmetic. Otherwise the stream is run up to it, in the calling thread: its outline if no user code decides
which samples pass, or the stream itself. In an endless stream, only a lane without elements has an end; a lane that was
not read yet is opened to find that out.

Then a single lane is run as ids, from its newest snapshot that is not after the element.
"""

import pickle
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

from mpqueue.engine.backend import EndOfStream
from mpqueue.engine.pipeline import Mark, Pipeline
from mpqueue.loader.questions import Questions, checked_place
from mpqueue.loader.replay import OneWorkItem, opened
from mpqueue.plan.batch_info import BatchInfo, SampleIds
from mpqueue.plan.cursors import Place, StreamCursor, WorkItem
from mpqueue.plan.lane_order import Element, counts_before, element_at
from mpqueue.plan.lanes import BEGINNING, LaneShare, LaneStart
from mpqueue.plan.plans import StreamPlan
from mpqueue.plan.sample_ids import SampleSet
from mpqueue.system.interrupts import not_of_handler
from mpqueue.system.units import count_text


def _known_ends(place: Place) -> dict[int, int]:
    """Return the number of elements of each lane that is known to have ended."""
    return {lane: end for lane, end in enumerate(place.ends) if end >= 0}


class FoundElement(NamedTuple):
    """An element at a place of the stream.

    Attributes:
        work_item: Its work item; None if its error is known.
        place: The place before it.
        error: The error in its place, which does not change where the place is.
    """

    work_item: WorkItem | None
    place: Place
    error: BaseException | None = None

    def item(self) -> WorkItem:
        """Return its work item.

        Raises:
            BaseException: The error in its place.
        """
        if self.error is not None:
            raise self.error
        assert self.work_item is not None
        return self.work_item

    @property
    def start(self) -> LaneStart:
        """The newest snapshot of its lane that is not after it."""
        return self.place.starts[self.item().lane] if self.place.starts else BEGINNING


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
                plan, epoch, position,
                lambda: self._ids(self._plan_at(epoch, position), work_item, start, run=True), step=step,
            )  # fmt: skip
        # Samples may be excluded after this batch. Later calls of the loader do not change these places.
        known = StreamQuestions(self._run.frozen(self._run.where()))
        element = Element(work_item.lane, work_item.unit)
        return self._info(plan, epoch, position, lambda: known.samples_of(epoch, position, element), step=step)

    def samples_of(self, epoch: int, batch: int, element: Element | None = None) -> SampleIds:
        """Return the ids of the samples of a batch that was returned; user code is called.

        Args:
            epoch: The epoch.
            batch: The number of the batch.
            element: Its element of the stream; None: it follows from the order.

        Raises:
            LookupError: As for `Loader.explain`.
        """
        self._check_replay()
        plan = self._plan_at(epoch, batch)
        if element is None:
            found = self._find(plan, epoch, batch, run=True)
        else:
            where = self._run.where()
            place = self._place(where, epoch, batch, element, self.share(), _known_ends(where))
            found = FoundElement(self._item(plan, epoch, batch, element), place)
        samples = self._ids(plan, found.item(), found.start, run=True)
        if not samples:
            raise LookupError(
                f"the samples of batch {batch} of epoch {epoch} are unknown: {plan.source.name} must return the same "
                "elements each time, and has ended before this batch when it was run again"
            )
        return samples

    def _identified(self, plan: StreamPlan, *, run: bool) -> StreamPlan:
        # A batch without the sample that raised takes the next one, so the outline of the stream is at other places.
        return plan.identified(run=run, has_raised=self._run.has_raised)

    def _plan_at(self, epoch: int, batch: int) -> StreamPlan:
        """Return the plan with the samples that are excluded at a place."""
        return self._plan.excluding(self._plan.history.excluded_at(epoch, batch, self._plan.shard.world))

    def place_of(self, epoch: int, batch: int) -> Place:
        """Return the place before a batch of this rank.

        Raises:
            LookupError: As for `Loader.seek`.
        """
        epoch, batch = checked_place(epoch, batch)
        self._check_replay()
        plan, excluded = self._plan_at(epoch, batch), self._plan.history.excluded
        place = self._find(plan, epoch, batch, run=True, computes=True).place
        # A seek moves later exclusions to its place: the buffers there lose the samples, as at an exclusion.
        if excluded is not None and excluded != self._plan.history.excluded_at(epoch, batch, plan.shard.world):
            # A seek passes over errors that no loop has met.
            return self._shortened(plan, place, excluded, may_raise=True)
        return place

    def share(self) -> LaneShare:
        """Return the lanes of this rank."""
        return self._plan.share(self._job.workers, self._run.backend)

    def shortened(self, added: SampleSet) -> Place:
        """Return the place of the loops, with snapshots of lanes without some samples.

        Each lane that has begun is run in this thread from its last snapshot to its place. So is a lane that has ended:
        from an earlier snapshot, it would have another end without the samples.

        Args:
            added: The samples.

        Raises:
            Exception: The exception of the source, when it is read again.
        """
        may_raise = self._run.has_raised or self._run.is_resumed
        return self._shortened(self._plan, self._run.where(), added, may_raise=may_raise)

    def _shortened(self, plan: StreamPlan, where: Place, added: SampleSet, *, may_raise: bool) -> Place:
        share = self.share()
        if not any(where.counts):
            return where
        starts = list(where.starts or [BEGINNING] * share.num_lanes)
        left = {share.lane(lane): count - starts[lane].number for lane, count in enumerate(where.counts)}
        ends = where.ends or (-1,) * share.num_lanes
        are_over = [count == end for count, end in zip(where.counts, ends, strict=True)]
        over = {share.lane(lane) for lane, is_over in enumerate(are_over) if is_over}
        plan = plan.shortened(left, added, over, may_raise=may_raise)
        for lane, (count, is_over) in enumerate(zip(where.counts, are_over, strict=True)):
            if not (count or is_over):
                continue  # it was not opened
            of = where.epoch if plan.epoch_batches is None else 0
            with self._opened_lane(plan, WorkItem(0, of, 0, count, lane), starts[lane]) as pipeline:
                state = pipeline.next()
            # At the place itself: from an earlier snapshot, elements would be run again that still had the samples.
            starts[lane] = LaneStart(count, pickle.dumps(state, 5))
        # A lane that continues may have another end.
        known = [end if count == end else -1 for count, end in zip(where.counts, ends, strict=True)]
        return where._replace(starts=tuple(starts), ends=tuple(known) if max(known) >= 0 else ())

    # -- The element at a place

    def _find(self, plan: StreamPlan, epoch: int, batch: int, *, run: bool, computes: bool = False) -> FoundElement:
        """Return the element at a place.

        Args:
            plan: The plan at the place.
            epoch: The epoch.
            batch: The number of the batch.
            run: As for `Loader.explain`.
            computes: See `_run_to`.

        Raises:
            LookupError: The epoch has no such batch, or another number of ranks got it.
        """
        where = self._run.where() if plan.shard == self._plan.shard else None
        length, base = plan.epoch_batches, self._base_at(epoch, batch)
        if where is None and (base.number or self._is_shifted(length)):
            raise LookupError(
                f"batch {batch} of epoch {epoch} of another rank is unknown, because another number of ranks began the "
                f"epoch{'' if length is None else ', or a loop was left early'}: ask that rank"
            )
        if length is not None and batch >= length:
            raise LookupError(f"epoch {epoch} has no batch {batch}: it has {count_text(length, 'batch')}")
        share = plan.share(self._job.workers, self._run.backend)
        ends = {} if where is None else _known_ends(where)
        if length is not None and not plan.skips:
            # Not with `on_error="skip"`: a skipped element is no batch of the epoch, so no place follows by arithmetic.
            position = self._position_in_stream(where, epoch, batch, length)
            if position >= (0 if where is None else sum(where.counts)) and self._may_end(plan, epoch, batch):
                return self._run_to(plan, where, epoch, batch, run=run, computes=computes)
            element = self._element_of_endless(plan, where, position, ends, run=run)
            if element is None:
                raise LookupError(f"epoch {epoch} has no batch {batch}: no virtual shard of this rank has an element")
        elif (
            where is not None
            and where.epoch == epoch
            and batch < where.position
            and self._job.options.ordered
            and not (plan.skips and self._has_gaps(where, epoch, batch))
        ):
            # Other ranks may have begun the epoch, and returned another number of these elements.
            element = element_at(batch + sum(where.counts) - where.position, share.num_lanes, ends)
        else:
            return self._run_to(plan, where, epoch, batch, run=run, computes=computes)
        assert element is not None  # it was returned
        place = self._place(where, epoch, batch, element, share, ends)
        return FoundElement(self._item(plan, epoch, batch, element), place)

    def _is_shifted(self, length: int | None) -> bool:
        """Return whether epochs of an endless stream do not begin at multiples of their length.

        Each rank knows only its own place then.
        """
        here = self._run.where()
        if length is None:
            return False
        # Skipped elements are no batches of an epoch.
        return bool(here.base.number) or (
            not self._plan.skips and sum(here.counts) - here.position != here.epoch * length
        )

    def _element_of_endless(
        self, plan: StreamPlan, where: Place | None, position: int, ends: dict[int, int], *, run: bool
    ) -> Element | None:
        """Return the element at a position of an endless stream, or None if all of its lanes are empty.

        Args:
            plan: The plan of the lanes.
            where: The place of the loops; None for another rank.
            position: Number of elements before it.
            ends: The known ends of lanes. The ends of empty lanes are added.
            run: As for `Loader.explain`.
        """
        num_lanes = plan.share(self._job.workers, self._run.backend).num_lanes
        counts = (where.counts if where is not None else ()) or (0,) * num_lanes
        element = element_at(position, num_lanes, ends)
        # A lane that returns no element in a whole epoch ends, also in an endless stream, and the others take its
        # turns. Whether a lane that was never read is empty is known only after it was opened.
        for lane, count in enumerate(counts):
            if element is None or (element.unit == 0 and lane > element.lane):
                break  # later lanes do not change which element it is
            if not count and lane not in ends and not self._has_elements(plan, lane, run=run):
                ends[lane] = 0
                element = element_at(position, num_lanes, ends)
        return element

    def _may_end(self, plan: StreamPlan, epoch: int, batch: int) -> bool:
        """Return whether a lane of an endless stream may end after it had elements: a later pass may have none."""
        if self._plan.history.excluded_at(epoch, batch, plan.shard.world) is not None:
            return True
        return not self._is_outlined(plan)

    def _has_elements(self, plan: StreamPlan, lane: int, *, run: bool) -> bool:
        """Return whether a lane of an endless stream has a first element."""
        with self._opened_lane(self._identified(plan, run=run), WorkItem(0, 0, 0, 0, lane), BEGINNING) as pipeline:
            try:
                pipeline.next()
            except EndOfStream:
                return False
            except not_of_handler(BaseException):
                return True  # the error takes the place of an element, and is raised if that element is requested
            return True

    def _position_in_stream(self, where: Place | None, epoch: int, batch: int, length: int) -> int:
        """Return the number of elements of this rank before a batch of an endless stream."""
        current, begun = (0, 0) if where is None else (where.epoch, sum(where.counts) - where.position)
        if epoch < current and begun != current * length:
            raise LookupError(
                f"the batches of epoch {epoch} are unknown, because a loop was left before the end of its epoch: only "
                f"epochs from {current} on are known"
            )
        return begun + (epoch - current) * length + batch

    def _run_to(
        self, plan: StreamPlan, where: Place | None, epoch: int, batch: int, *, run: bool, computes: bool = False,
        raises: bool = False,
    ) -> FoundElement:  # fmt: skip
        """Run the stream up to a batch.

        Args:
            plan: The plan at the place.
            where: The place of the loops; None for another rank.
            epoch: The epoch.
            batch: The number of the batch.
            run: As for `Loader.explain`.
            computes: The element is found by user code where it could be another one than in the outline. An element
                that raises takes a place of its own, so that lanes end later.
            raises: Do not run the outline.
        """
        length, begin = plan.epoch_batches, self._known_before(where, epoch, batch)
        self._check_beginning(begin, epoch, batch)
        left = (epoch - begin.epoch) * (length or 0) + batch - begin.position
        identified = plan.identified(run=run, has_raised=raises or self._run.has_raised)
        cursor = identified.cursor(self._job.workers, self._run.backend)
        # Snapshots of the stream fit its outline: a snapshot has places and no values.
        with opened(replace(self._job, plan=identified), cursor, begin) as pipeline:
            try:
                for _ in range(left):
                    try:
                        pipeline.next()
                    except EndOfStream:
                        raise
                    except BaseException as error:
                        # An element that raises has a place, too, but it is not the requested one.
                        if not pipeline.is_failure(error):
                            raise
                before = pipeline.place()._replace(epoch=epoch, position=batch, starts=begin.starts)
                pipeline.next()
                last = pipeline.last()
            except EndOfStream:
                last = None
            except BaseException as error:
                if not pipeline.is_failure(error):
                    raise
                return FoundElement(None, before, error)
            has_ended = last is None or any(end >= 0 for end in pipeline.place().ends)
        if computes and has_ended and not raises and self._is_outlined(plan):
            return self._run_to(plan, where, epoch, batch, run=run, raises=True)
        if last is None:
            why = "the stream ends before it" if length is None else "no virtual shard of this rank has an element"
            raise LookupError(f"epoch {epoch} has no batch {batch}: {why}")
        return FoundElement(last.work_item, before)

    def _is_outlined(self, plan: StreamPlan) -> bool:
        """Return whether the ids of its samples are found without user code, which may raise."""
        try:
            self._identified(plan, run=False)
        except RuntimeError:
            return False
        return True

    def _known_before(self, where: Place | None, epoch: int, batch: int) -> Place:
        """Return the last known place that is not after a batch."""
        is_endless = self._plan.epoch_batches is not None
        begin = Place(0 if is_endless else epoch)
        for place in () if where is None else (*self._run.anchors, where):
            if (place.epoch, place.position) <= (epoch, batch) and (is_endless or place.epoch == epoch):
                begin = place
        return begin

    def _has_gaps(self, where: Place, epoch: int, batch: int) -> bool:
        """Return whether elements without a batch lie between the last known place before a batch and this place."""
        begin = self._known_before(where, epoch, batch)
        return sum(where.counts) - where.position != sum(begin.counts) - begin.position

    def _check_beginning(self, begin: Place, epoch: int, batch: int) -> None:
        """Raise a `LookupError` if samples were excluded between a place to begin and a batch."""
        history, world = self._plan.history, self._plan.shard.world
        if history.excluded_at(begin.epoch, begin.position, world) != history.excluded_at(epoch, batch, world):
            raise LookupError(
                f"batch {batch} of epoch {epoch} is unknown: samples were excluded before it in the same epoch, by "
                "another process or more than 8 changes ago"
            )

    @staticmethod
    def _item(plan: StreamPlan, epoch: int, batch: int, element: Element) -> WorkItem:
        of = epoch if plan.epoch_batches is None else 0  # elements of an endless stream belong to no epoch
        return WorkItem(0, of, batch, element.unit, element.lane)

    def _place(
        self, where: Place | None, epoch: int, batch: int, element: Element, share: LaneShare, ends: dict[int, int]
    ) -> Place:  # fmt: skip
        """Return the place before an element, with the newest snapshots that are not after it."""
        is_endless, world = self._plan.epoch_batches is not None, self._plan.shard.world
        excluded_at = self._plan.history.excluded_at
        counts = counts_before(element, share.num_lanes, ends)
        starts, is_known = [BEGINNING] * share.num_lanes, element.unit == 0
        for place in () if where is None else (*self._run.anchors, where):
            is_usable = place is where or excluded_at(place.epoch, place.position, world) == excluded_at(
                epoch, batch, world
            )
            if not (is_usable and (is_endless or place.epoch == epoch)):
                continue
            is_known |= not place.counts or place.counts[element.lane] <= element.unit
            if not place.starts:
                continue
            starts = [
                new if old.number <= new.number <= count else old
                for old, new, count in zip(starts, place.starts, counts, strict=True)
            ]
        if not is_known and starts[element.lane].state is None:
            self._check_beginning(Place(0 if is_endless else epoch), epoch, batch)
        known = tuple(ends.get(lane, -1) for lane in range(share.num_lanes)) if ends else ()
        return Place(epoch, batch, counts=counts, starts=tuple(starts), ends=known)

    # -- One lane

    def _ids(self, plan: StreamPlan, work_item: WorkItem, start: LaneStart, *, run: bool) -> SampleIds:
        """Return the ids of the samples of an element."""
        passes = run and self._passes_over(work_item, start)
        identified = plan.identified(run=run, has_raised=passes or self._run.has_raised)
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
