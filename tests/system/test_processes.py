"""Sentinels: they tell the end of a process, with pidfds and without."""

import os
import select
import signal

import pytest

from mpqueue.system import processes
from mpqueue.system.processes import Birth, Process, reap


@pytest.fixture(params=["pidfds", "life pipes"])
def kind(request, monkeypatch):
    monkeypatch.setattr(processes, "has_pidfds", lambda: request.param == "pidfds")
    return request.param


@pytest.fixture
def child(kind):
    """A child that waits for its end."""
    with Birth() as birth:
        pid = os.fork()
        if pid == 0:
            birth.be_born()
            signal.pause()
        process = Process(pid, birth.sentinel_of(pid))
    yield process
    os.close(process.sentinel)


def test_a_sentinel_is_readable_when_the_process_has_ended(child):
    assert not child.has_ended()
    child.send(signal.SIGTERM)
    assert select.select([child.sentinel], [], [], 60)[0]
    assert child.has_ended()
    assert reap(child.pid)[0] == -signal.SIGTERM


def test_one_that_was_killed_runs_no_more_although_nobody_has_reaped_it(child):
    assert processes.is_running(child.pid)
    child.send(signal.SIGKILL)
    assert select.select([child.sentinel], [], [], 60)[0]
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a life pipe ends before the process
    assert not processes.is_running(child.pid)
    reap(child.pid)
    assert not processes.is_running(child.pid)


def test_processes_of_others_run():
    assert processes.is_running(1)
    assert processes.is_running(os.getpid())


def test_a_signal_to_one_that_has_ended_and_was_reaped_hits_nobody(child):
    child.send(signal.SIGKILL)
    assert select.select([child.sentinel], [], [], 60)[0]
    reap(child.pid)
    child.send(signal.SIGKILL)


@pytest.mark.parametrize("kind", ["life pipes"], indirect=True)
def test_without_pidfds_no_signal_goes_to_an_id_whose_process_has_ended(child, monkeypatch):
    child.send(signal.SIGKILL)
    assert select.select([child.sentinel], [], [], 60)[0]
    reap(child.pid)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a stranger may have that id by now"))
    child.send(signal.SIGKILL)


def test_a_child_that_is_forked_by_the_child_does_not_hide_its_end(kind):
    told, tell = os.pipe()
    with Birth() as birth:
        pid = os.fork()
        if pid == 0:
            birth.be_born()
            grandchild = os.fork()
            if grandchild == 0:
                signal.pause()
            os.write(tell, str(grandchild).encode())
            os._exit(7)
        sentinel = birth.sentinel_of(pid)
    assert select.select([sentinel], [], [], 60)[0]
    assert reap(pid)[0] == 7
    os.kill(int(os.read(told, 100)), signal.SIGKILL)
    for fd in (sentinel, told, tell):
        os.close(fd)
