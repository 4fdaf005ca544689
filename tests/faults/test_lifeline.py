"""The pipe that takes a process along when its owner dies."""

import os
import signal
import sys

import pytest

from mpqueue.workers import lifeline

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread of the process does it")


def child_that_is_stopped():
    """A child that has not run a line of its own: it is stopped, and armed by nobody but its parent."""
    read_end, write_end = os.pipe()
    armed = lifeline.reopen(read_end)
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    lifeline.arm(armed, pid)
    os.close(armed)
    os.close(read_end)
    return pid, write_end


def test_a_child_that_is_stopped_before_it_armed_itself_is_taken_along():
    pid, write_end = child_that_is_stopped()
    os.close(write_end)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_child_is_taken_along_whose_owner_is_gone_already():
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    os.close(write_end)
    lifeline.arm(read_end, pid)
    os.close(read_end)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
