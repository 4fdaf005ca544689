"""The results of all measurements."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from parts.benchmark.cells import OURS, compared_with, median_cell, ratio, spread
from parts.benchmark.known import WORKLOADS
from parts.benchmark.measure import Measurement
from parts.benchmark.workload import PER_CPU, RATE, Figures


class Row(NamedTuple):
    """A rate of a library.

    Attributes:
        workload: Name of the workload. Rates per second of CPU time belong to a separate workload.
        name: Name of the library.
        rates: Batches per second of each round.
        unit: Unit of the median.
        median: The median as it is shown.
    """

    workload: str
    name: str
    rates: list[float]
    unit: str
    median: float

    @property
    def spread(self) -> float | None:
        """Half of the range divided by the median; None for one round."""
        return spread(self.rates)


@dataclasses.dataclass
class Results:
    """The results of all measurements.

    Attributes:
        num_workers: Number of workers.
        figures: The figures of all rounds, by workload and library.
        failed: The last line of an error, by workload and library.
        left_out: Measurements without time.
        took_s: Seconds of each measurement.
    """

    num_workers: int = 2
    figures: dict[tuple[str, str], Figures] = dataclasses.field(default_factory=dict)
    failed: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)
    took_s: dict[str, float] = dataclasses.field(default_factory=dict)

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
        """Yield the rates of all workloads, and then those per second of CPU time."""
        for figure in (RATE, PER_CPU):
            for (workload, name), found in self.figures.items():
                if figure in found:
                    known, in_unit = WORKLOADS[workload], ("", "/s") if figure == RATE else (PER_CPU, "/CPU s")
                    median = median_cell(found[figure], known.per_batch)
                    yield Row(workload + in_unit[0], name, found[figure], known.unit.replace("/s", in_unit[1]), median)

    def ratio(self, workload: str, against: str) -> float | None:
        """Return mpqueue's rate divided by another rate, both as shown, or None if one is missing."""
        shown = {row.name: row.median for row in self.rows() if row.workload == workload}
        own, other = shown.get(compared_with(against)), shown.get(against)
        return None if own is None or other is None or against.startswith(OURS) else ratio(own, other)


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]
