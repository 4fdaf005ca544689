"""Fixtures of the commands' tests."""

import sys

import pytest
from helpers.server_directories import servers_directory

__all__ = ["servers_directory"]


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """The working directory; modules in it that a test imports are removed after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
