"""The order of samples alone: fixed, and independent of how it is requested."""

import hashlib

import numpy as np
import pytest

from mpqueue.seeding import permutation
from mpqueue.seeding.permutation import SampleOrder, permuted
from mpqueue.seeding.seeds import raw_words
from mpqueue.seeding.words import shuffled_range


def digest(numbers):
    return hashlib.blake2b(np.asarray(numbers, "<i8").tobytes(), digest_size=6).hexdigest()


@pytest.mark.parametrize(
    ("length", "expected"),
    [(2, [1, 0]), (3, [1, 2, 0]), (4, [1, 2, 3, 0]), (5, [1, 3, 0, 2, 4]), (9, [3, 6, 1, 0, 8, 2, 7, 4, 5])],
)
def test_network_of_few_samples_is_unchanged(length, expected):
    """A loaded state must continue with the same samples."""
    assert permuted(1, 2, length, np.arange(length)).tolist() == expected


@pytest.mark.parametrize(
    ("length", "expected"), [(65_537, "b73beb755998"), (100_000, "47088b630d66"), (1 << 33, "716122a863c5")]
)
def test_network_of_many_samples_is_unchanged(length, expected):
    found = permuted(3, 1, length, np.arange(length - 1000, length))
    assert found.dtype == np.int64
    assert digest(found) == expected


def test_few_samples_are_shuffled_and_many_use_network():
    expected = shuffled_range(raw_words(65_536, 3, 1, 0x73616D706C6573, 65_536))
    assert SampleOrder(3, shuffle=True).indices(1, 65_536, 0, 65_536) == expected.tolist()
    expected = permuted(3, 1, 65_537, np.arange(65_537))
    assert SampleOrder(3, shuffle=True).indices(1, 65_537, 0, 65_537) == expected.tolist()


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
    compute = permutation.permuted

    def counted(seed, epoch, length, positions):
        computed.append(len(positions))
        return compute(seed, epoch, length, positions)

    monkeypatch.setattr(permutation, "permuted", counted)
    order = SampleOrder(5, shuffle=True, world=world)
    for batch in range(batches):
        order.indices(0, length, (7 % world + batch * world) * size, size)
    assert len(computed) == 1 and computed[0] <= 4096
