"""Blocks of samples for a function that is called by a loop in C: ``out.extend(map(function, block.samples))``.

Setting the random numbers of each sample before the call takes 0.1 to 0.2 µs, as long as a small function itself, and
most functions draw none. So a block is started once, and `mpqueue.rng()` asks the block for the present sample. The
length hint of the sample iterator identifies that sample, without a cost for functions that do not draw.

Blocks are used only if no generator of the process must be seeded for each sample; see
`mpqueue.seeding.lazy_seeding`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpqueue.seeding import seeds
from mpqueue.seeding.seeds import BatchSeed

if TYPE_CHECKING:
    import numpy as np


class SampleBlock:
    """Samples with random numbers that follow from their positions.

    Args:
        seed: Seed, as for a single sample.
        epoch: Epoch, as for a single sample.
        samples: The samples, a non-empty list or range.
        positions: Position of each sample, or a token for `mpqueue.seeding.seeds.position_of`.

    Attributes:
        samples: An iterator over the samples. The last one taken from it is the present one.
    """

    __slots__ = ("_at", "_epoch", "_of", "_positions", "_rng", "_seed", "samples")

    def __init__(self, seed: int, epoch: int, samples: Sequence[Any], positions: Sequence[Any]) -> None:
        self._seed, self._epoch, self._positions = seed, epoch, positions
        self.samples: Any = iter(samples)
        self._at: int | None = None  # set when the block is closed
        self._of: tuple[int, BatchSeed | None] = -1, None
        self._rng: tuple[Any, np.random.Generator | None] = None, None

    def of(self) -> BatchSeed:
        """Return the seed, epoch and position of the present sample; one object while it is the present one."""
        at = self._position()
        known_at, of = self._of
        if of is None or known_at != at:
            of = BatchSeed(self._seed, self._epoch, seeds.position_of(self._positions[at]))
            self._of = at, of
        return of

    def rng(self) -> "np.random.Generator":
        """Return the generator of the present sample."""
        of = self.of()
        if self._rng[0] is not of:
            self._rng = of, seeds.generator(of)
        assert self._rng[1] is not None
        return self._rng[1]

    def _position(self) -> int:
        if self._at is not None:
            return self._at
        left: int = self.samples.__length_hint__()
        # The hint counts the samples that are left. Before the first one, the position is 0.
        return max(0, len(self._positions) - left - 1)

    def close(self) -> None:
        """Release the samples after the loop; the last one remains the present one."""
        self._at = self._position()
        self.samples = iter(())


BeginBlock = Callable[[int, int, Sequence[Any], Sequence[Any]], SampleBlock | None]


class CurrentSample:
    """The batch, or sample, that a worker process computes now.

    Attributes:
        of: Its seed, epoch and index, or its block; None before the first batch.
        rng: Its generator, after the first request; the samples of a block have generators there.
    """

    __slots__ = ("of", "rng")

    def __init__(self) -> None:
        self.of: tuple[int, int, int] | SampleBlock | None = None
        self.rng: np.random.Generator | None = None


def seed_of(of: tuple[int, int, int] | SampleBlock | None) -> tuple[int, int, int] | None:
    """Return the seed, epoch and index of the present batch or sample."""
    return of.of() if isinstance(of, SampleBlock) else of
