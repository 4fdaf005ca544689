"""Programs of other projects, written anew: what their authors measure, with mpqueue next to their loader.

A reader is a context manager of a loader. A pass reads the loader once, in its own time, which includes the start of
workers. The first pass is a warm-up.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from parts.benchmark import program_lengths, program_regions, program_shards, program_starts
from parts.benchmark.peers import Library


@dataclasses.dataclass(frozen=True)
class Program:
    """A program.

    Attributes:
        about: Description for the report.
        unit: Unit of the rate.
        readers: The readers by name.
        amount: Function of a batch that returns its amount; None if a pass ends with the first batch, and counts 1.
        per_batch: 1, because rates are not counted in batches.
    """

    about: str
    unit: str
    readers: dict[str, Library]
    amount: Callable[[Any], float] | None = len
    per_batch: float = 1

    def once(self, reader: str, num_workers: int) -> tuple[float, float]:
        """Do a pass, and return its amount and seconds."""
        with self.readers[reader].feed(num_workers) as loader:
            began = time.perf_counter()
            batches = iter(loader)
            if self.amount is None:
                next(batches)
                return 1, time.perf_counter() - began
            return sum(map(self.amount, batches)), time.perf_counter() - began


GROUP = "programs"
PROGRAMS = {
    "program starts": Program("64 MiB of paths, to the first batch", "starts/s", program_starts.READERS, None),
    "program integers": Program("50,000 integers to a process and back", "integers/s", program_regions.READERS),
    "program lengths": Program(
        "tokens in padded batches of sequences", "tokens/s", program_lengths.READERS, program_lengths.tokens_of
    ),
    "program shards": Program("rows of 512 tokens in Parquet, streamed", "rows/s", program_shards.READERS),
}


def program_readers(name: str) -> list[str]:
    """Return the readers that can be measured."""
    return [reader for reader, each in PROGRAMS[name].readers.items() if each.is_installed]


def absent_from_program(name: str) -> list[str]:
    """Return the readers that cannot be measured."""
    return [reader for reader in PROGRAMS[name].readers if reader not in program_readers(name)]


def program_rate(name: str, reader: str, num_workers: int, seconds: float) -> float:
    """Return the amount per second of passes that take ``seconds`` together, at least one."""
    program = PROGRAMS[name]
    program.once(reader, num_workers)
    amount, passed = program.once(reader, num_workers)
    while passed < seconds:
        more, longer = program.once(reader, num_workers)
        amount, passed = amount + more, passed + longer
    return amount / passed
