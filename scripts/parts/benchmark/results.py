"""Results of all measurements."""

import dataclasses
from collections.abc import Iterator

from parts.benchmark.balance import BALANCE
from parts.benchmark.balance_training import TRAINING
from parts.benchmark.blocks import BLOCKS_WORKLOAD
from parts.benchmark.cache import CACHE_WORKLOAD
from parts.benchmark.cells import OURS, compared_with, median_cell, ratio, spread
from parts.benchmark.files import FILES, FILES_PER_CPU
from parts.benchmark.programs import PROGRAMS
from parts.benchmark.queues import QUEUES
from parts.benchmark.ray_workloads import RAY
from parts.benchmark.records import RECORDS
from parts.benchmark.samples import SAMPLES
from parts.benchmark.seen import SEEN
from parts.benchmark.service import SERVICE
from parts.benchmark.sparse import SPARSE_WORKLOAD
from parts.benchmark.starts import NUMPY
from parts.benchmark.streams import STREAMS
from parts.benchmark.tf1 import TF1
from parts.benchmark.workloads import WORKLOADS

KNOWN = (
    WORKLOADS
    | SAMPLES
    | QUEUES
    | RECORDS
    | TF1
    | SERVICE
    | SEEN
    | RAY
    | STREAMS
    | PROGRAMS
    | FILES
    | BALANCE
    | TRAINING
    | BLOCKS_WORKLOAD
    | SPARSE_WORKLOAD
    | CACHE_WORKLOAD
)
# Including workloads in another unit.
DESCRIBED = KNOWN | FILES_PER_CPU


@dataclasses.dataclass(frozen=True)
class Results:
    """All measurements.

    Attributes:
        rates: Batches per second of each round, by (workload, feed or floor).
        first_batches: Milliseconds, by kind of start.
        costs: Other results of `consuming.consume` of each round, by (workload, feed) and name.
        memory: MB in addition to mpqueue's ring, by workload.
        service: Other results of `service.service_figures`, `ray_workloads.ray_figures`, `seen.costs`,
        `balance.balance_figures`, `blocks.block_figures`, `sparse.sparse_figures` or `cache.cache_figures`, by
            (workload, name) and figure.
        missing: Requested peers that are not installed.
        without_ray: Requested workloads that need Ray, which is not installed.
        failed: The last line of a peer's error, by (workload, peer).
        num_workers: Number of workers.
        starts: Milliseconds from the start of an interpreter, by program.
        left_out: Measurements without time.
        took_s: Seconds of each measurement.
    """

    rates: dict[tuple[str, str], list[float]]
    first_batches: dict[str, list[float]]
    costs: dict[tuple[str, str], dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    memory: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    service: dict[tuple[str, str], dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    missing: tuple[str, ...] = ()
    without_ray: tuple[str, ...] = ()
    failed: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    num_workers: int = 2
    starts: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    took_s: dict[str, float] = dataclasses.field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, str, float, float | None]]:
        """Yield workload, name, median in the workload's unit, and spread."""
        for (workload, name), rates in self.rates.items():
            yield workload, name, median_cell(rates, DESCRIBED[workload].per_batch), spread(rates)

    def ratio(self, workload: str, against: str, ours: str = OURS) -> float | None:
        """Return mpqueue's rate divided by another rate, both as shown, or None if one is missing.

        Args:
            workload: Name of the workload.
            against: Name of the other feed.
            ours: Name of mpqueue's feed, if there are several.
        """
        own = self.rates.get((workload, compared_with(against, ours)))
        theirs = self.rates.get((workload, against))
        if own is None or theirs is None:
            return None
        per_batch = DESCRIBED[workload].per_batch
        return ratio(median_cell(own, per_batch), median_cell(theirs, per_batch))

    def start_ratio(self, what: str) -> float | None:
        """Return the time of a start divided by that of NumPy's import, or None if one is missing."""
        numpy, other = self.starts.get(NUMPY), self.starts.get(what)
        return ratio(median_cell(other), median_cell(numpy)) if numpy and other else None
