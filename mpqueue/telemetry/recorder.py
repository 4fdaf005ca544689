"""The counters and times of one stream.

Writers, all of them under the pipeline's lock unless noted::

    dispatcher   reports of workers: counts and sums of all batches, and the times of the *timed* batches
    backend      the work of the stages of a dataset, which workers report from time to time after a batch: for a
                 lane since its previous report, for an indexed dataset with each timed batch
    pipeline     the consumer's waiting time for each batch
    leases       how long it has kept the views of a timed batch; recorded when the pipeline next processes leases
    engine       the start and the end of the stream
    pipeline, backend and frontends    the parts of the start of an epoch (`StartTally`), also without the lock

A batch is timed if `EVERY_NS` have passed since the worker's previous timed batch. So all slow batches are timed, and a
sample of the fast ones; each timed batch counts for all batches since the previous one. (A worker process waits twice
as long after a fast batch, and longer with many workers.) Other batches have no cost. Readers take no lock.
`mpqueue.telemetry.stages` has the times of seeding and collation within a timed batch.

A `Histogram` divides each doubling of the time into 8 buckets, so that percentiles are accurate within 6 %::

    0 1 2 ... 15 ns    16 18 20 ... 30    32 36 40 ... 60    64 ...    up to 73 minutes
    a bucket each      8 buckets          8 buckets          8 ...     the last one includes longer times

Recording a time changes two numbers in place, and allocates only small integers. It takes 0.28 µs. A histogram of
prometheus-client takes 1.3 µs, and has no percentiles.
"""

from _thread import get_ident
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.units import count_text
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRows, StageTallies

if TYPE_CHECKING:
    from mpqueue.telemetry.timeline import Timeline

_SUB_BITS = 3
_NUM_BUCKETS = 320


class Histogram:
    """A growing distribution of times, with one writer, and readers in any thread.

    Attributes:
        counts: Number of times in each bucket.
        total_ns: Sum of the times.
    """

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * _NUM_BUCKETS))
        self.total_ns = 0

    def add(self, ns: int, weight: int = 1) -> None:
        """Record a time that represents ``weight`` batches."""
        shift = ns.bit_length() - _SUB_BITS - 1
        bucket = (shift << _SUB_BITS) + (ns >> shift) if shift > 0 else ns
        self.counts[bucket if bucket < _NUM_BUCKETS else -1] += weight
        self.total_ns += ns * weight

    def snapshot(self) -> "Distribution":
        """Return the times recorded so far."""
        pairs = tuple((bucket, count) for bucket, count in enumerate(self.counts) if count)
        return Distribution(pairs, self.total_ns / 1e9)


@dataclass(frozen=True)
class Distribution:
    """A distribution of times, in seconds.

    If batches are faster than they can be timed, each timed batch also represents the batches since the previous one.

    Attributes:
        buckets: Pairs of bucket index and number of times, ascending, without empty buckets.
        total_s: Sum of the times.
    """

    buckets: tuple[tuple[int, int], ...] = ()
    total_s: float = 0.0

    @property
    def count(self) -> int:
        """Number of recorded times."""
        return sum(count for _, count in self.buckets)

    @property
    def mean_s(self) -> float:
        """Mean of all times; 0 without times."""
        return self.total_s / self.count if self.buckets else 0.0

    @property
    def p50_s(self) -> float:
        """The median."""
        return self.quantile_s(0.5)

    @property
    def p95_s(self) -> float:
        """The time that 95 % do not exceed."""
        return self.quantile_s(0.95)

    @property
    def p99_s(self) -> float:
        """The time that 99 % do not exceed."""
        return self.quantile_s(0.99)

    def quantile_s(self, share: float) -> float:
        """Return the time that the given share does not exceed, within 6 %; 0 without times.

        Args:
            share: A number from 0 to 1.
        """
        left = share * self.count
        for bucket, count in self.buckets:
            if left <= count:
                lower, upper = bounds_ns(bucket)
                return (lower + (upper - lower) * left / count) / 1e9
            left -= count
        return 0.0

    def num_within(self, bounds_s: Iterable[float]) -> list[int]:
        """Return the number of times up to each of these ascending bounds, as Prometheus counts them."""
        numbers, position, total = [], 0, 0
        for bound_s in bounds_s:
            while position < len(self.buckets) and bounds_ns(self.buckets[position][0])[1] <= bound_s * 1e9:
                total += self.buckets[position][1]
                position += 1
            numbers.append(total)
        return numbers

    def __add__(self, other: Self) -> Self:
        counts = dict(self.buckets)
        for bucket, count in other.buckets:
            counts[bucket] = counts.get(bucket, 0) + count
        return type(self)(tuple(sorted(counts.items())), self.total_s + other.total_s)

    def __sub__(self, earlier: Self) -> Self:
        before = dict(earlier.buckets)
        left = ((bucket, count - before.get(bucket, 0)) for bucket, count in self.buckets)
        return type(self)(tuple(pair for pair in left if pair[1] > 0), max(0.0, self.total_s - earlier.total_s))

    def __repr__(self) -> str:
        return (
            f"<{count_text(self.count, 'time')}, {self.total_s:.3g} s; p50 {self.p50_s:.3g} s, p95 {self.p95_s:.3g} s, "
            f"p99 {self.p99_s:.3g} s>"
        )


