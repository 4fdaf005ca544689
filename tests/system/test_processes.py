"""The ends of processes: sentinels with and without pidfds, and the pipe that kills a process when its owner exits."""

import os
import select
import signal

import pytest
from helpers.forked_calls import fork_of, status_of

from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes import parent_death, processes
from mpqueue.system.processes.processes import Birth, Process, reap


@pytest.fixture(params=["pidfds", "life pipes"])
def kind(request, monkeypatch):
    monkeypatch.setattr(processes, "has_pidfds", lambda: request.param == "pidfds")
    return request.param


@pytest.fixture
def child(kind):
    """Start a child that waits to be ended."""
    with Birth() as birth:
        pid = os.fork()
        if pid == 0:
            birth.be_born()
            signal.pause()
        process = Process(pid, birth.sentinel_of(pid))
    yield process
    os.close(process.sentinel)


def test_sentinel_is_readable_after_exit(child):
    assert not child.has_ended()
    child.send(signal.SIGTERM)
    assert select.select([child.sentinel], [], [], 60)[0]
    assert child.has_ended()
    assert reap(child.pid)[0] == -signal.SIGTERM


def test_killed_process_is_not_running_before_it_is_reaped(child):
    assert processes.is_running(child.pid)
    child.send(signal.SIGKILL)
    assert select.select([child.sentinel], [], [], 60)[0]
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a life pipe ends before the process
    assert not processes.is_running(child.pid)
    reap(child.pid)
    assert not processes.is_running(child.pid)


def test_processes_of_other_users_count_as_running():
    assert processes.is_running(1)
    assert processes.is_running(os.getpid())


def test_no_signal_is_sent_to_id_of_exited_process(child, monkeypatch):
    child.send(signal.SIGKILL)
    assert select.select([child.sentinel], [], [], 60)[0]
    reap(child.pid)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a stranger may have that id by now"))
    child.send(signal.SIGKILL)


def test_grandchild_does_not_hide_end_of_child(kind):
    reported, tell = os.pipe()

    def fork_and_exit():
        birth.be_born()
        os.write(tell, str(fork_of(signal.pause)).encode())
        return 7

    with Birth() as birth:
        pid = fork_of(fork_and_exit)
        sentinel = birth.sentinel_of(pid)
    assert select.select([sentinel], [], [], 60)[0]
    assert reap(pid)[0] == 7
    os.kill(int(os.read(reported, 100)), signal.SIGKILL)
    for fd in (sentinel, reported, tell):
        os.close(fd)


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
