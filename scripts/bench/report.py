"""Medians, spreads and ratios, as text, Markdown or JSON; and the figures that mpqueue is to reach."""

import dataclasses
import json
import platform
import statistics
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil

import mpqueue
from bench import costs, goals
from bench.goals import verdict
from bench.queues import QUEUES, STANDARD
from bench.records import ON_ONE_CORE, OURS, RECORDS, python_with_tensorflow
from bench.workloads import WORKLOADS

KNOWN = WORKLOADS | QUEUES | RECORDS


@dataclasses.dataclass(frozen=True)
class Target:
    """A ratio of two rates of one run that mpqueue is to reach."""

    workload: str
    against: str
    at_least: float


TARGETS = (
    Target("tiny", "imap", 5.0),
    Target("tiny", "keras threads", 2.5),
    Target("tiny", "faster-fifo", 1.7),
    Target("image", "slots", 0.95),
    Target("image in place", "memcpy", 0.8),
    Target("image in place", "shared writes", 0.95),
    Target("large", "slots", 0.95),
    Target("large in place", "shared writes", 0.95),
    Target("decode", "processes", 0.98),
    Target("queue", STANDARD, 3.0),
    Target("queue of batches", STANDARD, 20.0),
    Target("shuffled queue", "FIFOQueue", 0.66),
    Target("queue of images", STANDARD, 10.0),
    Target("image records", "TensorFlow queues", 1.0),
    Target("tabular records", "TensorFlow queues", 1.0),
    Target("mixed records", "TensorFlow queues", 0.33),
    Target("csv", "TensorFlow queues", 0.5),
)
RATES = {("large records", OURS + ON_ONE_CORE): 1000.0}
FIRST_BATCH_MS = {"cold": 120.0, "parked": 5.0, "next epoch": 2.0}


@dataclasses.dataclass(frozen=True)
class Results:
    """All that was measured.

    Attributes:
        rates: Batches per second of each round, by (workload, feed or floor).
        first_batches: Milliseconds, by what came before.
        costs: What `consuming.consume` finds beside the rate, of each round, by (workload, feed) and name.
        wake_ups: Microseconds, by feed.
        memory: MB beyond mpqueue's ring, by workload.
        missing: Peers that were asked for and are not installed.
        failed: The last line of what a peer failed with, by (workload, peer).
        num_workers: With how many workers it was measured.
    """

    rates: dict[tuple[str, str], list[float]]
    first_batches: dict[str, list[float]]
    costs: dict[tuple[str, str], dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    wake_ups: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    memory: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    missing: tuple[str, ...] = ()
    failed: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    num_workers: int = 2

    def rows(self) -> Iterator[tuple[str, str, float, float]]:
        """Workload, name, median in the workload's unit, spread: half of the range, as a share of the median."""
        for (workload, name), rates in self.rates.items():
            median = statistics.median(rates)
            spread = (max(rates) - min(rates)) / 2 / median
            yield workload, name, median * KNOWN[workload].per_batch, spread

    def about(self, workload: str) -> Any:
        """What a workload is, and the unit of its rate."""
        return KNOWN[workload]

    def ratio(self, workload: str, against: str) -> float | None:
        """Median of mpqueue's rate divided by another's in the same round; None where either was not measured.

        What ran on one core is compared with mpqueue on one core.
        """
        ours = self.rates.get((workload, OURS + ON_ONE_CORE if against.endswith(ON_ONE_CORE) else OURS))
        theirs = self.rates.get((workload, against))
        if ours is None or theirs is None:
            return None
        return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))

    def as_text(self) -> str:
        """For a terminal."""
        lines, last = [machine()], None
        for workload, name, rate, spread in self.rows():
            if workload != last:
                lines += ["", f"{workload}: {KNOWN[workload].about}"]
                last = workload
            ratio = self.ratio(workload, name)
            beside = "" if ratio is None or name.startswith(OURS) else f"   mpqueue has {ratio:.2f} of it"
            lines.append(f"  {name:30}{_number(rate):>10} {KNOWN[workload].unit:10} +-{spread:4.0%}{beside}")
        return "\n".join([*lines, *costs.as_text(self), "", *self._wanted()])

    def as_markdown(self) -> str:
        """For a README."""
        lines = [machine(), "", "| workload | fed by | rate | spread | mpqueue has of it |", "|---|---|---|---|---|"]
        for workload, name, rate, spread in self.rows():
            ratio = self.ratio(workload, name)
            beside = "" if ratio is None or name.startswith(OURS) else f"{ratio:.2f}"
            told = f"{_number(rate)} {KNOWN[workload].unit}"
            lines.append(f"| {workload} | {name} | {told} | ±{spread:.0%} | {beside} |")
        return "\n".join([*lines, *costs.as_markdown(self), "", *(f"- {line}" for line in self._wanted())])

    def _wanted(self) -> Iterator[str]:
        """The figures that are to be reached, and whether they are."""
        for target in TARGETS:
            ratio = self.ratio(target.workload, target.against)
            wanted = f"{target.against}, at least {target.at_least:g} wanted"
            if ratio is not None:
                yield f"{target.workload}: {ratio:.2f} of {wanted}: {verdict(ratio >= target.at_least)}"
            elif target.against in self.missing and (target.workload, "mpqueue") in self.rates:
                yield f"{target.workload}: ? of {wanted}: (peer missing)"
        for workload, name, rate, _ in self.rows():
            if (workload, name) in RATES:
                told = f"{_number(rate)} {KNOWN[workload].unit}, at least {_number(RATES[workload, name])} wanted"
                yield f"{workload}, {name}: {told}: {verdict(rate >= RATES[workload, name])}"
        if any(workload in RECORDS for workload, _ in self.rates) and python_with_tensorflow() is None:
            yield "TensorFlow is not installed: not measured (MPQUEUE_PEERS_PYTHON may name an interpreter that has it)"
        yield from goals.lines(self)
        for name, times in self.first_batches.items():
            median, limit = statistics.median(times), FIRST_BATCH_MS.get(name)
            told = f"first batch, {name}: {median:.1f} ms ({min(times):.1f} to {max(times):.1f})"
            yield told if limit is None else f"{told}, at most {limit:g} wanted: {verdict(median <= limit)}"
        for name in self.missing:
            yield f"{name} is not installed: not measured (pip install mpqueue[peers])"
        for (workload, name), why in self.failed.items():
            yield f"{workload}: {name} failed: {why}"

    def as_json(self) -> str:
        """Everything, for a program."""
        rates = [
            {"workload": workload, "name": name, "unit": KNOWN[workload].unit, "rates": self.rates[workload, name]}
            | {"median": rate, "spread": spread}
            for workload, name, rate, spread in self.rows()
        ]
        beside = [{"workload": workload, "name": name} | found for (workload, name), found in self.costs.items()]
        document = {"machine": machine(), "workers": self.num_workers, "rates": rates, "costs": beside}
        document |= {"first_batch_ms": self.first_batches, "wake_up_us": self.wake_ups, "beyond_ring_mb": self.memory}
        document |= {"missing": self.missing, "failed": [[*key, why] for key, why in self.failed.items()]}
        return json.dumps(document | {"verdicts": list(self._wanted())}, indent=1)


def machine() -> str:
    """What it was measured on."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"mpqueue {mpqueue.__version__}, Python {sys.version.split()[0]}, NumPy {np.__version__}, "
        f"{platform.machine()} {platform.system()} with {psutil.cpu_count()} CPUs and {memory:.0f} GiB"
    )


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.2f}"
