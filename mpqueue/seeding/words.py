"""Orders from random words, by arithmetic of this package.

NumPy keeps the words of its bit generators and of `SeedSequence` equal in all versions. What a method of
`numpy.random.Generator`, such as ``shuffle`` or ``integers``, makes of these words may change with any version. An
order that a saved state depends on is therefore computed here, from the words.
"""

from typing import Any, TypeAlias

import numpy as np

Words: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]


def _constant(word: int) -> Words:
    return np.array(word, np.uint64)  # an operation takes 0.2 µs less with an array than with a scalar


_LOW = [_constant((1 << bits) - 1) for bits in range(65)]
_HIGH = [_constant((1 << 64) - (1 << bits)) for bits in range(65)]
_FIRST, _SECOND, _HALF = map(_constant, (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 32))


def mixed(words: Words) -> Words:
    """Hash each word, in place, and return the array: the high bits are random, which `shuffled` uses."""
    words *= _FIRST
    words ^= words >> _HALF
    words *= _SECOND
    return words


def shuffled(words: Words, numbers: Any, largest: int) -> Words:
    """Return numbers in a random order, in the memory of the words.

    Each number replaces the low bits of a word, and the results are sorted. So the order does not depend on the
    algorithm that sorts. With a million numbers, a word keeps 44 random bits.

    Args:
        words: A random word for each number.
        numbers: The numbers, an array of unsigned integers.
        largest: A number that is not exceeded.
    """
    bits = largest.bit_length()
    words &= _HIGH[bits]
    words |= numbers
    words.sort()
    words &= _LOW[bits]
    return words


def shuffled_range(words: Words) -> Words:
    """Return the numbers below the number of words in a random order, in the memory of the words."""
    length = len(words)
    # Smaller numbers of many samples take less memory, and 40% less time. Of few samples, the conversion takes longer.
    numbers = np.arange(length, dtype=np.uint32 if 1 << 15 < length <= 1 << 32 else np.uint64)
    return shuffled(words, numbers, max(0, length - 1))
