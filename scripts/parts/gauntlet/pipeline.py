"""The pipeline of every trainer: a mix of two sets, decoded, filtered, shuffled in a buffer, in batches.

A sample is its number: so what was lost and what came twice can be counted. The numbers of the second set begin at
`SECOND`. Decoding takes a fixed time of one CPU: a resume that decodes again what was seen already pays for it.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

WEIGHTS = (0.7, 0.3)
SECOND = 10_000_000
ROW, LONGEST = 512, 200  # of packed rows, and of the sequences in them
LANES = 16  # of mpqueue; shards of Hugging Face's datasets
JOURNAL = "journal"  # of a server, in `Setup.folder`


@dataclasses.dataclass(frozen=True)
class Setup:
    """One rank's part of a run.

    Attributes:
        workers, rank, world: As each trainer has them.
        sizes: Samples of the two sets.
        cost_s: Seconds of CPU that decoding a sample takes.
        buffer, batch: Of the shuffle buffer, and samples (or rows) in a batch.
        is_packed: Samples are sequences, which are packed into rows.
        backend: Of mpqueue; "server": a server makes the batches of all ranks.
        threads: In so many a sample is decoded; of mpqueue.
        seed: Of what is random.
        folder: Where sets lie that a peer reads in its own format, and what a server leaves.
    """

    workers: int
    rank: int = 0
    world: int = 1
    sizes: tuple[int, int] = (14_000, 6_000)
    cost_s: float = 50e-6
    buffer: int = 1000
    batch: int = 32
    is_packed: bool = False
    backend: str = "process"
    threads: int = 1
    seed: int = 1
    folder: str = ""

    @property
    def ranges(self) -> tuple[range, range]:
        """The numbers of the samples of the two sets."""
        first, second = self.sizes
        return range(first), range(SECOND, SECOND + second)


class Running(NamedTuple):
    """A feed that runs.

    Attributes:
        batches: Gives each batch's samples, as a list of their numbers.
        state: Returns what a resume behind the last batch needs.
    """

    batches: Iterator[list[int]]
    state: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Decode:
    """Makes a sample of its number: the number itself, or a sequence that repeats it.

    Attributes:
        cost_s: Seconds of CPU that it takes.
        is_packed: It makes a sequence.
    """

    cost_s: float
    is_packed: bool = False

    def __call__(self, number: int) -> Any:
        """Decode."""
        until = time.perf_counter() + self.cost_s
        while time.perf_counter() < until:
            pass
        return np.full(length_of(number), number, np.int64) if self.is_packed else number


def keep(number: int) -> bool:
    """Return True for three quarters of the numbers."""
    return (int(number) * 2_654_435_761 >> 8) % 4 != 0


def keep_sequence(sequence: Any) -> bool:
    """Return `keep` of the number that a sequence repeats."""
    return keep(sequence[0])


def length_of(number: int) -> int:
    """Return how long the sequence of a number is."""
    return 1 + number * 7919 % LONGEST


def numbers_in(rows: Any, segments: Any) -> list[int]:
    """Return the numbers of the sequences in packed rows, in their order.

    Args:
        rows: Arrays of what the sequences repeat.
        segments: Of the same shape: which sequence of its row it is, 0 for padding.
    """
    found = []
    for row, of in zip(np.asarray(rows), np.asarray(segments), strict=True):
        starts = np.flatnonzero(np.diff(of, prepend=0))
        found += [int(row[start]) for start in starts if of[start]]
    return found


def of_rank(states: list[Any], setup: Setup) -> Any:
    """Return the state that a rank loads where a peer's documents know of one for each rank, and of no others."""
    return states[setup.rank] if setup.rank < len(states) else states[0]
