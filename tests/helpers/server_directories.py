"""Homes of servers for tests: short paths that other users can reach, and peers that are other users."""

import os
import tempfile

import pytest

STRANGER = 65534  # nobody


@pytest.fixture
def servers_directory(monkeypatch):
    """A folder for the homes of servers, by the environment variable; its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="mpq", dir="/tmp") as folder:
        os.chmod(folder, 0o711)
        monkeypatch.setenv("MPQUEUE_HOME", folder)
        yield folder


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, as this test does")


def become(uid):
    """Be another user for the rest of this process's life."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
