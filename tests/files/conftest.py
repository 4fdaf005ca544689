"""A separate cache for each test, and separate file systems for each test that requests them."""

import pytest
from helpers.range_server import forget_file_systems

from mpqueue.files.access import ranges


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def own_file_systems(monkeypatch):
    """Use no connections of other tests, and retry failures without delays."""
    forget_file_systems()
    monkeypatch.setattr(ranges, "_DELAYS_S", (0.01,) * 5)
    yield
    forget_file_systems()
