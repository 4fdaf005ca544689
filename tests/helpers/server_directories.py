"""Server directories for tests: short paths that other users can access, and peers that are other users."""

import os
import tempfile

import pytest

STRANGER = 65534  # the user `nobody`


@pytest.fixture
def servers_directory(monkeypatch):
    """Yield a folder for server directories, set by the environment variable. Its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="mpq", dir="/tmp") as folder:
        os.chmod(folder, 0o711)
        monkeypatch.setenv("MPQUEUE_HOME", folder)
        yield folder


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, as this test does")


def become(uid):
    """Become another user for the rest of this process's life."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
