"""A worker that is killed while its interpreter starts is replaced like any other."""

import numpy as np
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


class Large:
    """Larger than the buffer of the socket of a worker that does not read yet."""

    def __init__(self):
        self.text = "x" * (1 << 22)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.full(2, index + len(self.text))


@pytest.mark.fresh_fork_server
def test_spawned_worker_that_is_killed_while_it_starts_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(_KILLS_THE_FIRST.format(fuse=str(tmp_path / "fuse")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with mpqueue.Loader(Large(), workers=1, start_method="spawn") as loader:
        assert [int(batch[0]) - (1 << 22) for batch in loader] == [0, 1, 2]
        assert (loader.statistics().deaths, loader.statistics().restarts) == (1, 1)
    assert (tmp_path / "fuse").exists()
