"""Blocks of samples that a function is called with by a loop in C: ``out.extend(map(function, block.samples))``.

To set the random numbers of each sample before the function is called takes 0.1 to 0.2 µs, as long as a small function
itself. Most functions draw nothing. So a block is begun once, and `mpqueue.rng()` asks the block for the sample that is
being computed. The iterator of the samples knows it by its length hint, at no cost for functions that do not ask.

Blocks are used only while no generator of the process must be seeded for each sample; see
`mpqueue.seeding.lazy_seeding`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpqueue.seeding import seeds
from mpqueue.seeding.seeds import BatchSeed

if TYPE_CHECKING:
    import numpy as np


class SampleBlock:
    """Samples whose random numbers follow from their places.

    Args:
        seed: As for a single sample,
        epoch: likewise.
        samples: They, a list or a range. There is one at least.
        places: Of each; or a token, which `mpqueue.seeding.seeds.place_of` makes its place of.

    Attributes:
        samples: They, as an iterator. The last one that was taken from it is at work.
    """

    __slots__ = ("_at", "_epoch", "_of", "_places", "_rng", "_seed", "samples")

    def __init__(self, seed: int, epoch: int, samples: Sequence[Any], places: Sequence[Any]) -> None:
        self._seed, self._epoch, self._places = seed, epoch, places
        self.samples: Any = iter(samples)
        self._at: int | None = None  # once it is closed
        self._of: tuple[int, BatchSeed | None] = -1, None
        self._rng: tuple[Any, np.random.Generator | None] = None, None

    def of(self) -> BatchSeed:
        """Return the seed, epoch and place of the sample at work: the same object for as long as it is at work."""
        at = self._found_at()
        number, of = self._of
        if of is None or number != at:
            of = BatchSeed(self._seed, self._epoch, seeds.place_of(self._places[at]))
            self._of = at, of
        return of

    def rng(self) -> "np.random.Generator":
        """Return the generator of the sample at work."""
        of = self.of()
        if self._rng[0] is not of:
            self._rng = of, seeds.generator(of)
        assert self._rng[1] is not None
        return self._rng[1]

    def _found_at(self) -> int:
        if self._at is not None:
            return self._at
        left: int = self.samples.__length_hint__()
        return max(0, len(self._places) - left - 1)

    def close(self) -> None:
        """Release the samples after the loop; the last one stays the current one."""
        self._at = self._found_at()
        self.samples = iter(())


BeginBlock = Callable[[int, int, Sequence[Any], Sequence[Any]], SampleBlock | None]


class CurrentSample:
    """The batch, or sample, that a worker process computes now.

    Attributes:
        of: Its seed, epoch and unit, or the block that it is in; None before the first one.
        rng: Its own generator, once it was asked for; that of a block's sample is the block's.
    """

    __slots__ = ("of", "rng")

    def __init__(self) -> None:
        self.of: tuple[int, int, int] | SampleBlock | None = None
        self.rng: np.random.Generator | None = None


def seed_of(of: tuple[int, int, int] | SampleBlock | None) -> tuple[int, int, int] | None:
    """Return the seed, epoch and unit of what is at work."""
    return of.of() if isinstance(of, SampleBlock) else of