NO_TIMES = Distribution()


def bounds_ns(bucket: int) -> tuple[int, int]:
    """Return the lower and the upper bound of a bucket; the upper one is not in it."""
    shift = max(0, (bucket >> _SUB_BITS) - 1)
    lower = (bucket - (shift << _SUB_BITS)) << shift
    return lower, lower + (1 << shift)


# What delays the first batch of an epoch. `ahead` is an epoch's end in a thread, while the consumer may do other work.
START_PARTS = ("hook", "compare", "send", "restart", "order", "ahead", "launch")
_SLOW_START_NS = 1_000_000_000


class StartTally:
    """The times at the starts of epochs, for one engine over all of its streams.

    `part` times a part. Parts may be nested: the time of an inner part does not count for the outer one.

    Attributes:
        count: Number of starts in this stream.
        parts_ns: Nanoseconds in this stream, by part.
        timeline: The timeline of this stream, or None.
    """

    def __init__(self) -> None:
        self.count = self._num_launches = 0
        self.parts_ns = dict.fromkeys(START_PARTS, 0)
        self.timeline: Timeline | None = None
        self._latest_ns: dict[str, int] = {}  # of the start in progress, by part
        self._notes: dict[str, str] = {}
        self._total_ns = 0
        self._ahead: int | None = None  # the thread that ends an epoch ahead of the consumer
        self._has_warned = False

    def part(self, name: str) -> "StartPart":
        """Return a context manager that times a part, which is one of `START_PARTS`."""
        return StartPart(self, name, self._total_ns)

    def note(self, name: str, text: str) -> None:
        """Add details of a part to the warning about a slow start."""
        self._notes[name] = text

    def add(self, name: str, began_ns: int, before_ns: int) -> None:
        """Record a part that ends now; ``before_ns`` is the total of all parts at its beginning."""
        ended = clock_ns()
        if get_ident() == self._ahead:
            return  # within `ahead`
        # Not of the clock alone: inner parts are over by now, and are in the total.
        own = max(0, ended - began_ns - (self._total_ns - before_ns))
        self._total_ns += own
        self.parts_ns[name] += own
        self._latest_ns[name] = self._latest_ns.get(name, 0) + own
        if self.timeline is not None:
            self.timeline.start_part(name, began_ns, ended)

    @context_manager
    def ahead(self) -> Iterator[None]:
        """Time the end of an epoch in a thread. A consumer that waits for it has that wait in its own part."""
        self._ahead, began = get_ident(), clock_ns()
        try:
            yield
        finally:
            self._ahead, ended = None, clock_ns()
            self.parts_ns["ahead"] += ended - began
            if self.timeline is not None:
                self.timeline.ahead(began, ended)

    def follow(self, before: "StartTally | None") -> None:
        """Continue the counts of starts and warnings of an earlier engine with the same source."""
        if before is not None:
            self._num_launches, self._has_warned = before._num_launches, before._has_warned

    @property
    def is_pending(self) -> bool:
        """True if parts were recorded since `settle`."""
        return bool(self._latest_ns)

    def settle(self, epoch: int) -> None:
        """Count the start of an epoch, which is complete; warn of the first slow one."""
        latest, notes, self._latest_ns, self._notes = self._latest_ns, self._notes, {}, {}
        self.count += 1
        # The first start of workers is expected to take long, also at its second attempt.
        self._num_launches += "launch" in latest
        is_first = "launch" in latest and self._num_launches == 1
        if sum(latest.values()) > _SLOW_START_NS and not (is_first or self._has_warned):
            self._has_warned = True
            from mpqueue.telemetry.epoch_starts import warn_of_start  # only for a slow start

            warn_of_start(epoch, {name: ns / 1e9 for name, ns in latest.items()}, notes)

    def detach(self) -> "StartTally":
        """Return the counters of the finished stream, and count from 0 for the next one."""
        ended = StartTally()
        ended.count, ended.parts_ns = self.count, self.parts_ns
        self.count, self.parts_ns, self.timeline = 0, dict.fromkeys(START_PARTS, 0), None
        self._latest_ns, self._notes = {}, {}
        return ended


