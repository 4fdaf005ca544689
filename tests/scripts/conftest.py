"""Fixtures of the scripts' tests."""

import pytest
from helpers.jax_cache import keep_compiled
from helpers.server_directories import servers_directory

__all__ = ["servers_directory"]

keep_compiled()

_OF_THE_TESTS = {"test_checks.py", "test_optional_packages.py"}


def pytest_itemcollected(item):
    """Mark the tests of other scripts as slow, because these scripts are only used for development."""
    if item.path.name not in _OF_THE_TESTS:
        item.add_marker(pytest.mark.slow)
