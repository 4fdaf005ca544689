"""Rates that one trainer can serve with a CPU of its own, by the number of its workers.

Workers that only sleep cost more CPU than a machine of few has, so that what arrives is what they leave of it. Here one
process plays them all: the trainer is the real one, behind real pipes with real reports, and its CPU time is taken.
"""

import dataclasses
import statistics

from parts.scaling import costs
from parts.scaling.cluster import Cluster

WORKERS = (16, 32, 64)
WANTED = 60_000  # batches/s
ROUNDS = 12
AHEAD = 8  # for each worker


@dataclasses.dataclass(frozen=True)
class Served:
    """Microseconds of the trainer's CPU for a batch, of each round; the least counts, as others use the machine, too.

    Attributes:
        dispatched_us: From its deal to its outcome, by the number of workers.
        opened_us: Its views, and the end of its lease.
    """

    dispatched_us: dict[int, list[float]]
    opened_us: list[float]

    def rate(self, workers: int) -> float:
        """Batches per second."""
        return 1e6 / (min(self.dispatched_us[workers]) + min(self.opened_us))

    @property
    def kept(self) -> float:
        """The rate with the most workers as a share of that with the fewest, in the middle of all rounds."""
        fewest, *_, most = self.dispatched_us.values()
        rounds = zip(fewest, most, self.opened_us, strict=True)
        return statistics.median((few + opened) / (many + opened) for few, many, opened in rounds)


def measure(num_rounds: int = ROUNDS) -> Served:
    """Time what a batch costs the trainer, with each number of workers in turn."""
    found = Served({workers: [] for workers in WORKERS}, [])
    for _ in range(num_rounds):
        found.opened_us.append(costs.opened_us())
        for workers, rounds in found.dispatched_us.items():
            rounds.append(costs.dispatched_us(cluster_of(workers)))
    return found


def cluster_of(workers: int) -> Cluster:
    """Return one trainer whose workers would give twice of what is wanted, together."""
    batch_ms = 1e3 * workers / (2 * WANTED)
    return Cluster(nodes=1, workers=workers, trainers=1, batch_mb=0.002, batch_ms=batch_ms, credit=AHEAD * workers)


def report(found: Served) -> list[str]:
    """Return the table, and what is lost from the fewest workers to the most."""
    lines = [f"{'workers':>8}{'dispatch, us':>14}{'median':>9}{'batches/s':>11}"]
    for workers, rounds in found.dispatched_us.items():
        lines.append(f"{workers:8}{min(rounds):14.1f}{statistics.median(rounds):9.1f}{found.rate(workers):11,.0f}")
    is_reached = all(found.rate(workers) >= WANTED for workers in WORKERS)
    return [
        *lines,
        "",
        f"to open a batch and to let go of it: {min(found.opened_us):.1f} us",
        f"the rate with {WORKERS[-1]} workers is {found.kept:.2f} of that with {WORKERS[0]}, the middle of all rounds",
        f"{WANTED:,} batches/s wanted: {'reached' if is_reached else 'MISSED'}",
    ]
