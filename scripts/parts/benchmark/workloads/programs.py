"""Programs of other projects, reimplemented: what their authors measure, with mpqueue next to their loader.

A reader is a context manager of a loader. A pass reads the loader once, in its own time, which includes the start of
workers. The first pass is a warm-up.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from parts.benchmark.workload import RATE, Figures, Setting, Workload
from parts.benchmark.workloads import program_lengths, program_starts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program(Workload):
    """A program.

    Attributes:
        amount: Function of a batch that returns its amount; None if a pass ends with the first batch, and counts 1.
    """

    amount: Callable[[Any], float] | None = len

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the amount per second of passes that take the time of counting together, at least one."""
        self.once(name, setting.num_workers)
        amount, passed = 0.0, 0.0
        while not amount or passed < setting.seconds:
            more, longer = self.once(name, setting.num_workers)
            amount, passed = amount + more, passed + longer
        return {RATE: [amount / passed]}

    def once(self, name: str, num_workers: int) -> tuple[float, float]:
        """Do a pass, and return its amount and seconds."""
        with self.readers[name].load()(num_workers) as loader:
            began = time.perf_counter()
            batches = iter(loader)
            if self.amount is None:
                next(batches)
                return 1, time.perf_counter() - began
            return sum(map(self.amount, batches)), time.perf_counter() - began


WORKLOADS = {
    "program starts": Program(
        "64 MiB of paths, to the first batch", "starts/s", readers=program_starts.READERS, amount=None
    ),
    "program lengths": Program(
        "tokens in padded batches of sequences",
        "tokens/s",
        readers=program_lengths.READERS,
        amount=program_lengths.tokens_of,
    ),
}
