"""The pipeline of every trainer: a mix of two sets, decoded, filtered, shuffled in a buffer, and batched.

A sample is its number, so lost and repeated samples can be counted. The numbers of the second set start at `SECOND`.
Decoding takes a fixed CPU time, so a resume that decodes samples again takes longer.
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


@dataclasses.dataclass(frozen=True)
class Setup:
    """One rank's part of a run.

    Attributes:
        workers, rank, world: The trainer's numbers.
        sizes: Numbers of samples of the two sets.
        cost_s: CPU time in seconds for decoding a sample.
        buffer, batch: Size of the shuffle buffer, and number of samples (or rows) per batch.
        is_packed: Whether samples are sequences that are packed into rows.
        seed: Seed of all random choices.
        folder: Folder of the sets in a peer's own format.
    """

    workers: int
    rank: int = 0
    world: int = 1
    sizes: tuple[int, int] = (14_000, 6_000)
    cost_s: float = 50e-6
    buffer: int = 1000
    batch: int = 32
    is_packed: bool = False
    seed: int = 1
    folder: str = ""

    @property
    def ranges(self) -> tuple[range, range]:
        """The numbers of the samples of the two sets."""
        first, second = self.sizes
        return range(first), range(SECOND, SECOND + second)


class Running(NamedTuple):
    """A running feed.

    Attributes:
        batches: Yields the samples of each batch as a list of their numbers.
        state: Returns the state for a resume after the last batch.
    """

    batches: Iterator[list[int]]
    state: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Decode:
    """A decoder that converts a number to a sample: the number itself, or a sequence that repeats it.

    Attributes:
        cost_s: CPU time in seconds.
        is_packed: Whether the sample is a sequence.
    """

    cost_s: float
    is_packed: bool = False

    def __call__(self, number: int) -> Any:
        """Decode a sample."""
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
    """Return the length of the sequence of a number."""
    return 1 + number * 7919 % LONGEST


def numbers_in(rows: Any, segments: Any) -> list[int]:
    """Return the numbers of the sequences in packed rows, in order.

    Args:
        rows: Arrays of the repeated numbers.
        segments: Arrays of the same shape with the index of the sequence in its row, 0 for padding.
    """
    found = []
    for row, of in zip(np.asarray(rows), np.asarray(segments), strict=True):
        starts = np.flatnonzero(np.diff(of, prepend=0))
        found += [int(row[start]) for start in starts if of[start]]
    return found


def of_rank(states: list[Any], setup: Setup) -> Any:
    """Return the state for a rank, if a peer's documentation only describes one state per rank."""
    return states[setup.rank] if setup.rank < len(states) else states[0]