class StartPart:
    """A part of the start of an epoch, timed from the beginning to the end of ``with``.

    Attributes:
        name: The part, which may change until the end.
    """

    __slots__ = ("_before_ns", "_began_ns", "_tally", "name")

    def __init__(self, tally: StartTally, name: str, before_ns: int) -> None:
        self._tally, self.name, self._before_ns = tally, name, before_ns
        self._began_ns = clock_ns()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tally.add(self.name, self._began_ns, self._before_ns)


class Recorder:
    """The counters and times of one stream.

    Args:
        timeline: A timeline to draw the events in, or None.
        starts: The times at the starts of epochs; None for new ones.

    Attributes:
        timeline: The timeline, or None.
        waited_ns: Waiting time of the consumer; without workers, including its computing time.
        waits: Its waiting time for each batch that was not ready.
        leases: Time that it has kept the views of a batch.
        stages: The work of the stages of a dataset.
        starts: The times at the starts of epochs.
        concurrency: Number of samples in flight per worker, for an asynchronous source; otherwise 0.
        caches: The caches of the source, by name; see `mpqueue.plan.sources.sources.CacheUse`.
    """

    concurrency = 0
    caches: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, timeline: "Timeline | None" = None, starts: StartTally | None = None) -> None:
        self.timeline = timeline
        self.starts = starts or StartTally()
        self.starts.timeline = timeline
        self.waits, self.leases = Histogram(), Histogram()
        self.stages = StageTallies()
        self.waited_ns = 0
        self._awaited, self._waited_ns = -1, 0  # a batch, and its waiting time so far
        self._began_ns, self._ended_ns = clock_ns(), 0

    def begin(self) -> None:
        """Record the start of the workers."""
        self._began_ns, self._ended_ns = clock_ns(), 0

    def end(self) -> None:
        """Record the end of the stream, after which the counters are constant."""
        self._ended_ns = self._ended_ns or clock_ns()
        if self.timeline is not None:
            self.timeline.end()

    def mark(self, name: str, worker: int | None = None) -> None:
        """Draw an event of all workers, or of one worker, if there is a timeline."""
        if self.timeline is not None:
            self.timeline.mark(name, worker)

    def add_stages(self, rows: StageRows, weight: int = 1) -> None:
        """Add the reported work of stages; ``weight`` is the number of batches that it represents."""
        self.stages.add(rows, weight)
        if self.timeline is not None:
            self.timeline.stages(self.stages.rows())

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start to the end, or until now."""
        return ((self._ended_ns or clock_ns()) - self._began_ns) / 1e9

    def wait(self, batch: int, ns: int) -> None:
        """Record a wait of the consumer for the batch of this id; may be called again for the same batch."""
        self.waited_ns += ns
        if self.timeline is not None:
            self.timeline.wait(clock_ns() - ns, ns)
        if batch == self._awaited:
            self._waited_ns += ns
            return
        if self._awaited >= 0:
            self.waits.add(self._waited_ns)
        self._awaited, self._waited_ns = batch, ns

    def lease(self, work_id: int | None) -> Callable[[int], None]:
        """Return a function to call with the end time of a lease that begins now.

        ``work_id`` is the id of its work item, or None to omit it from the timeline.
        """
        began, leases, timeline = clock_ns(), self.leases, self.timeline
        if work_id is None or timeline is None:
            return lambda ended: leases.add(ended - began)

        def end(ended: int) -> None:
            leases.add(ended - began)
            timeline.held(work_id, began, ended)

        return end

    def waited(self, num_batches: int) -> Distribution:
        """Return the distribution of the consumer's waiting times for the batches; most are 0."""
        waits = self.waits.snapshot()
        if 0 <= self._awaited < num_batches:
            latest = Histogram()
            latest.add(self._waited_ns)
            waits += latest.snapshot()
        at_once = max(0, num_batches - waits.count)
        return waits + Distribution(((0, at_once),)) if at_once else waits
