"""A worker that is killed while its interpreter starts is replaced like any other."""

import pytest

import mpqueue

_KILLS_THE_FIRST = """
import os, signal, sys
if "spawned" in " ".join(sys.orig_argv):
    try:
        os.close(os.open({fuse!r}, os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGKILL)
    except FileExistsError:
        pass
"""


@pytest.mark.fresh_fork_server
def test_spawned_worker_that_is_killed_while_it_starts_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(_KILLS_THE_FIRST.format(fuse=str(tmp_path / "fuse")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    large = ["x" * (1 << 22), "y"]  # larger than the buffer of the socket of a worker that does not read yet
    with mpqueue.Loader(large, workers=1, start_method="spawn") as loader:
        assert [len(text) for text in loader] == [1 << 22, 1]
        assert (loader.statistics().deaths, loader.statistics().restarts) == (1, 1)
    assert (tmp_path / "fuse").exists()
