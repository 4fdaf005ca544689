"""Medians, spreads and ratios, as text, Markdown or JSON; and the figures that mpqueue is to reach."""

import dataclasses
import json
import platform
import statistics
import sys
from collections.abc import Iterator

import numpy as np
import psutil

import mpqueue
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
    Target("image in place", "memcpy", 0.8),
    Target("decode", "processes", 0.95),
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
FIRST_BATCH_MS = {"cold": 150.0, "parked": 10.0, "next epoch": 5.0}


@dataclasses.dataclass(frozen=True)
class Results:
    """All that was measured.

    Attributes:
        rates: Batches per second of each round, by (workload, feed or floor).
        first_batches: Milliseconds, by what came before.
    """

    rates: dict[tuple[str, str], list[float]]
    first_batches: dict[str, list[float]]

    def rows(self) -> Iterator[tuple[str, str, float, float]]:
        """Workload, name, median in the workload's unit, spread: half of the range, as a share of the median."""
        for (workload, name), rates in self.rates.items():
            median = statistics.median(rates)
            spread = (max(rates) - min(rates)) / 2 / median
            yield workload, name, median * KNOWN[workload].per_batch, spread

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
        return "\n".join([*lines, "", *self._wanted()])

    def as_markdown(self) -> str:
        """For a README."""
        lines = [machine(), "", "| workload | fed by | rate | spread | mpqueue has of it |", "|---|---|---|---|---|"]
        for workload, name, rate, spread in self.rows():
            ratio = self.ratio(workload, name)
            beside = "" if ratio is None or name.startswith(OURS) else f"{ratio:.2f}"
            told = f"{_number(rate)} {KNOWN[workload].unit}"
            lines.append(f"| {workload} | {name} | {told} | ±{spread:.0%} | {beside} |")
        return "\n".join([*lines, "", *(f"- {line}" for line in self._wanted())])

    def _wanted(self) -> Iterator[str]:
        """The figures that are to be reached, and whether they are."""
        for target in TARGETS:
            ratio = self.ratio(target.workload, target.against)
            if ratio is not None:
                missed = "" if ratio >= target.at_least else ": MISSED"
                yield f"{target.workload}: {ratio:.2f} of {target.against}, at least {target.at_least:g} wanted{missed}"
        for workload, name, rate, _ in self.rows():
            if (workload, name) in RATES:
                told = f"{_number(rate)} {KNOWN[workload].unit}, at least {_number(RATES[workload, name])} wanted"
                yield f"{workload}, {name}: {told}{': MISSED' if rate < RATES[workload, name] else ''}"
        if any(workload in RECORDS for workload, _ in self.rates) and python_with_tensorflow() is None:
            yield "TensorFlow is not installed: not measured (MPQUEUE_PEERS_PYTHON may name an interpreter that has it)"
        for name, times in self.first_batches.items():
            median, limit = statistics.median(times), FIRST_BATCH_MS[name]
            missed = "" if median <= limit else ": MISSED"
            spread = f"{min(times):.1f} to {max(times):.1f}"
            yield f"first batch, {name}: {median:.1f} ms ({spread}), at most {limit:g} wanted{missed}"

    def as_json(self) -> str:
        """Everything, for a program."""
        rates = [
            {"workload": workload, "name": name, "unit": KNOWN[workload].unit, "rates": self.rates[workload, name]}
            | {"median": rate, "spread": spread}
            for workload, name, rate, spread in self.rows()
        ]
        return json.dumps({"machine": machine(), "rates": rates, "first_batch_ms": self.first_batches}, indent=1)


def machine() -> str:
    """What it was measured on."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"mpqueue {mpqueue.__version__}, Python {sys.version.split()[0]}, NumPy {np.__version__}, "
        f"{platform.machine()} {platform.system()} with {psutil.cpu_count()} CPUs and {memory:.0f} GiB"
    )


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.2f}"
