"""Orders and seeds come from random words by arithmetic that no version of NumPy changes, however they are requested."""

import hashlib
import random
import sys

import numpy as np
import pytest

from mpqueue.dataset.mix import arithmetic
from mpqueue.plan.options.options import fresh_seed
from mpqueue.seeding.global_rng import number_of
from mpqueue.seeding.permutation import SampleOrder, permuted
from mpqueue.seeding.seeds import (
    NEXT_ITEM,
    WORD,
    BatchSeed,
    generator,
    permutation,
    position_of,
    raw_words,
    sequence_of,
)
from mpqueue.seeding.words import mixed, shuffled, shuffled_range
from mpqueue.worker import sample_block


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


# -- The random numbers of a batch depend only on (seed, epoch, index), and are the same in every release


BATCHES = [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1), (1, 2, 0), (0, 0, 0), (1, 2, (1 << 64) - 2)]
# Numbers of the first release: if they change, every user's stream changes.
GENERATOR = [1035103844, 719914110, 936642878]
NEGATIVE = [241433852, 225240306, 640647148]
FRESH = 16254783457698612509


def test_batch_has_same_numbers_in_every_release():
    assert generator(BatchSeed(1, 2, 3)).integers(0, 1 << 30, 3).tolist() == GENERATOR
    assert generator(BatchSeed(1, 2, -3)).integers(0, 1 << 30, 3).tolist() == NEGATIVE


def test_numbers_differ_by_seed_epoch_and_index():
    made = {tuple(generator(BatchSeed(*of)).integers(0, 1 << 30, 4)) for of in BATCHES}
    assert len(made) == len(BATCHES)


def test_element_of_stream_has_same_place_in_every_release():
    assert position_of(7) == 7
    assert position_of((1, 5)) == 16418061039958964090
    assert position_of((0, (1, 7))) == 16244664514516359834
    assert position_of(((5, 0, 3), (6, 0, 4))) == 12624093466987901677
    assert position_of((3,)) != position_of((3, 0)) != position_of((3, 0, 0))
    assert position_of((4, 9)) == (position_of((4, 8)) + NEXT_ITEM) & WORD


def test_elements_of_stage_have_different_places():
    tokens = [(first, second) for first in range(300) for second in range(300)]
    nested = [(first, token) for first in range(3) for token in tokens[:500]]
    assert len({position_of(token) for token in [*tokens, *nested]}) == len({*tokens, *nested})


def test_shuffle_and_batches_have_different_numbers():
    order = np.arange(9, dtype=np.uint32)
    generator(BatchSeed(7, 0, 0)).shuffle(order)
    assert order.tolist() != permutation(7, 0, 9).tolist()


@pytest.mark.parametrize(("length", "dtype"), [(1 << 32, np.uint32), ((1 << 32) + 1, np.uint64)])
def test_order_uses_four_bytes_per_entry_if_possible(length, dtype, monkeypatch):
    monkeypatch.setattr("mpqueue.seeding.seeds.raw_words", lambda *_: np.zeros(1, np.uint64))
    assert permutation(1, 0, length).dtype == dtype


def test_fresh_seed_depends_on_state_of_random_and_keeps_it():
    random.seed(1)
    assert fresh_seed(4, 5) == FRESH
    assert fresh_seed(4, 5) == FRESH
    assert len({fresh_seed(*numbers) for numbers in [(4, 5), (5, 4), (4,), ()]}) == 4
    expected = random.Random(1).random()
    assert random.random() == expected
    assert fresh_seed(4, 5) != FRESH
    assert 0 <= max(fresh_seed(number) for number in range(20)).bit_length() == 64


def test_fresh_seed_does_not_import_random(monkeypatch):
    monkeypatch.delitem(sys.modules, "random")
    assert len({fresh_seed(4, 5) for _ in range(3)}) == 3
    assert "random" not in sys.modules


def test_no_seed_or_generator_before_first_batch():
    batch = sample_block.CurrentSample()
    assert batch.of is None
    assert batch.rng is None


# -- The order of samples alone


@pytest.mark.parametrize(
    ("length", "expected"),
    [(2, [1, 0]), (3, [1, 2, 0]), (4, [1, 2, 3, 0]), (5, [1, 3, 0, 2, 4]), (9, [3, 6, 1, 0, 8, 2, 7, 4, 5])],
)
def test_network_of_few_samples_is_unchanged(length, expected):
    """A loaded state must continue with the same samples."""
    assert permuted(1, 2, length, np.arange(length)).tolist() == expected


