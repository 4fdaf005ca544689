"""Results of all measurements: medians, spreads and ratios of rates."""

import dataclasses
import statistics
from collections.abc import Iterator

from parts.benchmark.files import FILES, FILES_PER_CPU
from parts.benchmark.queues import QUEUES
from parts.benchmark.ray_workloads import RAY
from parts.benchmark.records import ON_ONE_CORE, OURS, RECORDS
from parts.benchmark.samples import SAMPLES
from parts.benchmark.seen import SEEN
from parts.benchmark.service import SERVICE
from parts.benchmark.starts import NUMPY
from parts.benchmark.streams import STREAMS
from parts.benchmark.tf1 import TF1
from parts.benchmark.workloads import WORKLOADS

KNOWN = WORKLOADS | SAMPLES | QUEUES | RECORDS | TF1 | SERVICE | SEEN | RAY | STREAMS | FILES
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
        service: Other results of `service.service_figures`, `ray_workloads.ray_figures` or `seen.costs`, by (workload,
        name) and figure.
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

    def rows(self) -> Iterator[tuple[str, str, float, float]]:
        """Yield workload, name, median in the workload's unit, and spread (half of the range / median)."""
        for (workload, name), rates in self.rates.items():
            median = statistics.median(rates)
            spread = (max(rates) - min(rates)) / 2 / median
            yield workload, name, median * DESCRIBED[workload].per_batch, spread

    def ratio(self, workload: str, against: str, ours: str = OURS) -> float | None:
        """Return the median of mpqueue's rate divided by another rate of the same round, or None if one is missing.

        Rates on one core are compared with mpqueue on one core. Rates that were only measured in the first rounds are
        compared with mpqueue in these rounds.

        Args:
            workload: Name of the workload.
            against: Name of the other feed.
            ours: Name of mpqueue's feed, if there are several.
        """
        own = self.rates.get((workload, OURS + ON_ONE_CORE if against.endswith(ON_ONE_CORE) else ours))
        theirs = self.rates.get((workload, against))
        if own is None or theirs is None:
            return None
        return statistics.median(one / other for one, other in zip(own, theirs, strict=False))

    def start_share(self, what: str) -> float | None:
        """Return the median ratio of the time of NumPy's import to another start, or None if one is missing."""
        numpy, other = self.starts.get(NUMPY), self.starts.get(what)
        if not numpy or not other:
            return None
        return statistics.median(one / another for one, another in zip(numpy, other, strict=True))
