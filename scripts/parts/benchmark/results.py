"""The results of all measurements."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from parts.benchmark.cells import OURS, median_cell, ratio, spread
from parts.benchmark.known import WORKLOADS
from parts.benchmark.measure import Measurement
from parts.benchmark.workload import RATE, Figures


class Row(NamedTuple):
    """A rate of a library.

    Attributes:
        workload: Name of the workload.
        name: Name of the library.
        rates: Batches per second of each round.
        unit: Unit of the median.
        median: The median as it is shown.
        spread: Half of the range divided by the median; None for one round.
    """

    workload: str
    name: str
    rates: list[float]
    unit: str
    median: float
    spread: float | None


@dataclasses.dataclass
class Results:
    """The results of all measurements.

    Attributes:
        num_workers: Number of workers.
        figures: The figures of all rounds, by workload and library.
        failed: The last line of an error, by workload and library.
        left_out: Measurements without time.
    """

    num_workers: int = 2
    figures: dict[tuple[str, str], Figures] = dataclasses.field(default_factory=dict)
    failed: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)

    def add(self, one: Measurement, figures: Figures) -> None:
        """Store the figures of a measurement."""
        found = self.figures.setdefault((one.workload, one.name), {})
        for figure, values in figures.items():
            found.setdefault(figure, []).extend(values)

    def add_failure(self, one: Measurement, error: RuntimeError) -> None:
        """Store the reason of a peer's failure, and discard its results of earlier rounds.

        Raises:
            RuntimeError: mpqueue failed, which is not allowed.
        """
        if one.name.startswith(OURS):
            raise error
        self.failed[one.workload, one.name] = _last_line(error)
        self.figures.pop((one.workload, one.name), None)

    def add_broken_round(self, number: int, error: RuntimeError) -> None:
        """Store the reason why a round, counted from 1, was not finished."""
        self.failed[f"round {number}", "the round"] = _last_line(error)

    def rows(self) -> Iterator[Row]:
        """Yield the rates of all workloads."""
        for (workload, name), found in self.figures.items():
            if RATE in found:
                known, rates = WORKLOADS[workload], found[RATE]
                yield Row(workload, name, rates, known.unit, median_cell(rates, known.per_batch), spread(rates))

    def ratio(self, workload: str, against: str) -> float | None:
        """Return mpqueue's rate divided by another rate, both as shown, or None if one is missing."""
        shown = {row.name: row.median for row in self.rows() if row.workload == workload}
        own, other = shown.get(OURS), shown.get(against)
        return None if own is None or other is None or against.startswith(OURS) else ratio(own, other)


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]
