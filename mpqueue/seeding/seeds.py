"""Random numbers of a batch follow from (seed, epoch, index), and from nothing else. Pure.

So the stream is the same for 1 or 64 workers, after a worker's death, and after a resume. The generators that all code
of a process shares are seeded by `mpqueue.seeding.global_rng`.

Types of `numpy.random` are named in quotes: NumPy loads that with the first use of one of its names, which takes longer
than all of this package, and a trainer that shuffles nothing needs none.
"""

from typing import Any, NamedTuple

import numpy as np

_PART = 0x9E3779B97F4A7C15
_FIRST, NEXT_ITEM, WORD = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xFFFFFFFFFFFFFFFF
_MOST_ORDERED = 1 << 48  # no machine addresses more bytes
_ORDER = 0x6F72646572  # separates the numbers of a shuffle from those of the batches


class BatchSeed(NamedTuple):
    """The numbers from which the random numbers of one batch follow."""

    seed: int
    epoch: int
    unit: int


def generator(of: BatchSeed) -> "np.random.Generator":
    """Return the batch's own generator: the same numbers whenever and wherever it is made."""
    return np.random.Generator(np.random.PCG64(sequence_of(*of)))


def place_of(token: Any) -> int:
    """Return the place from which the random numbers of an element of a stream follow.

    That of an int is the int itself. That of a tuple follows from its first two parts, which tell any two elements of a
    stage apart: no element is in two batches, rows or pairs of one lane and pass. It is no `hash`: that of a tuple may
    be another one in the next version of Python, and a stream that is resumed there would draw other numbers. It need
    not look random, since whoever seeds a generator with it mixes it: that of (token, item + 1) lies `NEXT_ITEM` behind
    that of (token, item), modulo 2**64.

    Args:
        token: An int, or a tuple of tokens.
    """
    return token if type(token) is int else _place_of(token, 0)


# Places of tuples that lie deep in others. A pipeline of 5,000 stages may have tokens as deep, and each stage asks for
# the place of a tuple that holds the one of the stage before.
_DEEP, _MOST_KEPT = 32, 10_000
_kept: dict[int, tuple[Any, int]] = {}  # by the `id` of the tuple, which is held so that its id stays its own


def _place_of(token: Any, depth: int) -> int:
    if depth > _DEEP:
        kept = _kept.get(id(token))
        if kept is not None and kept[0] is token:
            return kept[1]
    first, second = token if len(token) == 2 else (token[0], token[1] if len(token) > 2 else 0)
    if type(first) is not int:
        first = _place_of(first, depth + 1)
    if type(second) is not int:
        second = _place_of(second, depth + 1)
    place: int = (first * _FIRST + second * NEXT_ITEM + len(token) * _PART) & WORD
    if depth > _DEEP:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[id(token)] = token, place
    return place


def permutation(seed: int, epoch: int, length: int) -> np.ndarray[Any, Any]:
    """The order of a shuffled epoch: uint32 below 2**32 entries, so 4 bytes each.

    Raises:
        ValueError: No memory can be addressed for so many.
    """
    # NumPy gives an empty array for `sys.maxsize`, the length that some give what has no end: it counts in floats.
    if length > _MOST_ORDERED:
        raise ValueError(
            f"shuffle=True keeps the order of an epoch, 8 bytes a batch, and the source has {length:,} batches: leave "
            "it out, and draw in __getitem__ (mpqueue.rng()); or give samples and batch_size: that order takes none"
        )
    order = np.arange(length, dtype=np.uint32 if length <= 1 << 32 else np.uint64)
    np.random.Generator(np.random.PCG64(sequence_of(seed, epoch, _ORDER))).shuffle(order)
    return order


def sequence_of(*words: int) -> "np.random.SeedSequence":
    """The entropy of these numbers, for any generator of NumPy."""
    # Entropy must not be negative, indices of user-made orders may be.
    return np.random.SeedSequence([number & WORD for number in words])
