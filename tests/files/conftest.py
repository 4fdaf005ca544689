"""A separate cache for each test, and separate file systems for each test that requests them."""

import gc

import pytest

from mpqueue.files import ranges, urls


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def own_file_systems(monkeypatch):
    """Use no connections of other tests, and retry failures without delays."""
    monkeypatch.setattr(urls, "_systems", urls._Systems())
    monkeypatch.setattr(ranges, "_DELAYS_S", (0.01,) * 5)
    yield
    urls._systems = urls._Systems()
    gc.collect()  # connections are closed with their file system