def test_orders_differ_by_epoch_seed_and_length():
    order = SampleOrder(3, shuffle=True)
    requested = [(0, 100), (1, 100), (1, 101), (0, 70_000), (1, 70_000), (1, 140_000), (0, 100)]
    found = [list(order.indices(epoch, length, 0, 50)) for epoch, length in requested]
    assert found == [list(SampleOrder(3, shuffle=True).indices(epoch, length, 0, 50)) for epoch, length in requested]
    assert len(set(map(tuple, found))) == 6
    assert SampleOrder(4, shuffle=True).indices(0, 100, 0, 50) != found[0]


@pytest.mark.parametrize("length", [10, 65_540])
def test_places_after_end_wrap_around(length):
    order = SampleOrder(3, shuffle=True)
    whole = list(order.indices(0, length, 0, length))
    assert list(order.indices(0, length, length - 3, 5)) == whole[-3:] + whole[:2]
    assert list(order.indices(0, length, length, 2)) == whole[:2]
    assert list(order.indices(0, length, 2 * length + 1, 2)) == whole[1:3]
    assert list(order.indices(0, length, length - 2, 2)) == whole[-2:]


@pytest.mark.parametrize("length", [1000, 70_000])
@pytest.mark.parametrize(("first", "step"), [(3, 16), (0, 1), (5, 7)])
def test_places_can_have_a_step(length, first, step):
    """With a step, places are computed by the block like consecutive places."""
    whole = SampleOrder(3, shuffle=True).indices(2, length, 0, length)
    order, positions = SampleOrder(3, shuffle=True), range(first, length, step)
    found = []
    for start in range(0, len(positions), 100):
        found += order.at(2, length, positions[start : start + 100])
    assert found == whole[first::step]


@pytest.mark.sample(4)
@pytest.mark.parametrize("length", [1000, 70_000, 140_000])
@pytest.mark.parametrize("count", [1, 5, 23, 24, 100])
def test_places_can_be_scattered(length, count):
    """One place at a time for a few, by NumPy for many; the numbers of bits are odd and even."""
    whole = SampleOrder(3, shuffle=True).indices(2, length, 0, length)
    positions = [(position * position * 997 + position) % length for position in range(1, count + 1)]
    assert SampleOrder(3, shuffle=True).at(2, length, positions) == [whole[position] for position in positions]


def test_unshuffled_indices_ascend_and_wrap_around():
    order = SampleOrder(3, shuffle=False)
    assert order.indices(0, 10, 4, 6) == range(4, 10)
    assert order.indices(0, 3, 2, 8) == [2, 0, 1, 2, 0, 1, 2, 0]
    assert order.indices(0, 3, 4, 2) == [1, 2]


@pytest.mark.parametrize("world", [1, 2, 100, 3_000])
@pytest.mark.parametrize(("size", "offset"), [(32, 0), (7, 3), (300, 0)])
def test_batches_of_rank_have_same_indices_as_without_ranks(world, size, offset):
    """Including the last, short batch, and batches requested in another order."""
    length, rank = 1_000_003, world // 2
    alone, ranked = SampleOrder(5, shuffle=True), SampleOrder(5, shuffle=True, world=world)
    firsts = list(range(offset + rank * size, length, world * size))
    firsts = [*firsts[:40], *firsts[-1:], *firsts[39::-1]]
    for epoch in (0, 1):
        for first in firsts:
            count = min(size, length - first)
            assert ranked.indices(epoch, length, first, count) == alone.indices(epoch, length, first, count)


@pytest.mark.parametrize("world", [1, 100, 10_000])
def test_rank_permutes_about_its_number_of_places(monkeypatch, world):
    """The work does not depend on the number of ranks: a block contains only batches of the requesting rank."""
    length, size, batches, computed = 10_000_000, 32, 30, []

    def counted(seed, epoch, length, positions):
        computed.append(len(positions))
        return permuted(seed, epoch, length, positions)

    monkeypatch.setattr("mpqueue.seeding.permutation.permuted", counted)
    order = SampleOrder(5, shuffle=True, world=world)
    for batch in range(batches):
        order.indices(0, length, (7 % world + batch * world) * size, size)
    assert len(computed) == 1 and computed[0] <= 4096
