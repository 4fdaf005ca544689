"""A workload: the measurement, its unit, and its libraries."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

from parts.benchmark.library import Library

RATE = "rate"
# By name. `RATE` has batches per second.
Figures = dict[str, list[float]]


class Setting(NamedTuple):
    """The setting of a measurement.

    Attributes:
        num_workers: Number of workers.
        seconds: Duration of counting.
    """

    num_workers: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Workload:
    """A measurement of several libraries.

    Attributes:
        about: Description of a batch for the report.
        unit: Unit of the rate, or of all figures without a rate.
        per_batch: Amount of the unit per batch.
        readers: The libraries by name, including libraries that are not installed.
        measure: Returns the figures of a library, measured in this process; None if a subclass does.
        is_usual: Whether a run measures it that names no workloads.
        extra_s: Seconds in addition to the time of counting, on an idle machine with two CPUs.
    """

    about: str
    unit: str = "batches/s"
    per_batch: float = 1
    readers: Mapping[str, Library] = dataclasses.field(default_factory=dict, kw_only=True)
    measure: Callable[[str, Setting], Figures] | None = dataclasses.field(default=None, kw_only=True)
    is_usual: bool = dataclasses.field(default=True, kw_only=True)
    extra_s: float = dataclasses.field(default=3.0, kw_only=True)

    def is_installed(self, name: str) -> bool:
        """Return whether a library can be measured."""
        return self.readers[name].is_installed

    def figures(self, name: str, setting: Setting) -> Figures:
        """Measure a library in this process, and return its figures."""
        assert self.measure is not None
        return self.measure(name, setting)
