"""A separate cache for each test, and file systems and a web server for each test that requests them."""

import pytest
from helpers.range_server import forget_file_systems, range_server

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


@pytest.fixture
def web():
    with range_server() as served:
        yield served


@pytest.fixture
def memory():
    """Return a file system in memory, which is empty after the test."""
    filesystem = pytest.importorskip("fsspec").filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
