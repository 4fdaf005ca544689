"""The pipe that takes a process along when its owner dies."""

import os
import signal
import sys

import pytest

from mpqueue.system import descriptors, parent_death

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread of the process does it")


@pytest.fixture
def pipe():
    """Its ends; the write end is closed by the test."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(read_end)


def stopped_child(write_end):
    """A child that has not run a line of its own: it is stopped, and armed by nobody but its parent."""
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    return pid


def exit_code_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_that_is_stopped_before_it_armed_itself_is_taken_along(pipe):
    armed = descriptors.reopen(pipe[0])
    pid = stopped_child(pipe[1])
    parent_death.arm(armed, pid)
    os.close(armed)
    os.close(pipe[1])
    assert exit_code_of(pid) == -signal.SIGKILL


def test_a_child_is_taken_along_whose_owner_is_gone_already(pipe):
    pid = stopped_child(pipe[1])
    os.close(pipe[1])
    parent_death.arm(pipe[0], pid)
    assert exit_code_of(pid) == -signal.SIGKILL
