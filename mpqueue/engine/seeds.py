"""Random numbers of a batch follow from (seed, epoch, index), and from nothing else. Pure.

So the stream is the same for 1 or 64 workers, after a worker's death, and after a resume. The generators that all code
of a process shares are seeded by `mpqueue.engine.global_generators`.

Types of `numpy.random` are named in quotes: NumPy loads that with the first use of one of its names, which takes longer
than all of this package, and a trainer that shuffles nothing needs none.
"""

from typing import Any, NamedTuple

import numpy as np

_ORDER = 0x6F72646572  # separates the numbers of a shuffle from those of the batches


class BatchSeed(NamedTuple):
    """The numbers from which the random numbers of one batch follow."""

    seed: int
    epoch: int
    unit: int


def generator(of: BatchSeed) -> "np.random.Generator":
    """Return the batch's own generator: the same numbers whenever and wherever it is made."""
    return np.random.Generator(np.random.PCG64(sequence_of(of)))


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
    import hashlib  # 3 ms
    import random

    digest = hashlib.blake2b(repr((random.getstate(), numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def sequence_of(of: BatchSeed) -> "np.random.SeedSequence":
    """The entropy of these numbers, for any generator of NumPy."""
    return sequence_of_words(*of)


def sequence_of_words(*words: int) -> "np.random.SeedSequence":
    """The entropy of any numbers, for any generator of NumPy."""
    # Entropy must not be negative, indices of user-made orders may be.
    return np.random.SeedSequence([number & 0xFFFFFFFFFFFFFFFF for number in words])
