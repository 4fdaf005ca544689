"""Runs the lanes of one worker: opens them, continues them, takes their snapshots.

=====================================  ================================================================================
Grant                                  Effect
=====================================  ================================================================================
element 0                              the lane is opened at its beginning
with a start (a snapshot or an index)  the lane is opened there. Elements before the requested one are computed and
                                       dropped, including their errors, which the consumer got at their position
any other                              the next element of an open lane is computed
=====================================  ================================================================================

*Snapshots.* A snapshot follows an element when it is *due*, see `LaneRunner._save`, and the lane is ready. No
one waits for it: without memory for a snapshot, the next one is due soon. Together with a snapshot, and when it ends, a
lane reports the work of its stages since its last report (`mpqueue.telemetry.stage_rows`).

*Interrupts.* While a lane runs, it is not in the table of open lanes. One assignment puts it back after the element. In
the caller's own thread a signal handler may raise within the lane's code and leave a generator unusable. Then the lane
is not put back, and is opened again from its last snapshot.
"""

import pickle
from typing import Any

from mpqueue.engine.outcomes import BatchWithState, Partial
from mpqueue.engine.skips import Skipped
from mpqueue.plan.position.lanes import BEGINNING, LaneStart, RetryStart
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.signals.exceptions import set_traceback
from mpqueue.system.user_code.exception_texts import named_text_of, text_of
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRow, since
from mpqueue.worker import context
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.failures import note_of, passes_at_once
from mpqueue.worker.retry_markers import Marker
from mpqueue.worker.runners.generator_lanes import GeneratorLane
from mpqueue.worker.runners.lanes import Lane, LaneRun
from mpqueue.worker.runners.runner import RunnerArguments, SourceRunner, StreamEnd, part_names_of

_WORK_PER_SAVE = 100  # all snapshots together take at most 1 % of the time
_FIRST_SAVE_NS = 250_000  # an estimate before the first snapshot
_BETWEEN_NS = 500_000_000  # work of all lanes between two rounds of snapshots: the maximum to recompute after a crash
_SLOW_S = 10


class OpenLane:
    """An open lane.

    Attributes:
        lane: The lane.
        info: The worker info for its code.
        epoch: Its epoch.
        index: Index of its next element.
        generation: The number of calls of `LaneRunner.reopen` before it was opened.
        skipped: Samples skipped since the last element.
        worked_ns: Time in its code since the last snapshot.
        saved: The last snapshot, if it was taken after the last element.
        marker: Reports samples until the first requested element is computed; None if samples are not marked.
    """

    lane: Lane

    def __init__(self, info: WorkerInfo, epoch: int, index: int, generation: int) -> None:
        self.info, self.epoch, self.index, self.generation = info, epoch, index, generation
        self.worked_ns = 0
        self.skipped: list[Skipped] = []
        self.saved: LaneStart | None = None
        self.marker: Marker | None = None
        self._reported: list[StageRow] = []

    def is_ready(self) -> bool:
        """Return whether a snapshot that is due may be taken now; otherwise the lane prepares for it."""
        prepare = getattr(self.lane, "prepare", None)
        return prepare is None or bool(prepare())

    def take_skipped(self) -> list[tuple[Any, ...]]:
        """Return the samples that were skipped since the last call."""
        taken = [tuple(entry) for entry in self.skipped]
        self.skipped.clear()
        return taken

    def take_rows(self) -> list[StageRow]:
        """Return the work of the stages since the last call."""
        counts = getattr(self.lane, "counts", None)
        if counts is None:
            return []
        reported, self._reported = self._reported, counts()
        return since(self._reported, reported)


