"""Information for operators: warnings in the logger, and the names of processes."""

import logging
import os
import signal

import numpy as np
import psutil
import pytest
from helpers.faults import Numbers, burns, numbers
from workers.test_fork_server import kill_fork_server

from mpqueue import Loader, OrderedEnqueuer


class Dying(Numbers):
    """A worker crashes over index 3, once."""

    def __init__(self, fuse):
        super().__init__()
        self.fuse = str(fuse)

    def __getitem__(self, index):
        if index == 3 and burns(self.fuse):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.fixture
def warnings(caplog):
    """The messages of all warnings in the package's logger."""
    caplog.set_level(logging.WARNING, logger="mpqueue")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "mpqueue"]


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_crash_and_restart_are_one_warning_each(method, tmp_path, warnings):
    with OrderedEnqueuer(Dying(tmp_path / "fuse"), True, start_method=method) as enqueuer:
        enqueuer.start(1, 4)
        assert numbers(enqueuer.get(), 16) == 2 * list(range(8))
    death, restart = warnings()
    assert "worker 0 died by SIGKILL while it computed index 3 of epoch 0" in death
    assert "it was killed" not in death
    assert restart == "worker 0 was restarted"


def test_kill_of_a_hanging_worker_is_a_warning_with_the_reason(tmp_path, warnings):
    class Hanging(Dying):
        def __getitem__(self, index):
            if index == 3 and burns(self.fuse):
                os.kill(os.getpid(), signal.SIGSTOP)
            return Numbers.__getitem__(self, index)

    with OrderedEnqueuer(Hanging(tmp_path / "fuse"), True, batch_timeout=1.0) as enqueuer:
        enqueuer.start(1, 4)
        assert numbers(enqueuer.get(), 8) == list(range(8))
    assert "it was killed, because a batch exceeded `batch_timeout`" in warnings()[0]


def test_crash_of_a_fork_server_is_one_warning_plus_one_per_restarted_worker(warnings):
    with OrderedEnqueuer(Numbers(), True) as enqueuer:
        enqueuer.start(2)
        batches = enqueuer.get()
        assert numbers(batches, 8) == list(range(8))
        kill_fork_server()
        assert numbers(batches, 16) == 2 * list(range(8))
    death, *restarts = warnings()
    assert "the fork server, which starts the workers, died by SIGKILL, and its 2 workers with it" in death
    assert restarts == ["worker 0 was restarted", "worker 1 was restarted"]


class Named(Numbers):
    """Each batch is the name of its process, and of the parent process."""

    def __getitem__(self, index):
        names = psutil.Process().name(), psutil.Process(os.getppid()).name()
        return np.array([f"{name:15}" for name in names])


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_processes_have_names_in_ps(method):
    with Loader(Named(), workers=2, start_method=method) as loader:
        names = [(worker.strip(), parent.strip()) for worker, parent in map(list, loader)]
    assert {worker for worker, _ in names} <= {"mpqueue-worker0", "mpqueue-worker1"}
    if method != "fork":
        assert {parent for _, parent in names} == {"mpqueue-forksrv"}
