import random

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _restores_global_generators():
    python, numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)


@pytest.fixture
def pcg64():
    """Make NumPy's functions draw from a bit generator of the user."""
    usual, bits = np.random.get_bit_generator(), np.random.PCG64(3)
    np.random.set_bit_generator(bits)
    yield bits
    np.random.set_bit_generator(usual)
