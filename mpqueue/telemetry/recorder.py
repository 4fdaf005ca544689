"""The counts and times of one stream, as they come.

Who writes what, each under the lock of the pipeline but where something else is said::

    dispatcher   what a worker has reported: counts and sums of all batches, and the times of those that were *timed*
    backend      what the stages of a dataset have done, as a worker tells it now and then behind a batch: those of a
                 lane since it told before, those of an indexed dataset for a batch that was timed
    pipeline     how long the consumer has waited for each batch
    leases       how long it has kept the views of a timed batch; when the pipeline comes by after their end
    engine       when the stream began and ended

A batch is timed if `EVERY_NS` have passed since the one before it of the same worker was: so batches that take longer
are all timed, and of faster ones a sample, each for as many as came since. (A worker process waits twice as long after
a fast one, and longer still with many workers.) That costs nothing for the others. Whoever reads takes no lock. The
parts of a timed batch, seeding and collation, are noted in `Stages` by whoever does them, which is rare, or costs much.

In a `Histogram` each doubling of a time is cut into 8 buckets, so that a percentile is right within 6 %::

    0 1 2 ... 15 ns    16 18 20 ... 30    32 36 40 ... 60    64 ...    up to 73 minutes
    a bucket each      8 buckets          8 buckets          8 ...     the last has what is longer, too

To enter a time changes two numbers in place; nothing is allocated but the small integers that Python makes of them.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRows, StageTallies

if TYPE_CHECKING:
    from mpqueue.telemetry.timeline import Timeline

_SUB_BITS = 3
_NUM_BUCKETS = 320


class Histogram:
    """A distribution that grows; one writer, and readers in any thread.

    Attributes:
        counts: How many times fell into each bucket.
        total_ns: Their sum.
    """

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * _NUM_BUCKETS))
        self.total_ns = 0

    def add(self, ns: int, weight: int = 1) -> None:
        """Enter a time, for so many that were like it."""
        shift = ns.bit_length() - _SUB_BITS - 1
        bucket = (shift << _SUB_BITS) + (ns >> shift) if shift > 0 else ns
        self.counts[bucket if bucket < _NUM_BUCKETS else -1] += weight
        self.total_ns += ns * weight

    def snapshot(self) -> "Distribution":
        """Return what was entered so far."""
        pairs = tuple((bucket, count) for bucket, count in enumerate(self.counts) if count)
        return Distribution(pairs, self.total_ns / 1e9)


@dataclass(frozen=True)
class Distribution:
    """A distribution of times, in seconds.

    Where batches come faster than they can be timed, some stand for all: each counts for those since the one before.

    Attributes:
        buckets: Pairs of the number of a bucket that is not empty, and how many times are in it, ascending.
        total_s: Their sum.
    """

    buckets: tuple[tuple[int, int], ...] = ()
    total_s: float = 0.0

    @property
    def count(self) -> int:
        """Number of times."""
        return sum(count for _, count in self.buckets)

    @property
    def mean_s(self) -> float:
        """Mean of all times; 0 if there are none."""
        return self.total_s / self.count if self.buckets else 0.0

    @property
    def p50_s(self) -> float:
        """The median."""
        return self.quantile_s(0.5)

    @property
    def p95_s(self) -> float:
        """Not exceeded by 95 of 100."""
        return self.quantile_s(0.95)

    @property
    def p99_s(self) -> float:
        """Not exceeded by 99 of 100."""
        return self.quantile_s(0.99)

    def quantile_s(self, share: float) -> float:
        """Return the time that this share of all does not exceed, within 6 %; 0 if there are none.

        Args:
            share: From 0 to 1.
        """
        left = share * self.count
        for bucket, count in self.buckets:
            if left <= count:
                lower, upper = bounds_ns(bucket)
                return (lower + (upper - lower) * left / count) / 1e9
            left -= count
        return 0.0

    def num_within(self, bounds_s: Iterable[float]) -> list[int]:
        """Return for each of these times, which ascend, how many are not longer, as Prometheus counts them."""
        numbers, place, total = [], 0, 0
        for bound_s in bounds_s:
            while place < len(self.buckets) and bounds_ns(self.buckets[place][0])[1] <= bound_s * 1e9:
                total += self.buckets[place][1]
                place += 1
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
            f"<{self.count} times, {self.total_s:.3g} s; p50 {self.p50_s:.3g} s, p95 {self.p95_s:.3g} s, "
            f"p99 {self.p99_s:.3g} s>"
        )


NO_TIMES = Distribution()


def bounds_ns(bucket: int) -> tuple[int, int]:
    """Return the least time of a bucket, and the least one above it."""
    shift = max(0, (bucket >> _SUB_BITS) - 1)
    lower = (bucket - (shift << _SUB_BITS)) << shift
    return lower, lower + (1 << shift)


class WorkerTally:
    """The counts and times of one worker, of all processes that bore its number.

    Attributes:
        batches: Outcomes that it has reported.
        num_bytes: Their bytes in the ring.
        compute_ns: Nanoseconds in the source,
        copy_ns: in writing batches,
        wait_ns: and in waiting for work.
        deaths: How often it died.
        wait, seed, compute, collate, copy: The times of single batches,
        blocked: and for how long some of them waited for anything but a CPU.
        blocked_beside_ns: The part of ``blocked`` in which helper threads waited beside the worker's own thread.
        weight: For how many batches the one stands that was timed last.
    """

    __slots__ = (
        "_num_told", "batches", "blocked", "blocked_beside_ns", "collate", "compute", "compute_ns", "copy", "copy_ns",
        "deaths", "num_bytes", "seed", "wait", "wait_ns", "weight",
    )  # fmt: skip

    def __init__(self) -> None:
        self.batches = self.num_bytes = self.compute_ns = self.copy_ns = self.wait_ns = self.deaths = 0
        self.wait, self.seed, self.compute = Histogram(), Histogram(), Histogram()
        self.blocked, self.collate, self.copy = Histogram(), Histogram(), Histogram()
        self.blocked_beside_ns = 0
        self._num_told, self.weight = 0, 1

    def add(self, batches: int, num_bytes: int, compute_ns: int, copy_ns: int, wait_ns: int) -> None:
        """Count some batches."""
        self.batches += batches
        self.num_bytes += num_bytes
        self.compute_ns += compute_ns
        self.copy_ns += copy_ns
        self.wait_ns += wait_ns

    def time(
        self, compute_ns: int, copy_ns: int, wait_ns: int, seed_ns: int, collate_ns: int, beside_ns: int = 0
    ) -> None:
        """Enter the times of a batch that is counted next, for it and for those since the one timed before it."""
        # It is not counted yet, and maybe some before it.
        weight = self.weight = max(1, self.batches + 1 - self._num_told)
        self._num_told += weight
        self.compute.add(max(0, compute_ns + beside_ns), weight)
        self.copy.add(copy_ns, weight)
        self.wait.add(wait_ns, weight)
        self.seed.add(seed_ns, weight)
        self.collate.add(collate_ns, weight)


class Recorder:
    """The counts and times of one stream.

    Args:
        timeline: Where it is drawn, too; None: nowhere.

    Attributes:
        timeline: As given.
        workers: A tally for each of its workers; without workers, for the caller.
        waited_ns: How long the consumer has waited; without workers, what it has computed itself, too.
        waits: How long it has waited for each batch that it has waited for.
        leases: How long it has kept the views of a batch.
        stages: The work of the stages of a dataset.
    """

    def __init__(self, timeline: "Timeline | None" = None) -> None:
        self.timeline = timeline
        self.workers: list[WorkerTally] = []
        self.waits, self.leases = Histogram(), Histogram()
        self.stages = StageTallies()
        self.waited_ns = 0
        self._awaited, self._waited_ns = -1, 0  # a batch, and what was waited for it
        self._began_ns, self._ended_ns = clock_ns(), 0

    def expect(self, num_workers: int) -> list[WorkerTally]:
        """Return the tallies of so many workers."""
        self.workers = [WorkerTally() for _ in range(num_workers)]
        return self.workers

    def begin(self) -> None:
        """The workers run."""
        self._began_ns, self._ended_ns = clock_ns(), 0

    def end(self) -> None:
        """The stream has ended: nothing changes any more."""
        self._ended_ns = self._ended_ns or clock_ns()
        if self.timeline is not None:
            self.timeline.end()

    def mark(self, name: str, worker: int | None = None) -> None:
        """Note what has happened now, to all or to one worker, if a timeline is drawn."""
        if self.timeline is not None:
            self.timeline.mark(name, worker)

    def add_stages(self, rows: StageRows, weight: int = 1) -> None:
        """Add the work of stages that a lane has told; or that of a batch, which stands for so many."""
        self.stages.add(rows, weight)
        if self.timeline is not None:
            self.timeline.stages(self.stages.rows())

    @property
    def elapsed_s(self) -> float:
        """Seconds from the beginning to now, or to the end."""
        return ((self._ended_ns or clock_ns()) - self._began_ns) / 1e9

    def wait(self, batch: int, ns: int) -> None:
        """Enter that the consumer has waited for the batch of this number: once more, or for the first time."""
        self.waited_ns += ns
        if self.timeline is not None:
            self.timeline.wait(clock_ns() - ns, ns)
        if batch == self._awaited:
            self._waited_ns += ns
            return
        if self._awaited >= 0:
            self.waits.add(self._waited_ns)
        self._awaited, self._waited_ns = batch, ns

    def lease(self, number: int | None) -> Callable[[int], None]:
        """Return what is to be called, with the time, when a lease that begins now has ended.

        ``number`` is that of its work item; None: it is not drawn.
        """
        began, leases, timeline = clock_ns(), self.leases, self.timeline
        if number is None or timeline is None:
            return lambda ended: leases.add(ended - began)

        def end(ended: int) -> None:
            leases.add(ended - began)
            timeline.held(number, began, ended)

        return end

    def waited(self, num_batches: int) -> Distribution:
        """Return how long the consumer has waited for each of so many batches; for most it has not."""
        waits = self.waits.snapshot()
        if 0 <= self._awaited < num_batches:
            latest = Histogram()
            latest.add(self._waited_ns)
            waits += latest.snapshot()
        at_once = max(0, num_batches - waits.count)
        return waits + Distribution(((0, at_once),)) if at_once else waits


class Stages:
    """Nanoseconds that the parts of one batch have taken.

    Attributes:
        seed_ns: For random numbers.
        collate_ns: For joining samples.
        beside_ns: In helper threads, beyond the time of the worker's own thread.
        blocked_ns: In waiting for anything but a CPU,
        is_looked_at: if that was looked at.
    """

    __slots__ = ("beside_ns", "blocked_ns", "collate_ns", "is_looked_at", "seed_ns")

    def __init__(self) -> None:
        self.seed_ns = self.collate_ns = self.blocked_ns = self.beside_ns = 0
        self.is_looked_at = False

    def seeding(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function, whose time is seeding."""

        def clocked(*arguments: Any) -> Any:
            started = clock_ns()
            try:
                return function(*arguments)
            finally:
                self.seed_ns += clock_ns() - started

        return clocked

    def collating(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function, whose time is collation."""

        def clocked(*arguments: Any) -> Any:
            started = clock_ns()
            try:
                return function(*arguments)
            finally:
                self.collate_ns += clock_ns() - started

        return clocked

    @contextmanager
    def of(self, *owners: Any) -> Iterator[None]:
        """Time one batch: a runner's, and the seeding by others; each has an attribute ``stages`` from its making on.

        (One that comes later would make all of an object's attributes slower for good.)
        """
        for owner in owners:
            owner.stages = self
        try:
            yield
        finally:
            for owner in owners:
                owner.stages = None
