"""Random numbers of a batch follow from (seed, epoch, index) alone: the same ones in every release."""

import random
import sys
import types

import numpy as np
import pytest

from mpqueue.plan.options import fresh_seed
from mpqueue.seeding import global_generators, twisters
from mpqueue.seeding.global_generators import GlobalState, seed_globals
from mpqueue.seeding.seeds import NEXT_ITEM, WORD, BatchSeed, generator, permutation, place_of
from mpqueue.worker import sample_block

BATCHES = [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1), (1, 2, 0), (0, 0, 0), (1, 2, (1 << 64) - 2)]
# What the first release drew: a change of these numbers is a change of everybody's streams.
GENERATOR = [1035103844, 719914110, 936642878]
NEGATIVE = [241433852, 225240306, 640647148]
ORDER = [1, 7, 8, 2, 3, 4, 5, 0, 6]
NEXT_ORDER = [3, 1, 5, 8, 0, 6, 4, 7, 2]
GLOBALS = [33505518, 730522899, 453640942, 649870304]
NEGATIVE_GLOBALS = [631592000, 474297690, 907567058, 863627571]
FRESH = 16254783457698612509


@pytest.fixture(autouse=True)
def _keeps_the_global_generators():
    python, numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)


def drawn():
    """The next numbers of both global generators."""
    return [random.getrandbits(30), random.getrandbits(30), *np.random.randint(0, 1 << 30, 2).tolist()]


def test_a_batch_has_the_same_numbers_in_every_release():
    assert generator(BatchSeed(1, 2, 3)).integers(0, 1 << 30, 3).tolist() == GENERATOR
    assert generator(BatchSeed(1, 2, -3)).integers(0, 1 << 30, 3).tolist() == NEGATIVE


def test_each_of_seed_epoch_and_index_changes_the_numbers():
    made = {tuple(generator(BatchSeed(*of)).integers(0, 1 << 30, 4)) for of in BATCHES}
    assert len(made) == len(BATCHES)
    found = set()
    for of in BATCHES:
        seed_globals(*of)
        found.add(tuple(drawn()))
    assert len(found) == len(BATCHES)


def test_an_element_of_a_stream_has_the_same_place_in_every_release():
    assert place_of(7) == 7
    assert place_of((1, 5)) == 16418061039958964090
    assert place_of((0, (1, 7))) == 16244664514516359834
    assert place_of(((5, 0, 3), (6, 0, 4))) == 12624093466987901677
    assert place_of((3,)) != place_of((3, 0)) != place_of((3, 0, 0))
    assert place_of((4, 9)) == (place_of((4, 8)) + NEXT_ITEM) & WORD


def test_elements_of_a_stage_have_places_of_their_own():
    tokens = [(first, second) for first in range(300) for second in range(300)]
    nested = [(first, token) for first in range(3) for token in tokens[:500]]
    assert len({place_of(token) for token in [*tokens, *nested]}) == len({*tokens, *nested})


def test_a_shuffled_epoch_is_the_same_in_every_release():
    order = permutation(7, 0, 9)
    assert order.tolist() == ORDER
    assert order.dtype == np.uint32
    assert permutation(7, 1, 9).tolist() == NEXT_ORDER
    assert permutation(7, 0, 0).tolist() == []


def test_a_shuffle_has_other_numbers_than_the_batch_of_any_index():
    order = np.arange(9, dtype=np.uint32)
    generator(BatchSeed(7, 0, 0)).shuffle(order)
    assert order.tolist() != permutation(7, 0, 9).tolist()


@pytest.mark.parametrize(("length", "dtype"), [(1 << 32, np.uint32), ((1 << 32) + 1, np.uint64)])
def test_an_order_has_four_bytes_for_an_entry_while_they_suffice(length, dtype, monkeypatch):
    monkeypatch.setattr(np, "arange", lambda length, dtype: np.full(1, length - 1, dtype))
    order = permutation(1, 0, length)
    assert order.dtype == dtype
    assert order[0] == length - 1


