"""A trainer on a cluster, observed from outside: it is killed or interrupted."""

import contextlib
import signal

import psutil
import pytest
from helpers.trainer_processes import Trainer

SCRIPT = """
class ReportsAndHangs(Numbers):
    def __getitem__(self, index):
        say("worker", os.getpid(), os.getppid())
        if index == 5:
            hang()
        return super().__getitem__(index)
loader = Loader(ReportsAndHangs(), workers=2, backend="ray", max_queue_size=20)
try:
    for batch in loader:
        pass
except KeyboardInterrupt:
    say("interrupted")
    loader.stop()
    say("stopped")
"""


@pytest.fixture
def trainer(cluster):
    with Trainer(SCRIPT, env={"RAY_ADDRESS": cluster.address, "RAY_LOG_TO_DRIVER": "0"}) as trainer:
        yield trainer


def processes_heard_of(trainer):
    """Workers, fork servers and agents, once a batch that never ends is being computed on one of the two nodes."""
    pids, fork_servers = set(), set()
    while len(fork_servers) < 2:
        line = trainer.heard()
        assert line is not None, trainer.ended()
        _, worker, fork_server = line.split()
        pids |= {int(worker), int(fork_server)}
        fork_servers.add(int(fork_server))
    for fork_server in fork_servers:
        with contextlib.suppress(psutil.Error):
            pids.add(psutil.Process(fork_server).ppid())
    return [psutil.Process(pid) for pid in pids - {trainer.pid} if psutil.pid_exists(pid)]


def test_killed_driver_takes_agents_fork_servers_and_workers_along(trainer):
    processes = processes_heard_of(trainer)
    assert len(processes) >= 4
    trainer.process.kill()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []


def test_ctrl_c_is_raised_in_trainer_which_can_stop_then(trainer):
    processes = processes_heard_of(trainer)
    trainer.process.send_signal(signal.SIGINT)
    while (line := trainer.heard()) not in ("interrupted", None):
        pass
    assert line == "interrupted"
    while (line := trainer.heard()) not in ("stopped", None):
        pass
    assert line == "stopped"
    code, output = trainer.ended()
    assert code == 0, output
    _, alive = psutil.wait_procs([process for process in processes if process.is_running()], timeout=30)
    assert alive == []