class LaneRunner(SourceRunner):
    """Runs the lanes of a `LaneSource`, one at a time; see `SourceRunner` for the argument."""

    _is_of_lanes = True  # the source opens its lanes; otherwise it is called for each of them

    def __init__(self, arguments: RunnerArguments) -> None:
        super().__init__(arguments)
        self._batching, self._num_lanes = arguments.batching, arguments.num_lanes
        self._between_ns = _BETWEEN_NS * arguments.info.world // arguments.num_lanes
        self._save_ns = _FIRST_SAVE_NS  # duration of a snapshot of any lane
        self._due_ns = self._between_ns  # work of a lane after which its next snapshot is due
        self._open: dict[int, OpenLane] = {}
        self._epoch = -1  # of the lane that was opened last: no lane of a different epoch is open
        self._generation = 0
        self._starts: dict[int, tuple[int, LaneStart]] = {}  # the last starts, with their epochs
        self._part_names = part_names_of(arguments.source)

    @property
    def is_shared(self) -> bool:
        """True if the lanes divide the elements: their code requests its index, or the source does so itself."""
        return context.has_requested_info() or (self._is_of_lanes and not getattr(self._source, "streams", ()))

    def note(self, index: int, epoch: int) -> str:
        """Return the note for an exception of `run`."""
        element_index, lane = divmod(index, self._num_lanes)
        of = note_of(element_index, epoch, self._info)
        return of if self._num_lanes == self._info.num_workers else f"{of}, lane {lane} of {self._num_lanes}"

    def load(self, source: Any) -> None:
        """Continue with another source: the lanes are opened again."""
        self._source = source
        # Open lanes read the old source.
        self._open.clear()

    def reopen(self) -> None:
        """Open all lanes again from their starts: the source in this process has changed. From any thread."""
        self._generation += 1

    def close_lane(self, lane: int) -> None:
        """Release a lane that another worker has now, with the contents of its buffers."""
        self._open.pop(lane, None)
        self._starts.pop(lane, None)

    def is_at(self, epoch: int, index: int) -> bool:
        """Return True if `run` needs no start: the element is the first of its lane, or the next one."""
        element_index, lane = divmod(index, self._num_lanes)
        current = self._open.get(lane)
        if not element_index or current is None:
            return not element_index
        return (current.index, current.epoch, current.generation) == (element_index, epoch, self._generation)

    def run(self, epoch: int, index: int, start: Any = None) -> Any:
        """Return an element: a batch, the rest of one (`Partial`), or one of these `BatchWithState`.

        The latest element can be computed again: its lane is reopened.

        Args:
            epoch: Epoch of the element.
            index: Its index in the stream.
            start: A `LaneStart` or a `RetryStart`, to open the lane there. None if the lane is at the element, or at
                its first one.

        Raises:
            StreamEnd: The lane is exhausted.
            Exception: The error of the source.
        """
        element_index, lane = divmod(index, self._num_lanes)
        # Taken out of the table: an interrupt in its code leaves it out, so that it is opened again.
        current = self._open.pop(lane, None)
        if current is None or start is not None or not (current.index == element_index > 0 and current.epoch == epoch):
            current = self._open_lane(lane, epoch, element_index, start)
        else:
            if current.saved is not None:
                # Not when it was taken: the last element may have been computed once more (see above), from a start
                # before it.
                self._starts[lane], current.saved = (epoch, current.saved), None
            context.enter_lane(current.info)
        began = clock_ns()
        try:
            if self._batching is not None and type(current.lane) is GeneratorLane:
                current.lane.stages = self.stages  # only these collate here
            value = current.lane.next()
        except StreamEnd as ended:
            current.index = element_index + 1
            self._open[lane] = current
            # With the end, and not as an element without a batch: threads of a stage may notice the same sample while
            # an earlier element is computed, and the number of elements must not depend on that.
            raise StreamEnd(current.take_rows(), [*current.take_skipped(), *ended.skipped]) from None
        except BaseException as error:
            if not passes_at_once(error):
                # An error of the source replaces the element. The lane itself can continue.
                current.index = element_index + 1
                self._open[lane] = current
            raise
        finally:
            if current.marker is not None:  # samples after this element are started in blocks again
                current.marker.end()
                current.marker = None
        current.index = element_index + 1
        if current.skipped:
            value = _without(value, current.take_skipped())
        current.worked_ns += clock_ns() - began
        if current.worked_ns >= self._due_ns and current.is_ready():
            try:
                state = self._save(current, lane)
            except BaseException as error:
                # Otherwise the lane would be opened again, and fail to save each time.
                if not passes_at_once(error):
                    self._open[lane] = current
                raise
            if state is not None:
                value = BatchWithState(value, state, current.take_rows())
                current.saved = LaneStart(current.index, state)
        if self._part_names is not None:
            opened: Any = current.lane  # of a dataset, as only datasets have mixtures
            parts = opened.num_by_part(self._part_names)
            value = value._replace(parts=parts) if type(value) is BatchWithState else BatchWithState(value, parts=parts)
        self._open[lane] = current
        return value

    def _open_lane(self, lane: int, epoch: int, element_index: int, start: LaneStart | RetryStart | None) -> OpenLane:
        """Open a lane at an element, and drop the elements before it."""
        num_retried = 0
        if isinstance(start, RetryStart):
            start, num_retried = start
        if start is None:
            # An earlier opening failed, or the element is the first one.
            of, start = self._starts.get(lane, (epoch, BEGINNING))
            if not element_index or of != epoch:
                start = BEGINNING
        if epoch != self._epoch:  # not for each lane: a search takes as long as all lanes
            for other in [other for other, open_ in self._open.items() if open_.epoch != epoch]:
                del self._open[other]  # lanes that have moved to other workers still hold their buffers
            self._epoch = epoch
        # Kept in case this opening fails, or the element is requested once more.
        self._starts[lane] = epoch, start
        info = self._info._replace(lane=lane, num_lanes=self._num_lanes)
        current = OpenLane(info, epoch, element_index, self._generation)
        context.enter_lane(info)
        state, arguments = None if start.state is None else pickle.loads(start.state), self._arguments
        if num_retried and self._is_of_lanes and self.tell_mark is not None:
            # Only after a crash: a report for each sample costs a system call.
            current.marker = Marker(self.tell_mark)
        note_skipped = current.skipped.append if arguments.skips else None
        begin, in_slot, endless = arguments.begin, arguments.in_slot, arguments.endless
        num_lanes, marker, first = self._num_lanes, current.marker, start.element_index
        run = LaneRun(
            lane, num_lanes, info.seed, epoch, begin, note_skipped, in_slot, state, endless, marker, first_index=first
        )
        if self._is_of_lanes:
            # Only a source with lanes can skip a single sample. A generator function runs as one piece of code.
            current.lane = self._source.open_lane(run)
        else:
            current.lane = lane_of_function = GeneratorLane(
                self._source, run, start.element_index, self._batching, arguments.seeding
            )
            if lane_of_function.saves_first:
                current.worked_ns = self._due_ns  # its first snapshot is due at once
            first = lane_of_function.index
        num_dropped = element_index - first
        is_from_beginning = start.state is None or first < start.element_index
        self._drop(current, num_dropped, num_dropped - num_retried + 1, is_from_beginning=is_from_beginning)
        return current

    def _drop(self, current: OpenLane, count: int, retried_from: int, *, is_from_beginning: bool) -> None:
        began, marker = clock_ns(), current.marker
        for element_index in range(count):
            # Only the last `num_retried` elements are marked: the trainer has the others, and their samples must not be
            # given up.
            if marker is not None:
                marker.is_on = element_index >= retried_from
            try:
                current.lane.next()
            except StreamEnd:
                break
            except BaseException as error:
                if passes_at_once(error):
                    raise
                # The consumer got this error at its position. A stage that raised a stored error has it in a variable,
                # and this cycle would keep the frames, whose arrays keep the slot.
                set_traceback(error, None)
        current.skipped.clear()  # the consumer got them with these elements
        if marker is not None:
            marker.is_on = True
        took_s = (clock_ns() - began) / 1e9
        if is_from_beginning and took_s > _SLOW_S:
            warn_caller(
                f"a stream was run from its beginning again, for {took_s:.0f} s, to continue after element {count}: it "
                "has no state, or does not continue there. To avoid that, add state_dict() and load_state_dict(state) "
                "to the object that the function returns, and count no epoch in its next __iter__",
                RuntimeWarning,
            )

    def _save(self, current: OpenLane, lane: int) -> bytes | None:
        """Take a snapshot, and set when the next one is due.

        A snapshot is due when the lane has worked 100 times as long as a snapshot takes, so that all snapshots take at
        most 1 % of the time; and for its share of half a second, which limits the work to recompute after a crash. The
        duration of the latest snapshot of any lane counts for all lanes: when each lane measured its own, a stream with
        buffers of 10,000 elements spent 1.2 % of its first seconds on snapshots. Measured in these seconds, in CPU time
        of 16 lanes in two workers with trivial functions: 0.23 % (82 µs each) with a buffer of 1,000 elements, 0.32 %
        (115 µs each) with 10,000. Without arrays for the positions (`mpqueue.dataset.lanes.tokens`) these took 930 µs.
        """
        began, name = clock_ns(), type(current.lane).__name__
        current.worked_ns = -1 << 62  # never due again after a failure, which would repeat
        try:
            state = current.lane.save()
        except BaseException as error:
            if passes_at_once(error):
                raise
            reason = named_text_of(error)
            raise RuntimeError(f"the state of lane {lane} is unavailable: {name}.save() raised {reason}") from error
        data = None
        if state is not None:
            try:
                data = pickle.dumps(state, 5)
            except BaseException as error:
                if passes_at_once(error):
                    raise
                raise TypeError(
                    f"the state of lane {lane} cannot be pickled ({text_of(error)}): it must be plain data, "
                    "such as numbers, strings, lists and dicts"
                ) from error
        current.worked_ns = 0
        # A snapshot that was delayed by a busy machine does not predict later ones. Taken at face value, it would
        # postpone the next snapshots for seconds of work, which a resume would have to recompute.
        self._save_ns = min(clock_ns() - began, 4 * self._save_ns)
        # For all lanes: those opened before the duration was known would each take a first one too early.
        self._due_ns = max(_WORK_PER_SAVE * self._save_ns, self._between_ns)
        return data


def _without(value: Any, skipped: list[tuple[Any, ...]]) -> Partial:
    """Return an element with the samples skipped before it; it may be a batch that lacks some samples."""
    if type(value) is Partial:
        return value._replace(skipped=skipped + value.skipped)
    return Partial(value, skipped, False)


class FunctionRunner(LaneRunner):
    """Runs a callable, which is called for each lane and returns an iterator."""

    _is_of_lanes = False
