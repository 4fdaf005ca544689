import random

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _restores_global_generators():
    python, numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)
