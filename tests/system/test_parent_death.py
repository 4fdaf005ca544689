"""The pipe that kills a process when its owner exits."""

import os
import signal
import sys

import pytest
from helpers.forked_calls import fork_of, status_of

from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes import parent_death

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread of the process does it")


@pytest.fixture
def pipe():
    """Create a pipe; the test closes the write end."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(read_end)


def stopped_child(write_end):
    """Return a child that has not run any code: it is stopped, and only its parent has armed it."""

    def stop():
        os.close(write_end)
        os.kill(os.getpid(), signal.SIGSTOP)

    pid = fork_of(stop)
    os.waitpid(pid, os.WUNTRACED)
    return pid


def test_child_stopped_before_arming_is_killed(pipe):
    armed = descriptors.reopen(pipe[0])
    pid = stopped_child(pipe[1])
    parent_death.arm(armed, pid)
    os.close(armed)
    os.close(pipe[1])
    assert status_of(pid) == -signal.SIGKILL


def test_child_is_killed_if_owner_has_exited_before(pipe):
    pid = stopped_child(pipe[1])
    os.close(pipe[1])
    parent_death.arm(pipe[0], pid)
    assert status_of(pid) == -signal.SIGKILL
