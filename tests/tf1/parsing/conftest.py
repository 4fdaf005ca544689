"""Decoders are functions of their input: they start no threads and open no files."""

import pytest


@pytest.fixture(autouse=True)
def _leaks_nothing():
    """Instead of the suite's proof, which costs each of these hundreds of tests more than it takes itself."""
