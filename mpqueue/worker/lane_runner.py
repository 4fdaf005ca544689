"""Runs the lanes of a stream that one worker has: opens them, goes on with them, takes their snapshots.

    a grant for element 0                      the lane is opened at its beginning
    a grant with a start (a snapshot, or none) the lane is opened there; what lies before the element is computed and
                                               dropped, its errors too: they were raised at their place
    any other grant                            is for the next element of a lane that is open

*Snapshots.* One is taken behind an element when it is *due*: when the lane has worked for 100 times as long as a
snapshot takes, so that all of them take 1 % of the time at most, and for its share of half a second, so that what lies
between the last snapshots of all lanes takes no longer to compute again. What the last one of any lane took says when
those of all are due: as each lane found it out for itself, a stream with buffers of 10,000 was at 1.2 % in its first
seconds. Measured in these, of the workers' CPU time, in 16 lanes and two workers behind trivial functions: 0.23 % (82
us each) with a buffer of 1,000, 0.32 % (115 us each) with one of 10,000 (930 us before its places stayed in arrays, see
`mpqueue.dataset.held`). Nobody waits for one: where there is no memory for it, the next is due soon. With it, and with
its end, a lane tells what its stages have done since it told before (`mpqueue.telemetry.stage_rows`).

*Interrupts.* A lane is taken out of the table while it runs, and put back behind the element, by one assignment. In the
caller's own thread a signal handler may raise in the middle of its code, which tears generators: the lane is not put
back then, and is opened anew from its last snapshot.
"""

import pickle
import warnings
from collections.abc import Callable
from typing import Any

from mpqueue.engine.outcomes import Partial, WithTail
from mpqueue.engine.skips import Skipped
from mpqueue.plan.batching import Batching
from mpqueue.plan.lanes import BEGINNING, LaneStart, RetryStart
from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.system.interrupts import is_of_handler
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.recorder import Stages
from mpqueue.telemetry.stage_rows import StageRow, since
from mpqueue.worker import context
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.failures import note_of
from mpqueue.worker.generator_lanes import GeneratorLane
from mpqueue.worker.lanes import Lane, LaneRun
from mpqueue.worker.retry_markers import Marker, Name
from mpqueue.worker.runner import BeginBatch, StreamEnd

_WORK_PER_SAVE = 100
_FIRST_SAVE_NS = 250_000  # nobody knows yet what one takes
_BETWEEN_NS = 500_000_000  # the work of all lanes between two rounds of snapshots
_SLOW_S = 10


class OpenLane:
    """A lane that is open.

    Attributes:
        lane: It.
        info: What its code is told of its worker.
        epoch: That it is of,
        number: and its next element.
        skipped: What it has left out for the element at work.
        worked_ns: In its code, since the last snapshot.
        saved: The last snapshot, if it was taken behind the last element.
        marker: Until the element is computed for which the lane was opened; None: its samples are not marked.
    """

    __slots__ = ("_told", "epoch", "info", "lane", "marker", "number", "saved", "skipped", "worked_ns")
    lane: Lane

    def __init__(self, info: WorkerInfo, epoch: int, number: int) -> None:
        self.info, self.epoch, self.number = info, epoch, number
        self.worked_ns = 0
        self.skipped: list[Skipped] = []
        self.saved: LaneStart | None = None
        self.marker: Marker | None = None
        self._told: list[StageRow] = []

    def take_rows(self) -> list[StageRow]:
        """Return the work of the stages since the last call."""
        counts = getattr(self.lane, "counts", None)
        if counts is None:
            return []
        told, self._told = self._told, counts()
        return since(self._told, told)


