"""Each batch draws the numbers of (seed, epoch, index), although sources without draws are not seeded."""

import os
import random
import subprocess
import sys
import types
from random import random as imported_random

import numpy as np
import pytest
from helpers.forked_calls import exit_at_once

from mpqueue.seeding.eager_seeding import EagerSeeding
from mpqueue.seeding.global_rng import number_of, seed_globals
from mpqueue.seeding.lazy_seeding import LazySeeding, NumpyRng, PythonRng

SEED = 11


def drawn_of(index):
    """Return the numbers that a batch of this index draws if it is always seeded."""
    seed_globals(SEED, 0, index)
    return [imported_random(), float(np.random.rand())]


@pytest.fixture(autouse=True)
def begun(monkeypatch):
    """Return a list of the seedings of a test. Those left would be called by a later import of torch."""
    seedings = []
    monkeypatch.setattr(Worker, "begun", seedings)
    yield seedings
    for seeding in seedings:
        seeding.end()


class Worker:
    """Computes batches as a worker does; `calls` has the index of each call of the source."""

    begun = []

    def __init__(self, source, **options):
        self.seeding, self.source, self.calls = LazySeeding(**options), source, []
        self.begun.append(self.seeding)

    def batch(self, *indices):
        return self.seeding.each(self._compute, indices)

    def _compute(self, indices):
        found = []
        for index in indices:
            if self.seeding.is_due:
                self.seeding.seed(SEED, 0, index)
            self.calls.append(index)
            found.append(self.source(index))
        return found


def draws_always(_):
    return [imported_random(), float(np.random.rand())]


def draws_nothing(_):
    return []


def draws_late(index):
    """Draw from NumPy's generator for few samples, and not for the first ones."""
    return [float(np.random.rand())] if index in (5, 8) else []


def draws_one_then_the_other(index):
    if index < 4:
        return []
    first = imported_random()
    return [first, float(np.random.rand()) if first < 2 and index > 4 else None]


def draws_pairs_late(index):
    """Draw from both generators for the first time in one sample; both store the second normal number of a pair."""
    return [] if index < 4 else [float(np.random.randn()), random.gauss(0, 1), imported_random()]


SOURCES = [draws_always, draws_nothing, draws_late, draws_one_then_the_other, draws_pairs_late]


@pytest.mark.sample(6)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("is_shared", [False, True])
def test_samples_draw_numbers_of_their_index(source, batch_size, is_shared):
    lazily, at_once = Worker(source, is_shared=is_shared), Worker(source, can_repeat=False)
    for first in range(0, 12, batch_size):
        indices = range(first, first + batch_size)
        if is_shared:
            draws_always(0)  # like the training loop
        assert lazily.batch(*indices) == at_once.batch(*indices)


def test_single_sample_draws_numbers_of_its_index():
    worker = Worker(draws_always)
    assert worker.batch(0, 1) + worker.batch(2) == [drawn_of(index) for index in range(3)]
    assert worker.calls == [0, 1, 2]


def test_source_without_draws_is_called_once_and_not_seeded():
    worker = Worker(draws_nothing)
    worker.batch(0)
    assert not worker.seeding.is_due
    for index in range(1, 5):
        worker.batch(index)
    assert worker.calls == [0, 1, 2, 3, 4]


def test_source_that_begins_to_draw_is_called_again_once_per_generator():
    worker = Worker(draws_one_then_the_other)
    for index in range(8):
        worker.batch(index)
    assert worker.calls == [0, 1, 2, 3, 4, 4, 5, 5, 6, 7]


def test_only_used_generators_are_seeded():
    worker = Worker(draws_late)
    worker.batch(1)
    worker.batch(5)
    state = random.getstate()
    worker.batch(6)
    assert random.getstate()[1][:-1] == state[1][:-1]


