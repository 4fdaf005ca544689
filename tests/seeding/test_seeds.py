"""The random numbers of a batch depend only on (seed, epoch, index), and are the same in every release."""

import random
import sys

import numpy as np
import pytest

from mpqueue.plan.options.options import fresh_seed
from mpqueue.seeding.seeds import NEXT_ITEM, WORD, BatchSeed, generator, permutation, position_of
from mpqueue.worker import sample_block

BATCHES = [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1), (1, 2, 0), (0, 0, 0), (1, 2, (1 << 64) - 2)]
# Numbers of the first release: if they change, every user's stream changes.
GENERATOR = [1035103844, 719914110, 936642878]
NEGATIVE = [241433852, 225240306, 640647148]
ORDER = [1, 7, 8, 2, 3, 4, 5, 0, 6]
NEXT_ORDER = [3, 1, 5, 8, 0, 6, 4, 7, 2]
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


def test_shuffled_epoch_is_the_same_in_every_release():
    order = permutation(7, 0, 9)
    assert order.tolist() == ORDER
    assert order.dtype == np.uint32
    assert permutation(7, 1, 9).tolist() == NEXT_ORDER
    assert permutation(7, 0, 0).tolist() == []


def test_shuffle_and_batches_have_different_numbers():
    order = np.arange(9, dtype=np.uint32)
    generator(BatchSeed(7, 0, 0)).shuffle(order)
    assert order.tolist() != permutation(7, 0, 9).tolist()


@pytest.mark.parametrize(("length", "dtype"), [(1 << 32, np.uint32), ((1 << 32) + 1, np.uint64)])
def test_order_uses_four_bytes_per_entry_if_possible(length, dtype, monkeypatch):
    monkeypatch.setattr(np, "arange", lambda length, dtype: np.full(1, length - 1, dtype))
    order = permutation(1, 0, length)
    assert order.dtype == dtype
    assert order[0] == length - 1


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
