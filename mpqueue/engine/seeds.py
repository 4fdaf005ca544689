"""Random numbers of a batch follow from (seed, epoch, index), and from nothing else. Pure.

So the stream is the same for 1 or 64 workers, after a worker's death, and after a resume.
"""

import hashlib
import random
from typing import Any, NamedTuple

import numpy as np

from mpqueue.engine import twisters

_ORDER = 0x6F72646572  # separates the numbers of a shuffle from those of the batches


class BatchSeed(NamedTuple):
    """The numbers from which the random numbers of one batch follow."""

    seed: int
    epoch: int
    unit: int


class CurrentBatch:
    """The batch, or sample, that a worker process computes now.

    Attributes:
        of: Its seed, epoch and unit; None before the first one.
        rng: Its own generator, once it was asked for.
    """

    __slots__ = ("of", "rng")

    def __init__(self) -> None:
        self.of: tuple[int, int, int] | None = None
        self.rng: np.random.Generator | None = None


def generator(of: BatchSeed) -> np.random.Generator:
    """Return the batch's own generator: the same numbers whenever and wherever it is made."""
    return np.random.Generator(np.random.PCG64(sequence_of(of)))


def seed_globals(seed: int, epoch: int, unit: int) -> None:
    """Seed `random` and NumPy's global generator for one batch."""
    # The hash of a tuple of ints is defined by CPython's xxHash variant and not salted.
    mixed = hash((seed, epoch, unit)) & 0xFFFFFFFF
    if not twisters.seed_both(mixed):
        _seed_slowly(mixed)


def _seed_slowly(mixed: int) -> None:
    """Give both generators the same numbers as `twisters.seed_both`, where they are not the usual ones."""
    words = np.random.RandomState(mixed).get_state()[1][::-1].tolist()  # type: ignore[index]
    random.setstate((3, (*words, twisters.NUM_WORDS), None))
    np.random.seed(mixed)  # noqa: NPY002 - whatever bit generator the user has put there


class GlobalState:
    """The state of the global generators, to be put back after a batch was computed in the trainer."""

    def __init__(self) -> None:
        self._python: Any = random.getstate()
        self._numpy: Any = np.random.get_state()  # noqa: NPY002

    def restore(self) -> None:
        """Put both generators back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002


def permutation(seed: int, epoch: int, length: int) -> np.ndarray[Any, Any]:
    """The order of a shuffled epoch: uint32 below 2**32 entries, so 4 bytes each."""
    order = np.arange(length, dtype=np.uint32 if length <= 1 << 32 else np.uint64)
    np.random.Generator(np.random.PCG64(sequence_of(BatchSeed(seed, epoch, _ORDER)))).shuffle(order)
    return order


def fresh_seed(*numbers: int) -> int:
    """A seed for whoever gave none: from the state of Python's `random` (not drawn from) and ``numbers``.

    So `random.seed(...)` or `keras.utils.set_random_seed(...)` makes a run reproducible, and the trainer's own numbers
    stay what they were.
    """
    digest = hashlib.blake2b(repr((random.getstate(), numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def sequence_of(of: BatchSeed) -> np.random.SeedSequence:
    """The entropy of these numbers, for any generator of NumPy."""
    return sequence_of_words(*of)


def sequence_of_words(*words: int) -> np.random.SeedSequence:
    """The entropy of any numbers, for any generator of NumPy."""
    # Entropy must not be negative, indices of user-made orders may be.
    return np.random.SeedSequence([number & 0xFFFFFFFFFFFFFFFF for number in words])
