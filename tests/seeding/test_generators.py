"""States of random generators: as plain data for a checkpoint, and in this process."""

import json
import random
import types

import numpy as np
import pytest
from helpers.unusual_generators import Stateless, Wrapped

from mpqueue.seeding.generators import GeneratorState, generators_in, set_state, state_of


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
