"""Systems without pidfds (older kernels, sandboxes): the engine works without these calls."""

import os

import pytest
from helpers.declared_hangs import TIMEOUT_S
from helpers.trainer_processes import ran

pytestmark = pytest.mark.slow

# Interpreters import this first: trainer, fork server and spawned workers.
_WITHOUT_CALLS = """
import os, signal
del os.pidfd_open, signal.pidfd_send_signal, os.memfd_create
"""


@pytest.fixture
def without(tmp_path):
    """The environment of an interpreter without these calls."""
    (tmp_path / "sitecustomize.py").write_text(_WITHOUT_CALLS)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.path.dirname(os.path.dirname(__file__))])}


_EPOCHS = """
from helpers.forked_calls import exit_at_once
from helpers.declared_hangs import Stopped, judge_by
from helpers.waits import until

def is_killed(fuse):
    os.kill(os.getpid(), signal.SIGKILL)

def hangs(fuse):
    os.kill(os.getpid(), signal.SIGSTOP)

def is_killed_with_a_running_child(fuse):
    # The child inherits the worker's pipes, but not the life pipe. It exits by itself if the tests are killed.
    os.fork() and os.kill(os.getpid(), signal.SIGKILL)
    until(lambda: os.path.exists(fuse + ".end"), "the test does not end")
    exit_at_once(0)

def closes_all_its_descriptors(fuse):
    os.closerange(3, 200)
    hang()

class Struck(Numbers):
    def __init__(self, strike):
        super().__init__(8)
        self.strike, self.fuse = strike, os.environ["FUSE"] + strike.__name__

    def __getitem__(self, index):
        assert not hasattr(os, "pidfd_open")
        if index == 5 and not os.path.exists(self.fuse):
            open(self.fuse, "w").close()
            self.strike(self.fuse)
        return super().__getitem__(index)

judge_by(Stopped())
for strike in map(globals().get, os.environ["STRIKES"].split()):
    source, timeout_s = Struck(strike), TIMEOUT if strike is hangs else None
    with OrderedEnqueuer(source, True, start_method=METHOD, batch_timeout=timeout_s) as enqueuer:
        enqueuer.start(2, 4)
        batches = enqueuer.get()
        say(strike.__name__, *(int(next(batches)[0]) for _ in range(16)), enqueuer.statistics().deaths)
    open(source.fuse + ".end", "w").close()
"""
_TWICE = " ".join(map(str, 2 * list(range(8))))


_STRIKES = "is_killed", "hangs", "is_killed_with_a_running_child", "closes_all_its_descriptors"


@pytest.mark.parametrize(("method", "strikes"), [("forkserver", _STRIKES), ("fork", _STRIKES), ("spawn", _STRIKES[:1])])
def test_crashed_and_hanging_workers_are_replaced(method, strikes, without, tmp_path):
    script = _EPOCHS.replace("METHOD", repr(method)).replace("TIMEOUT", repr(TIMEOUT_S))
    said, _ = ran(script, env={**without, "FUSE": str(tmp_path / "fuse"), "STRIKES": " ".join(strikes)})
    assert said == [f"{strike} {_TWICE} 1" for strike in strikes]


def test_crashed_fork_server_is_replaced(without):
    script = """
        import psutil
        enqueuer = OrderedEnqueuer(Numbers(), True)
        enqueuer.start(2)
        batches = enqueuer.get()
        say(*(int(next(batches)[0]) for _ in range(8)))
        for process in psutil.Process().children():
            if "fork_server" in " ".join(process.cmdline()):
                process.kill()
        say(*(int(next(batches)[0]) for _ in range(16)))
        enqueuer.stop()
    """
    said, _ = ran(script, env=without)
    assert said == ["0 1 2 3 4 5 6 7", _TWICE]
