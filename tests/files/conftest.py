"""A cache of its own for each test; file systems of its own for each that asks for them."""

import gc

import pytest

from mpqueue.files import ranges, urls


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def own_file_systems(monkeypatch):
    """No connection is left of another test, and what fails is tried again at once."""
    monkeypatch.setattr(urls, "_systems", urls._Systems())
    monkeypatch.setattr(ranges, "_DELAYS_S", (0.01,) * 5)
    yield
    urls._systems = urls._Systems()
    gc.collect()  # connections end with their file system