def test_batch_of_threads_that_imports_a_generator_draws_seeded_numbers():
    code = """
import numpy
from mpqueue.seeding.lazy_seeding import LazySeeding
seeding = LazySeeding()
draws = [seeding.once((1, 0, 3), lambda: numpy.random.rand()) for _ in range(2)]
assert draws[0] == draws[1], draws
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_error_after_draw_is_raised_with_seeded_numbers():
    def source(index):
        if index:
            raise ValueError(str(np.random.rand()))

    expected = drawn_of(3)[1]
    worker = Worker(source)
    worker.batch(0)
    with pytest.raises(ValueError, match=str(expected)):
        worker.batch(3)
    assert worker.calls == [0, 3, 3]


def test_batch_that_raised_without_draw_is_computed_once():
    worker = Worker(lambda index: [][index])
    for index in range(2):
        with pytest.raises(IndexError):
            worker.batch(index)
    assert worker.calls == [0, 1]


@pytest.mark.parametrize("raises", [False, True])
def test_samples_that_share_generators_are_seeded_once_per_batch(raises, begun):
    seeding, drawn = LazySeeding(can_repeat=False), []
    begun.append(seeding)

    def compute():
        assert not seeding.is_due
        drawn.append(draws_always(0))
        return 1 // (not raises)

    for _ in range(2):
        try:
            seeding.once((SEED, 0, 7), compute)
        except ZeroDivisionError:
            assert raises
    assert drawn == [drawn_of(7)] * 2
    assert seeding.is_due


class TorchStandIn:
    """The default generator of a stand-in for torch that a sample imports. Its state has the interface of a tensor."""

    def __init__(self):
        self.seeds, self.state = [], np.zeros(8, np.uint8)

    def manual_seed(self, number):
        self.seeds.append(number)
        self.state[:] = len(self.seeds)

    def get_state(self):
        return types.SimpleNamespace(data_ptr=lambda: self.state.ctypes.data, nbytes=self.state.nbytes)


@pytest.mark.parametrize("can_repeat", [True, False])
def test_torch_imported_by_a_sample_is_seeded_for_that_sample(monkeypatch, begun, can_repeat):
    generator = TorchStandIn()
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    seeding = LazySeeding(can_repeat=can_repeat)
    begun.append(seeding)

    def compute():
        seeding.seed(SEED, 0, 7)
        seeding._add_torch(types.SimpleNamespace(default_generator=generator))

    seeding.each(compute)
    assert generator.seeds == [number_of(SEED, 0, 7) & 0x7FFFFFFFFFFFFFFF]


DRAWS = {
    "random": lambda: random.random(),
    "bits": lambda: random.getrandbits(64),
    "gauss": lambda: random.gauss(0, 1),
    "seed": lambda: random.seed(5),
    "setstate": lambda: random.setstate(random.Random(3).getstate()),
    "numpy": lambda: np.random.random(),
    "normal": lambda: np.random.normal(),
    "exactly one block of 624 words": lambda: np.random.bytes(4 * 624),
    "through a Generator": lambda: np.random.Generator(np.random.get_bit_generator()).random(),
    "raw": lambda: np.random.get_bit_generator().random_raw(),
    "numpy seed": lambda: np.random.seed(5),
    "numpy set_state": lambda: np.random.set_state(np.random.RandomState(3).get_state()),
    "set_bit_generator": lambda: np.random.set_bit_generator(np.random.MT19937(5)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_each_way_to_draw_or_seed_is_detected(name):
    usual = np.random.get_bit_generator()
    generators = [PythonRng(), NumpyRng()]
    seed_globals(1, 2, 3)
    for rng in generators:
        rng.watch()
    assert [rng.has_drawn() for _ in range(3) for rng in generators] == [False] * 6
    DRAWS[name]()
    is_numpy = [*DRAWS].index(name) >= [*DRAWS].index("numpy")
    assert [rng.has_drawn() for rng in generators] == [not is_numpy, is_numpy]
    np.random.set_bit_generator(usual)


def test_other_bit_generator_counts_as_drawn_from(pcg64):
    rng = NumpyRng()
    rng.watch()
    assert rng.has_drawn()


def test_own_generators_of_source_are_not_detected():
    generators = [PythonRng(), NumpyRng()]
    for rng in generators:
        rng.watch()
    random.Random(3).random()
    np.random.RandomState(4).rand()
    np.random.default_rng().random()
    assert not any(rng.has_drawn() for rng in generators)


def test_forked_child_of_source_repeats_no_batch():
    """Python seeds its generator in the child, which counts as a draw."""

    def source(index):
        if index == 1:
            child = os.fork()
            if child == 0:
                raise ValueError
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return 0

    worker = Worker(source)
    worker.batch(0)
    try:
        assert worker.batch(1) == [7]
    except ValueError:
        exit_at_once(7 if worker.calls == [0, 1] else 8)
    assert worker.calls == [0, 1]


def test_number_that_gauss_has_stored_counts_as_drawn():
    rng, before = PythonRng(), random.getstate()
    random.gauss(0, 1)
    rng.watch()
    assert not rng.has_drawn()
    random.gauss(0, 1)  # returned without a draw
    assert rng.has_drawn()
    random.setstate(before)


# -- All shared generators are seeded for each sample, and restored at the end


MODULE = """
class Generator:
    state = "as imported"
    def get_state(self):
        return self.state
    def set_state(self, state):
        self.state = state
    manual_seed = set_state
default_generator = Generator()
"""


@pytest.fixture
def imports_torch(tmp_path, monkeypatch):
    """Return a function that imports a module that replaces torch."""
    (tmp_path / "torch.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))

    def import_now():
        import torch

        return torch.default_generator

    yield import_now
    sys.modules.pop("torch", None)


def test_sample_that_imports_torch_is_seeded_and_leaves_no_seed(imports_torch):
    seeding = EagerSeeding()
    seeding.seed(1, 2, 3)
    generator = imports_torch()
    assert generator.state == number_of(1, 2, 3) & 0x7FFFFFFFFFFFFFFF
    seeding.seed(1, 2, 4)
    assert generator.state == number_of(1, 2, 4) & 0x7FFFFFFFFFFFFFFF
    for _ in range(2):
        seeding.restore()
        assert generator.state == "as imported"


def test_each_sample_draws_its_own_numbers():
    before = random.getstate(), np.random.get_state()[1].tolist()
    seeding = EagerSeeding()

    def draw(position):
        seeding.seed(1, 0, position)
        return random.random(), np.random.normal()

    assert draw(0) != draw(1)
    assert draw(0) == draw(0)
    seeding.restore()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_neighbouring_samples_and_batches_have_different_numbers():
    """Batches that are computed at once have negative numbers."""
    numbers = [number_of(7, 0, index) for index in range(-2000, 2000)]
    assert len({*numbers}) == len(numbers)
