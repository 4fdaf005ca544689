"""The generators that all code of a process shares, and those of objects: their seeds and states."""

import itertools
import json
import random
import sys
import types

import numpy as np
import pytest
from helpers.injected_exceptions import Strike, Struck
from helpers.unusual_generators import Stateless, Wrapped

from mpqueue.seeding.generators import GeneratorState, generators_in, set_state, state_of
from mpqueue.seeding.global_rng import GlobalState, seed_globals

BATCHES = [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1), (1, 2, 0), (0, 0, 0), (1, 2, (1 << 64) - 2)]


def drawn():
    return [random.getrandbits(30), random.getrandbits(30), *np.random.randint(0, 1 << 30, 2).tolist()]


def test_seed_epoch_and_index_each_change_the_numbers():
    found = set()
    for of in BATCHES:
        seed_globals(*of)
        found.add(tuple(drawn()))
    assert len(found) == len(BATCHES)


def test_generators_of_a_batch_draw_different_numbers():
    seed_globals(5, 2, 7)
    assert not set(np.random.random_sample(2000)) & {random.random() for _ in range(2000)}


def test_seeding_drops_a_cached_normal_number():
    seed_globals(1, 2, 3)
    expected = random.gauss(0, 1), np.random.normal()
    seed_globals(1, 2, 3)
    assert (random.gauss(0, 1), np.random.normal()) == expected


def test_seeding_and_restoring_a_bit_generator_of_user_includes_the_cached_normal_number(pcg64):
    seed_globals(1, 2, 3)
    expected = [np.random.normal() for _ in range(3)]
    before = GlobalState()  # with the second number of a pair
    following = np.random.normal()
    seed_globals(1, 2, 3)
    assert [np.random.normal() for _ in range(3)] == expected
    before.restore()
    assert np.random.normal() == following
    assert np.random.get_bit_generator() is pcg64


def test_bit_generator_of_user_is_seeded_and_kept(pcg64):
    seed_globals(5, 2, 7)
    first = random.random(), np.random.random()
    seed_globals(5, 2, 8)
    assert (random.random(), np.random.random()) != first
    seed_globals(5, 2, 7)
    assert (random.random(), np.random.random()) == first
    assert np.random.get_bit_generator() is pcg64


def test_restore_restores_all_generators():
    before = GlobalState()
    expected = drawn(), np.random.normal(), np.random.normal()
    before.restore()
    assert (drawn(), np.random.normal(), np.random.normal()) == expected
    np.random.set_bit_generator(np.random.PCG64(1))
    before.restore()
    assert (drawn(), np.random.normal(), np.random.normal()) == expected


def numpy_state():
    state = np.random.get_state(legacy=False)
    return state["state"]["key"].tolist(), state["state"]["pos"], state["has_gauss"], state["gauss"]


def state_after(num_normals):
    """Seed NumPy, draw normal numbers, and return its state."""
    np.random.seed(3)
    for _ in range(num_normals):
        np.random.normal()
    return numpy_state()


# Normal numbers are drawn in pairs: after an odd number of draws, the second one of a pair is cached.
@pytest.mark.parametrize("num_before", [0, 1, 2])
@pytest.mark.parametrize("num_drawn", [0, 1, 2])
def test_state_with_and_without_a_cached_normal_number_is_restored_exactly(num_before, num_drawn):
    expected = state_after(num_before)
    assert expected[2] == num_before % 2
    before = GlobalState()
    assert numpy_state() == expected
    np.random.bytes(10_000)
    for _ in range(num_drawn):
        np.random.normal()
    for _ in range(2):
        before.restore()
        assert numpy_state() == expected


@pytest.mark.parametrize("num_before", [0, 1])
def test_interrupt_at_any_point_of_saving_and_restoring_loses_no_number(num_before):
    expected = state_after(num_before)
    for after in itertools.count(1):
        with Strike(after) as strike:
            before = unless_struck(GlobalState)
        assert numpy_state() == expected, after
        saved = before or GlobalState()
        np.random.normal()
        with Strike(after) as other:
            unless_struck(saved.restore)
        saved.restore()
        assert numpy_state() == expected, after
        if strike.left > 0 and other.left > 0:
            break
    assert after > 5


def unless_struck(function):
    try:
        return function()
    except Struck:
        return None


@pytest.mark.parametrize("num_before", [0, 1])
def test_cached_normal_number_can_be_left_out_until_the_restore(num_before):
    expected = state_after(num_before)
    before = GlobalState()
    before.use_up_normal()
    assert numpy_state() == (*expected[:2], 0, 0.0)
    before.restore()
    assert numpy_state() == expected


def test_generator_of_torch_that_was_imported_since_gets_a_random_seed(monkeypatch):
    calls = []
    generator = types.SimpleNamespace(seed=lambda: calls.append("seed"))
    monkeypatch.setitem(sys.modules, "torch", None)
    before = GlobalState()
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(default_generator=generator))
    before.restore()
    assert calls == ["seed"]


# -- States of random generators


class Hidden(Wrapped):
    """A generator with a state that is not plain data."""

    def getstate(self):
        return b"bytes", super().getstate()

    def setstate(self, state):
        super().setstate(state[1])


MAKE = {
    "Random": lambda: random.Random(3),
    "a subclass with another state": lambda: Wrapped(3),
    "a subclass with a state that is not plain data": lambda: Hidden(3),
    "PCG64": lambda: np.random.default_rng(3),
    "MT19937": lambda: np.random.Generator(np.random.MT19937(3)),
    "RandomState": lambda: np.random.RandomState(3),
    "torch": lambda: pytest.importorskip("torch").Generator().manual_seed(3),
}


def draw(generator):
    if hasattr(generator, "manual_seed"):
        return float(pytest.importorskip("torch").rand((), generator=generator))
    return float(generator.random())


@pytest.mark.parametrize("kind", MAKE)
def test_state_is_restored_and_a_draw_is_noticed(kind):
    generator = MAKE[kind]()
    draw(generator)
    state = GeneratorState(generator)
    assert not state.has_changed()
    expected = [draw(generator) for _ in range(3)]
    assert state.has_changed()
    for _ in range(2):
        state.restore()
        assert not state.has_changed()
    assert [draw(generator) for _ in range(3)] == expected


@pytest.mark.parametrize("kind", [kind for kind in MAKE if "not plain" not in kind])
def test_plain_state_survives_json(kind):
    generator = MAKE[kind]()
    state = json.loads(json.dumps(state_of(generator)))
    expected = draw(generator)
    set_state(generator, state)
    assert draw(generator) == expected


@pytest.mark.parametrize("generator", [Hidden(3), Stateless(3)], ids=lambda each: type(each).__name__)
def test_state_without_a_plain_form_is_not_saved(generator):
    assert state_of(generator) is None
    before = draw(generator)
    set_state(generator, state_of(random.Random(3)))  # of a different kind
    assert draw(generator) != before


def test_normal_number_that_is_cached_counts_as_state():
    generator = np.random.RandomState(3)
    generator.normal()
    state = GeneratorState(generator)
    generator.normal()
    assert state.has_changed()


def test_generators_have_different_paths_for_any_names_of_attributes():
    inner, outer = types.SimpleNamespace(), types.SimpleNamespace()
    vars(outer).update({"a.b": random.Random(1), "a": inner})
    inner.b = random.Random(2)
    assert sorted(path for path, _ in generators_in(outer)) == ["a..b", "a.b"]
