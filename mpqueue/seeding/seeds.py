"""Seeds of batches: the random numbers of a batch depend only on (seed, epoch, index).

So the stream is the same for 1 or 64 workers, after a worker crash, and after a resume. `mpqueue.seeding.global_rng`
seeds the generators that all code of a process shares.

Types of `numpy.random` are quoted: NumPy imports that module at the first use of one of its names. The import takes
longer than importing this package, and a trainer that does not shuffle never needs it.
"""

from typing import Any, NamedTuple

import numpy as np

_PART = 0x9E3779B97F4A7C15
_FIRST, NEXT_ITEM, WORD = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xFFFFFFFFFFFFFFFF
_MOST_ORDERED = 1 << 48  # no machine can address more bytes
_ORDER = 0x6F72646572  # separates the numbers of a shuffle from the batches' numbers


class BatchSeed(NamedTuple):
    """The numbers that the random numbers of one batch are derived from."""

    seed: int
    epoch: int
    source_index: int


def generator(of: BatchSeed) -> "np.random.Generator":
    """Return the batch's own generator, which always yields the same numbers."""
    return np.random.Generator(np.random.PCG64(sequence_of(*of)))


def position_of(token: Any) -> int:
    """Return the position that the random numbers of an element of a stream are derived from.

    An int is its own position. A tuple's position is derived from its first two parts, which are unique in a stage: no
    element is in two batches, rows or pairs of one lane and epoch.

    Consecutive items of a token have positions that differ by `NEXT_ITEM`, modulo 2**64. Positions need not look
    random, because generators mix their seeds.

    Args:
        token: An int, or a tuple of tokens.
    """
    # Not `hash`: the hash of a tuple may change in a later version of Python, where a resumed stream would then draw
    # different numbers.
    return token if type(token) is int else _position_of(token, 0)


# Positions of deeply nested tuples. The tokens of a pipeline of 5,000 stages may be nested 5,000 levels deep, and each
# stage computes a position from a tuple that contains the previous stage's token.
_DEEP, _MOST_KEPT = 32, 10_000
_kept: dict[int, tuple[Any, int]] = {}  # by the `id` of the tuple, which is kept so that the id is not reused


def _position_of(token: Any, depth: int) -> int:
    if depth > _DEEP:
        kept = _kept.get(id(token))
        if kept is not None and kept[0] is token:
            return kept[1]
    first, second = token if len(token) == 2 else (token[0], token[1] if len(token) > 2 else 0)
    if type(first) is not int:
        first = _position_of(first, depth + 1)
    if type(second) is not int:
        second = _position_of(second, depth + 1)
    position: int = (first * _FIRST + second * NEXT_ITEM + len(token) * _PART) & WORD
    if depth > _DEEP:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[id(token)] = token, position
    return position


def permutation(seed: int, epoch: int, length: int) -> np.ndarray[Any, Any]:
    """Return the order of a shuffled epoch: uint32 below 2**32 entries, so 4 bytes each.

    Raises:
        ValueError: The order does not fit into memory.
    """
    # Some endless sources have the length `sys.maxsize`, where NumPy returns an empty array: it computes in floats.
    if length > _MOST_ORDERED:
        raise ValueError(
            f"shuffle=True keeps the order of an epoch in memory, 8 bytes per batch, but the source has {length:,} "
            "batches: remove it, and draw random items in __getitem__ (mpqueue.rng()). Or pass samples and batch_size: "
            "their order takes no memory"
        )
    order = np.arange(length, dtype=np.uint32 if length <= 1 << 32 else np.uint64)
    np.random.Generator(np.random.PCG64(sequence_of(seed, epoch, _ORDER))).shuffle(order)
    return order


def sequence_of(*words: int) -> "np.random.SeedSequence":
    """Return the entropy of these numbers, for any generator of NumPy."""
    # Entropy must not be negative, indices of user-made orders may be. A larger number keeps its words: the epoch
    # of a pass over endless passes has the epoch of the run in its third word.
    return np.random.SeedSequence([number & WORD if number < 0 else number for number in words])
