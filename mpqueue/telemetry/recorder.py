"""The counts and times of one stream, as they come.

Who writes what, each under the lock of the pipeline but where something else is said::

    dispatcher   what a worker has reported: counts and sums of all batches, and the times of those that were *timed*
    pipeline     how long the consumer has waited for each batch
    leases       how long it has kept the views of a timed batch; when the pipeline comes by after their end
    engine       when the stream began and ended

A batch is timed if `EVERY_NS` have passed since the one before it of the same worker was: so batches that take longer
are all timed, and of faster ones a sample, each for as many as came since. (A worker process waits twice as long after
a fast one, and longer still with many workers.) That costs nothing for the others. Whoever reads takes no lock.
"""

from collections.abc import Callable

from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.histograms import Distribution, Histogram
from mpqueue.telemetry.timeline import Timeline


class Tally:
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
    """

    __slots__ = (
        "_num_told", "batches", "blocked", "collate", "compute", "compute_ns", "copy", "copy_ns", "deaths", "num_bytes",
        "seed", "wait", "wait_ns",
    )  # fmt: skip

    def __init__(self) -> None:
        self.batches = self.num_bytes = self.compute_ns = self.copy_ns = self.wait_ns = self.deaths = 0
        self.wait, self.seed, self.compute = Histogram(), Histogram(), Histogram()
        self.blocked, self.collate, self.copy = Histogram(), Histogram(), Histogram()
        self._num_told = 0

    def add(self, batches: int, num_bytes: int, compute_ns: int, copy_ns: int, wait_ns: int) -> None:
        """Count some batches."""
        self.batches += batches
        self.num_bytes += num_bytes
        self.compute_ns += compute_ns
        self.copy_ns += copy_ns
        self.wait_ns += wait_ns

    def time(self, compute_ns: int, copy_ns: int, wait_ns: int, seed_ns: int, collate_ns: int) -> None:
        """Enter the times of a batch that is counted next, for it and for those since the one timed before it."""
        weight = max(1, self.batches + 1 - self._num_told)  # it is not counted yet, and maybe some before it
        self._num_told += weight
        self.compute.add(compute_ns, weight)
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
        waits: How long the consumer has waited for each batch that it has waited for.
        leases: How long it has kept the views of a batch.
    """

    def __init__(self, timeline: Timeline | None = None) -> None:
        self.timeline = timeline
        self.workers: list[Tally] = []
        self.waits, self.leases = Histogram(), Histogram()
        self._awaited, self._waited_ns = -1, 0  # a batch, and what was waited for it
        self._began_ns, self._ended_ns = clock_ns(), 0

    def expect(self, num_workers: int) -> list[Tally]:
        """Return the tallies of so many workers."""
        self.workers = [Tally() for _ in range(num_workers)]
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

    @property
    def elapsed_s(self) -> float:
        """Seconds from the beginning to now, or to the end."""
        return ((self._ended_ns or clock_ns()) - self._began_ns) / 1e9

    def wait(self, batch: int, ns: int) -> None:
        """Enter that the consumer has waited for the batch of this number: once more, or for the first time."""
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

        ``number`` is that of its ticket; None: it is not drawn.
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
