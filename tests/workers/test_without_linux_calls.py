"""Systems without pidfds (older kernels, sandboxes): the engine works without these calls."""

import os

import pytest
from helpers.hanging import TIMEOUT_S
from helpers.outside import ran

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


METHODS = pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])

_EPOCHS = """
class Crashing(Numbers):
    def __getitem__(self, index):
        assert not hasattr(os, "pidfd_open")
        fuse = os.environ["FUSE"]
        if index == 5 and not os.path.exists(fuse):
            open(fuse, "w").close()
            STRIKE
        return super().__getitem__(index)

from helpers.hanging import Stopped, judge_by
judge_by(Stopped())
enqueuer = OrderedEnqueuer(Crashing(), True, start_method=METHOD, batch_timeout=TIMEOUT)
enqueuer.start(2, 4)
batches = enqueuer.get()
say(*(int(next(batches)[0]) for _ in range(16)))
say(enqueuer.statistics().deaths)
enqueuer.stop()
"""
_TWICE = " ".join(map(str, 2 * list(range(8))))


def _script(method, strike, timeout_s=None):
    return _EPOCHS.replace("METHOD", repr(method)).replace("STRIKE", strike).replace("TIMEOUT", repr(timeout_s))


@METHODS
def test_crashed_worker_is_replaced(method, without, tmp_path):
    said, _ = ran(
        _script(method, "os.kill(os.getpid(), signal.SIGKILL)"), env={**without, "FUSE": str(tmp_path / "fuse")}
    )
    assert said == [_TWICE, "1"]


@METHODS
def test_hanging_worker_is_killed_and_replaced(method, without, tmp_path):
    strike = "os.kill(os.getpid(), signal.SIGSTOP)"
    said, _ = ran(_script(method, strike, TIMEOUT_S), env={**without, "FUSE": str(tmp_path / "fuse")})
    assert said == [_TWICE, "1"]


@METHODS
def test_crash_of_a_worker_with_a_running_child_is_detected(method, without, tmp_path):
    """The child inherits the worker's pipes, but not the life pipe. It exits by itself if the tests are killed."""
    strike = """os.fork() and os.kill(os.getpid(), signal.SIGKILL)
            until = time.monotonic() + 60
            while not os.path.exists(fuse + ".end") and time.monotonic() < until:
                time.sleep(0.01)
            os._exit(0)"""
    script = _script(method, strike) + 'open(os.environ["FUSE"] + ".end", "w").close()\n'
    said, _ = ran(script, env={**without, "FUSE": str(tmp_path / "fuse")})
    assert said == [_TWICE, "1"]


@METHODS
def test_worker_that_closes_all_its_descriptors_counts_as_crashed(method, without, tmp_path):
    said, _ = ran(
        _script(method, "os.closerange(3, 200); time.sleep(100)"), env={**without, "FUSE": str(tmp_path / "fuse")}
    )
    assert said == [_TWICE, "1"]


def test_crashed_fork_server_is_replaced(without):
    said, _ = ran(
        """
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
        """,
        env=without,
    )
    assert said == ["0 1 2 3 4 5 6 7", _TWICE]
