"""Programs of other projects, written anew: what their authors measure, with mpqueue next to their loader.

A reader returns a function that does a pass, and returns its amount and seconds. The first pass is a warm-up.
"""

import dataclasses
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
        readers: The readers by name, with the packages that they require.
        per_batch: 1, because passes count in the unit.
    """

    about: str
    unit: str
    readers: dict[str, tuple[Callable[[int], Callable[[], tuple[float, float]]], str]]
    per_batch: float = 1

    @property
    def peers(self) -> tuple[str, ...]:
        """The names of the readers."""
        return tuple(self.readers)


GROUP = "programs"
PROGRAMS = {
    "program starts": Program("a start with 64 MiB of paths, to the first batch", "starts/s", program_starts.READERS),
    "program integers": Program("50,000 integers to a process and back", "integers/s", program_regions.READERS),
    "program lengths": Program("tokens in padded batches of sequences", "tokens/s", program_lengths.READERS),
    "program shards": Program("rows of 512 tokens in Parquet, streamed", "rows/s", program_shards.READERS),
}


def program_readers(name: str) -> list[str]:
    """Return the readers that can be measured."""
    return [reader for reader, (feed, package) in PROGRAMS[name].readers.items() if Library(feed, package).is_installed]


def absent_from_program(name: str) -> list[str]:
    """Return the readers that cannot be measured."""
    return [reader for reader in PROGRAMS[name].readers if reader not in program_readers(name)]


def program_rate(name: str, reader: str, num_workers: int, seconds: float) -> float:
    """Return the amount per second of passes that take ``seconds`` together, at least one."""
    feed: Any = PROGRAMS[name].readers[reader][0]
    once = feed(num_workers)
    once()
    amount, passed = once()
    while passed < seconds:
        more, longer = once()
        amount, passed = amount + more, passed + longer
    return amount / passed
