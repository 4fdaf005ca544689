"""A separate cache for each test; new file systems for each test that requests them."""

import pytest
from helpers.range_server import forget_systems

from mpqueue.files import ranges


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def own_file_systems(monkeypatch):
    """Use no connection of another test, and retry at once."""
    forget_systems()
    monkeypatch.setattr(ranges, "_DELAYS_S", (0.01,) * 5)
    yield
    forget_systems()