def test_the_global_generators_have_the_same_numbers_in_every_release():
    seed_globals(1, 2, 3)
    assert drawn() == GLOBALS
    seed_globals(-1, 0, 0)
    assert drawn() == NEGATIVE_GLOBALS


def test_seeding_forgets_half_a_pair_of_normal_numbers():
    seed_globals(1, 2, 3)
    expected = random.gauss(0, 1), np.random.normal()
    seed_globals(1, 2, 3)
    assert (random.gauss(0, 1), np.random.normal()) == expected


@pytest.mark.parametrize("lacking", ["python_state", "_python_words"])
def test_where_a_state_cannot_be_written_the_numbers_are_the_same(lacking, monkeypatch):
    monkeypatch.setattr(twisters, lacking, None)
    random.gauss(0, 1)
    seed_globals(1, 2, 3)
    assert drawn() == GLOBALS
    seed_globals(1, 2, 3)
    expected = random.gauss(0, 1)
    seed_globals(1, 2, 3)
    assert random.gauss(0, 1) == expected


def test_a_bit_generator_of_the_user_is_seeded_and_left_in_place():
    usual, other = np.random.get_bit_generator(), np.random.MT19937(5)
    np.random.set_bit_generator(other)
    try:
        seed_globals(1, 2, 3)
        assert drawn() == GLOBALS
        assert np.random.get_bit_generator() is other
    finally:
        np.random.set_bit_generator(usual)


def test_no_slow_way_is_taken_where_the_fast_one_is_open(monkeypatch):
    monkeypatch.setattr(global_generators, "_seed_slowly", None)
    seed_globals(1, 2, 3)
    assert drawn() == GLOBALS


@pytest.mark.parametrize("state", [(1,), (*[0] * 624, 624)])
def test_a_state_that_is_kept_elsewhere_is_not_written(state, monkeypatch):
    assert twisters._find_python_state() is not None
    monkeypatch.setattr(random, "getstate", lambda: (3, state, None))
    assert twisters._find_python_state() is None


def test_another_interpreter_keeps_it_elsewhere(monkeypatch):
    monkeypatch.setattr(twisters, "sys", types.SimpleNamespace(implementation=types.SimpleNamespace(name="pypy")))
    assert twisters._find_python_state() is None


def test_both_global_generators_are_put_back():
    before = GlobalState()
    expected = drawn()
    before.restore()
    assert drawn() == expected


@pytest.mark.parametrize("draw", [random.random, np.random.random, np.random.normal])
def test_a_draw_from_either_global_generator_is_seen_until_both_are_put_back(draw):
    before = GlobalState()
    assert before.has_changed() is False
    draw()
    assert before.has_changed() is True
    before.restore()
    assert before.has_changed() is False


def test_a_fresh_seed_follows_from_the_state_of_random_which_it_leaves_alone():
    random.seed(1)
    assert fresh_seed(4, 5) == FRESH
    assert fresh_seed(4, 5) == FRESH
    assert len({fresh_seed(*numbers) for numbers in [(4, 5), (5, 4), (4,), ()]}) == 4
    expected = random.Random(1).random()
    assert random.random() == expected
    assert fresh_seed(4, 5) != FRESH
    assert 0 <= max(fresh_seed(number) for number in range(20)).bit_length() == 64


def test_where_nobody_has_imported_random_a_fresh_seed_is_any_number_and_imports_nothing(monkeypatch):
    monkeypatch.delitem(sys.modules, "random")
    assert len({fresh_seed(4, 5) for _ in range(3)}) == 3
    assert "random" not in sys.modules


def test_before_the_first_batch_there_is_neither_a_seed_nor_a_generator():
    batch = sample_block.CurrentSample()
    assert batch.of is None
    assert batch.rng is None


def test_both_global_generators_can_be_looked_at_where_they_are():
    assert twisters.numpy_twister is np.random.get_bit_generator()
    seed_globals(1, 2, 3)
    state = twisters.python_state
    assert (*state.words, state.index) == random.getstate()[1]
    random.getrandbits(32)
    assert state.index == random.getstate()[1][-1] == 1
