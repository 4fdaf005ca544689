"""Ignore deprecation warnings of torch."""

import pytest


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
    item.add_marker(pytest.mark.slow)
    item.add_marker(pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"))
