"""Decoders are functions of their input: they start and open nothing that could be left behind."""

import pytest


@pytest.fixture(autouse=True)
def _leaks_nothing():
    """Instead of the suite's proof, which costs each of these hundreds of tests more than it takes itself."""
