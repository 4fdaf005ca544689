"""All shared generators are seeded for each sample, and restored at the end."""

import random
import sys

import numpy as np
import pytest

from mpqueue.seeding.eager_seeding import EagerSeeding
from mpqueue.seeding.global_rng import number_of

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
