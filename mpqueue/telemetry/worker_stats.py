"""The counters of one worker: as the backend counts them, and as `mpqueue.Statistics` shows them."""

from dataclasses import dataclass

from mpqueue.telemetry.counted import Counted
from mpqueue.telemetry.recorder import NO_TIMES, Distribution, Histogram


@dataclass(frozen=True)
class Times(Counted):
    """The times of single batches, each a `Distribution` with ``p50_s``, ``p95_s``, ``p99_s`` and more.

    Attributes:
        wait: Waiting of the consumer for a batch; for a worker, waiting for work.
        seed: Seeding of random generators; zero if the source does not draw from them.
        compute: Computing in the source, including ``seed`` and ``collate``; with ``threads``, the sum of all threads.
        blocked: The part of ``compute`` without a CPU: waiting for a disk, the network, a lock, a sleep. Measured ten
            times a second in workers with batches of at least a millisecond, on Linux only.
        collate: Combining samples into a batch.
        copy: Writing the batch into the ring.
        lease: From the return of a batch to the deletion of its last view.
    """

    wait: Distribution = NO_TIMES
    seed: Distribution = NO_TIMES
    compute: Distribution = NO_TIMES
    blocked: Distribution = NO_TIMES
    collate: Distribution = NO_TIMES
    copy: Distribution = NO_TIMES
    lease: Distribution = NO_TIMES


NO_BATCHES = Times()
IN_WORKER = ("seed", "compute", "blocked", "collate", "copy")  # fields of `Times` that workers measure


@dataclass(frozen=True)
class WorkerStatistics(Counted):
    """Counters of one worker, including all processes or threads that had its index.

    Attributes:
        number: Index of the worker, from 0.
        pid: Process id. None for a thread, a worker on another machine, or a worker that has exited.
        batches: Batches that it has computed.
        bytes: Their size in the ring.
        compute_s: Seconds in the source.
        copy_s: Seconds for writing batches into the ring.
        credit_wait_s: Seconds of waiting for work.
        deaths: Number of crashes.
        rss_bytes: Resident memory of its process, including shared pages that it has used.
        times: Times of single batches.
    """

    number: int
    pid: int | None = None
    batches: int = 0
    bytes: int = 0
    compute_s: float = 0.0
    copy_s: float = 0.0
    credit_wait_s: float = 0.0
    deaths: int = 0
    rss_bytes: int = 0
    times: Times = NO_BATCHES


class WorkerTally:
    """The counters and times of one worker, including all processes that had its index.

    Attributes:
        batches: Number of reported outcomes.
        num_bytes: Their bytes in the ring.
        compute_ns: Nanoseconds in the source.
        copy_ns: Nanoseconds for writing batches.
        wait_ns: Nanoseconds of waiting for work.
        deaths: Number of crashes.
        wait, seed, compute, collate, copy: Times of single batches.
        blocked: Times that single batches were waiting for anything except a CPU.
        blocked_beside_ns: The part of ``blocked`` when helper threads waited in addition to the worker's own
            thread.
        weight: Number of batches that the last timed batch represents.
    """

    __slots__ = (
        "_num_timed", "batches", "blocked", "blocked_beside_ns", "collate", "compute", "compute_ns", "copy", "copy_ns",
        "deaths", "num_bytes", "seed", "wait", "wait_ns", "weight",
    )  # fmt: skip

    def __init__(self) -> None:
        self.batches = self.num_bytes = self.compute_ns = self.copy_ns = self.wait_ns = self.deaths = 0
        self.wait, self.seed, self.compute = Histogram(), Histogram(), Histogram()
        self.blocked, self.collate, self.copy = Histogram(), Histogram(), Histogram()
        self.blocked_beside_ns = 0
        self._num_timed, self.weight = 0, 1

    def time(
        self, compute_ns: int, copy_ns: int, wait_ns: int, seed_ns: int, collate_ns: int, beside_ns: int = 0
    ) -> None:
        """Record the times of the next batch, which also represents the batches since the previous timed batch."""
        # This batch is not counted yet, and maybe some before it neither.
        weight = self.weight = max(1, self.batches + 1 - self._num_timed)
        self._num_timed += weight
        self.compute.add(max(0, compute_ns + beside_ns), weight)
        self.copy.add(copy_ns, weight)
        self.wait.add(wait_ns, weight)
        self.seed.add(seed_ns, weight)
        self.collate.add(collate_ns, weight)

    def statistics(self, index: int, pid: int | None, rss_bytes: int) -> WorkerStatistics:
        """Return the present counters, and what the backend knows about the worker's process."""
        return WorkerStatistics(
            index,
            pid,
            self.batches,
            self.num_bytes,
            self.compute_ns / 1e9,
            self.copy_ns / 1e9,
            self.wait_ns / 1e9,
            self.deaths,
            rss_bytes,
            Times(**{name: getattr(self, name).snapshot() for name in ("wait", *IN_WORKER)}),
        )