class LaneRunner:
    """Runs lanes, one at a time.

    Args:
        source: A `mpqueue.worker.lanes.LaneSource`, or a callable that returns an iterator.
        info: The worker.
        begin: Called with (seed, epoch, place) before a sample.
        plan: How the elements of a callable become batches; None: each is one. A source of lanes knows by itself.
        num_lanes: Of all ranks.
        in_slot: A batch is written into a slot.
        seeding: Seeds the global generators once for a batch of a generator function. If None, they are not seeded.
        endless: A lane that has ended begins anew.
        skips: What the source raises is left out.
        is_callers: It is run by the thread in which signals are handled.
        opens_lanes: The source opens its lanes; otherwise it is called for each of them.

    Attributes:
        stages: Where the parts of its time are noted; None: it is not timed.
        tell_mark: Tells the trainer which sample is at work; None: nobody is told.
    """

    def __init__(
        self, source: Any, info: WorkerInfo, begin: BeginBatch, plan: Batching | None, *, num_lanes: int,
        in_slot: bool, seeding: LazySeeding | None, endless: bool = False, skips: bool = False,
        is_callers: bool = False, opens_lanes: bool = True,
    ) -> None:  # fmt: skip
        self.stages: Stages | None = None
        self.tell_mark: Callable[[Name | None], object] | None = None
        self._source, self._info, self._begin, self._plan, self._seeding = source, info, begin, plan, seeding
        self._num_lanes, self._in_slot, self._is_endless = num_lanes, in_slot, endless
        self._skips, self._is_callers = skips, is_callers
        self._is_of_lanes = opens_lanes
        self._between_ns = _BETWEEN_NS * info.world // num_lanes
        self._save_ns = _FIRST_SAVE_NS  # what a snapshot takes, of any of the lanes,
        self._due_ns = self._between_ns  # and the work of a lane after which its next one is due
        self._open: dict[int, OpenLane] = {}
        self._starts: dict[int, tuple[int, LaneStart]] = {}  # the last ones, with their epochs

    @property
    def is_shared(self) -> bool:
        """True if the lanes have asked which they are, or need not: none gives all elements of the source."""
        return context.has_asked() or (self._is_of_lanes and not getattr(self._source, "streams", ()))

    def note(self, unit: int, epoch: int) -> str:
        """The note of an exception that `run` raised."""
        number, lane = divmod(unit, self._num_lanes)
        of = note_of(number, epoch, self._info)
        return of if self._num_lanes == self._info.num_workers else f"{of}, lane {lane} of {self._num_lanes}"

    def load(self, source: Any) -> None:
        """Go on with another source: the lanes are opened anew."""
        self._source = source
        self._open.clear()

    def close_lane(self, lane: int) -> None:
        """Another worker has this lane from now on: let go of what its stages hold."""
        self._open.pop(lane, None)
        self._starts.pop(lane, None)

    def is_at(self, epoch: int, unit: int) -> bool:
        """Return True if `run` needs no start: the element is the first of its lane, or the next."""
        number, lane = divmod(unit, self._num_lanes)
        found = self._open.get(lane)
        return not number or (found is not None and found.number == number and found.epoch == epoch)

    def run(self, epoch: int, unit: int, start: Any = None) -> Any:
        """Return an element: a batch, what is left of one (`Partial`), or one of them `WithTail`.

        The element that was returned last can be computed again: its lane is reopened.

        Args:
            epoch: Of the element.
            unit: Its number in the stream.
            start: A `LaneStart` or a `RetryStart`, to open the lane there; None: it is at the element, or that is its
                first one.

        Raises:
            StreamEnd: The lane has ended.
            Exception: What the source raised.
        """
        number, lane = divmod(unit, self._num_lanes)
        found = self._open.pop(lane, None)
        if found is None or start is not None or not (found.number == number > 0 and found.epoch == epoch):
            found = self._open_lane(lane, epoch, number, start)
        else:
            if found.saved is not None:
                # Not as soon as it was taken: the element before it may have been computed once more (`run`), from a
                # start that is not behind it.
                self._starts[lane], found.saved = (epoch, found.saved), None
            context.enter_lane(found.info)
        began, skipped = clock_ns(), found.skipped
        if skipped:
            skipped.clear()
        try:
            if self._plan is not None and type(found.lane) is GeneratorLane:
                found.lane.stages = self.stages  # where elements become batches; else nothing is noted there
            value = found.lane.next()
        except BaseException as error:
            if not self._is_interrupt(error):
                found.number = number + 1
                self._open[lane] = found
            if isinstance(error, StreamEnd):
                if skipped:  # it says the end again for the next element
                    return Partial(None, [tuple(entry) for entry in skipped], True)
                raise StreamEnd(found.take_rows()) from None
            raise
        finally:
            if found.marker is not None:  # what comes behind the element is begun in blocks again
                found.marker.end()
                found.marker = None
        found.number = number + 1
        if skipped:
            value = Partial(value, [tuple(entry) for entry in skipped], False)
        found.worked_ns += clock_ns() - began
        if found.worked_ns >= self._due_ns:
            state = self._save(found, lane)
            if state is not None:
                value = WithTail(value, state, found.take_rows())
                found.saved = LaneStart(found.number, state)
        self._open[lane] = found
        return value

    def _open_lane(self, lane: int, epoch: int, number: int, start: LaneStart | RetryStart | None) -> OpenLane:
        """Open a lane at an element, and drop what lies before it."""
        num_retried = 0
        if isinstance(start, RetryStart):
            start, num_retried = start
        if start is None:
            # The opening has failed before, or the element is the first one.
            of, start = self._starts.get(lane, (epoch, BEGINNING))
            if not number or of != epoch:
                start = BEGINNING
        for other in [other for other, open_ in self._open.items() if open_.epoch != epoch]:
            del self._open[other]  # lanes that are another's by now hold what is in their buffers
        self._starts[lane] = epoch, start
        info = self._info._replace(lane=lane, num_lanes=self._num_lanes)
        found = OpenLane(info, epoch, number)
        context.enter_lane(info)
        state = None if start.state is None else pickle.loads(start.state)
        if num_retried and self._is_of_lanes and self.tell_mark is not None:
            found.marker = Marker(self.tell_mark)
        run = LaneRun(
            lane, self._num_lanes, info.seed, epoch, self._begin, found.skipped.append if self._skips else None,
            self._in_slot, state, self._is_endless, found.marker,
        )  # fmt: skip
        if self._is_of_lanes:
            found.lane = self._source.open_lane(run)
        else:
            found.lane = GeneratorLane(self._source, run, start.number, self._plan, self._seeding)
            if found.lane.saves_first:
                found.worked_ns = self._due_ns
        num_dropped = number - start.number
        self._drop(found, num_dropped, num_dropped - num_retried + 1, is_from_beginning=start.state is None)
        return found

    def _drop(self, found: OpenLane, count: int, retried_from: int, *, is_from_beginning: bool) -> None:
        began, marker = clock_ns(), found.marker
        for number in range(count):
            if marker is not None:
                marker.is_on = number >= retried_from
            try:
                found.lane.next()
            except StreamEnd:
                break
            except (Exception, SystemExit) as error:
                if self._is_interrupt(error):
                    raise
                continue  # it was raised for the consumer at its place
        if marker is not None:
            marker.is_on = True
        took_s = (clock_ns() - began) / 1e9
        if is_from_beginning and took_s > _SLOW_S:
            warnings.warn(
                f"a stream was run from its beginning again, for {took_s:.0f} s, to go on behind element {count}: it "
                "has no state. Give what the function returns state_dict() and load_state_dict(state), and it goes on "
                "from there at once",
                RuntimeWarning,
                stacklevel=2,
            )

    def _save(self, found: OpenLane, lane: int) -> bytes | None:
        """Take a snapshot, and say when the next one is due."""
        began, name = clock_ns(), type(found.lane).__name__
        found.worked_ns = -1 << 62  # what fails once would fail each time
        try:
            state = found.lane.save()
        except Exception as error:
            if self._is_interrupt(error):
                raise
            raise RuntimeError(f"the state of lane {lane} cannot be had: {name}.save() raised {error!r}") from error
        data = None
        if state is not None:
            try:
                data = pickle.dumps(state, 5)
            except Exception as error:
                raise TypeError(
                    f"the state of lane {lane} cannot be pickled ({error}): it is to be plain data, as numbers, text, "
                    "lists and dicts are"
                ) from error
        found.worked_ns = 0
        # One that was held up, on a machine that is busy, says nothing of those to come: it would keep lanes from their
        # next snapshots for seconds, which a resume had to compute again.
        self._save_ns = min(clock_ns() - began, 4 * self._save_ns)
        # For all lanes: those that were opened before it was known would each take a first one too early.
        self._due_ns = max(_WORK_PER_SAVE * self._save_ns, self._between_ns)
        return data

    def _is_interrupt(self, error: BaseException) -> bool:
        """Return whether a signal handler has raised this in the middle of the lane's code."""
        return self._is_callers and (isinstance(error, KeyboardInterrupt) or is_of_handler(error))
