"""Orders come from random words by arithmetic that no version of NumPy changes."""

import hashlib

import numpy as np
import pytest

from mpqueue.dataset.mix import arithmetic
from mpqueue.seeding.global_rng import number_of
from mpqueue.seeding.seeds import raw_words, sequence_of
from mpqueue.seeding.words import mixed, shuffled, shuffled_range

WORD = (1 << 64) - 1


def sorted_by_words(words, numbers, largest):
    """The order in Python: by the high bits of the words, then by the numbers."""
    bits = largest.bit_length()
    return [number for _, number in sorted((word >> bits, number) for word, number in zip(words, numbers, strict=True))]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 9, 1000, 32_768, 32_769, 70_000])
def test_range_is_sorted_by_the_high_bits_of_the_words(length):
    words = raw_words(length, 5, 6)
    found = shuffled_range(words.copy())
    assert found.dtype == np.uint64
    assert found.tolist() == sorted_by_words(words.tolist(), range(length), max(0, length - 1))


def test_range_is_built_in_the_memory_of_the_words():
    words = raw_words(100, 1)
    assert shuffled_range(words) is words


def test_equal_words_keep_their_numbers_in_order():
    assert shuffled_range(np.zeros(9, np.uint64)).tolist() == [*range(9)]


def test_numbers_can_repeat_and_be_large():
    numbers = np.array([0, 0, 3, 3, 3, (1 << 40) + 1], np.uint64)
    words = raw_words(len(numbers), 7)
    found = shuffled(words.copy(), numbers, (1 << 40) + 1).tolist()
    assert found == sorted_by_words(words.tolist(), numbers.tolist(), (1 << 40) + 1)
    assert sorted(found) == numbers.tolist()


def test_words_are_hashed_as_by_python_integers():
    words = np.array([0, 1, 2, WORD, 1 << 63, 12345], np.uint64)
    expected = []
    for word in words.tolist():
        first = word * 0x9E3779B97F4A7C15 & WORD
        expected.append((first ^ first >> 32) * 0xD6E8FEB86659FD93 & WORD)
    assert mixed(words.copy()).tolist() == expected


@pytest.mark.parametrize(
    "key",
    [(0,), (1, 2, 3), (-1, -5), (WORD, 1 << 32, (1 << 32) - 1), (5, (1 << 130) + 1, -(1 << 63)), (np.int64(7), True)],
    ids=str,
)
def test_key_of_integers_is_the_entropy_that_numpy_makes_of_them(key):
    expected = np.random.SeedSequence([int(word) & WORD if word < 0 else int(word) for word in key])
    assert sequence_of(*key).generate_state(8).tolist() == expected.generate_state(8).tolist()


def test_words_are_those_of_the_bit_generator():
    assert raw_words(3, 1, 2, 3).tolist() == [12368030237656201616, 2047858591075935483, 9435677134316251571]


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_each_order_of_few_numbers_is_equally_frequent(length):
    size, counts = 4000, {}
    for seed in range(size):
        order = tuple(shuffled_range(raw_words(length, seed)).tolist())
        counts[order] = counts.get(order, 0) + 1
    expected = size / np.prod(range(1, length + 1))
    assert sum((count - expected) ** 2 for count in counts.values()) / expected < 1.6 * len(counts) + 6


def test_each_dataset_of_a_mix_is_equally_frequent_at_each_place():
    datasets, blocks = np.arange(16), 4000
    orders = np.array([arithmetic.shuffled(datasets, 5, 7, block) for block in range(blocks)])
    for neighbours in (orders[:, 0] * 16 + orders[:, 1], orders[:-1, 0] * 16 + orders[1:, 0]):
        counts = np.bincount(neighbours, minlength=256)
        counts = counts[counts > 0]
        assert ((counts - blocks / len(counts)) ** 2).sum() / (blocks / len(counts)) < 1.4 * len(counts)


def test_orders_of_a_mix_have_golden_values():
    blocks = [arithmetic.shuffled(np.arange(7).repeat(70), 5, block) for block in (0, 1, 1 << 40)]
    assert hashlib.sha256(np.concatenate(blocks).tobytes()).hexdigest()[:12] == "95b3d6caa841"


def test_seeds_of_global_generators_have_golden_values():
    """Python's hash of a tuple, which an earlier version used, may change with Python."""
    found = [number_of(*of) for of in [(1, 2, 3), (1, 2, -3), (0, 0, 0), (1 << 70, 1 << 66, WORD)]]
    assert found == [3700504204499866183, 9083191583398881737, 0, 5015254755120272341]
