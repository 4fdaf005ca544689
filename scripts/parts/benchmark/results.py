"""Results of all measurements: medians, spreads and ratios of rates."""

import dataclasses
import statistics
from collections.abc import Iterator
from typing import Any

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
# With what is told of some of them in another unit, too.
TOLD = KNOWN | FILES_PER_CPU


@dataclasses.dataclass(frozen=True)
class Results:
    """All that was measured.

    Attributes:
        rates: Batches per second of each round, by (workload, feed or floor).
        first_batches: Milliseconds, by what came before.
        costs: What `consuming.consume` finds beside the rate, of each round, by (workload, feed) and name.
        wake_ups: Microseconds, by feed.
        memory: MB beyond mpqueue's ring, by workload.
        service: What `service.service_figures`, `ray_workloads.ray_figures` or `seen.costs` finds beside the rate, by
            (workload, name) and figure.
        missing: Peers that were asked for and are not installed.
        without_ray: Workloads that were asked for and need Ray, which is not installed.
        failed: The last line of what a peer failed with, by (workload, peer).
        num_workers: With how many workers it was measured.
        starts: Milliseconds from the start of an interpreter, by what it did.
        left_out: What there was no time for.
        took_s: Seconds of each measurement.
    """

    rates: dict[tuple[str, str], list[float]]
    first_batches: dict[str, list[float]]
    costs: dict[tuple[str, str], dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    wake_ups: dict[str, list[float]] = dataclasses.field(default_factory=dict)
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
        """Yield workload, name, median in the workload's unit, spread: half of the range, as a share of the median."""
        for (workload, name), rates in self.rates.items():
            median = statistics.median(rates)
            spread = (max(rates) - min(rates)) / 2 / median
            yield workload, name, median * TOLD[workload].per_batch, spread

    def about(self, workload: str) -> Any:
        """Return a workload: its description, and the unit of its rate."""
        return TOLD[workload]

    def ratio(self, workload: str, against: str, ours: str = OURS) -> float | None:
        """Return the median of mpqueue's rate divided by another's of the same round; None without either.

        What ran on one core is compared with mpqueue on one core. What was measured in the first rounds only is
        compared with mpqueue in these.

        Args:
            workload: Of which workload.
            against: The name of the other.
            ours: The name of mpqueue, where it is measured in several ways.
        """
        own = self.rates.get((workload, OURS + ON_ONE_CORE if against.endswith(ON_ONE_CORE) else ours))
        theirs = self.rates.get((workload, against))
        if own is None or theirs is None:
            return None
        return statistics.median(one / other for one, other in zip(own, theirs, strict=False))

    def start_share(self, what: str) -> float | None:
        """Return the median of what an import of NumPy has of the time of another start, turn by turn; None without."""
        numpy, other = self.starts.get(NUMPY), self.starts.get(what)
        if not numpy or not other:
            return None
        return statistics.median(one / another for one, another in zip(numpy, other, strict=True))
