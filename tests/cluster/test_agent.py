"""The agent of a node, without a cluster: a process that fails says so to the trainer."""

import errno
import os
import pickle
import socket

import pytest

from mpqueue.cluster import agent as agents
from mpqueue.cluster.agent import Agent
from mpqueue.cluster.links import Links
from mpqueue.cluster.wire import FROM_AGENT, TO_AGENT, AgentTerms, FromAgent, ToAgent
from mpqueue.memory.slots import PAGE
from mpqueue.plan.ray_options import RayOptions
from mpqueue.system import processes
from mpqueue.transport.framing import receive_exactly
from mpqueue.worker import failures
from mpqueue.worker.config import WorkerConfig
from mpqueue.worker.context import WorkerInfo
from mpqueue.workers.launcher import LauncherGone

TERMS = AgentTerms(("127.0.0.1", 0), b"", 0, [], "/", "1", spawn=False, deadline_s=60.0)


@pytest.fixture
def connection():
    """The trainer's and the agent's end of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs


def messages_from(sock):
    """Return the agent's messages until the end of the connection: kind and body."""
    found = []
    while head := sock.recv(FROM_AGENT.size, socket.MSG_WAITALL):
        kind, _key, nbytes = FROM_AGENT.parse(head)
        found.append((kind, receive_exactly(sock, nbytes)))
    return found


def test_crash_of_fork_server_during_a_request_is_reported_once(connection, monkeypatch):
    """Without an error of the agent, which would replace the exit code."""
    ours, theirs = connection
    agent = Agent(theirs, TERMS)

    def is_gone(*_):
        raise LauncherGone

    monkeypatch.setattr(agent._fork_server, "start_worker", is_gone)
    config = pickle.dumps(WorkerConfig(WorkerInfo(0, 1, 0), 0, 4 * PAGE, "memfd", PAGE, None))
    ours.sendall(TO_AGENT.pack(ToAgent.START, 0, len(config)) + config)
    ours.shutdown(socket.SHUT_WR)
    try:
        agent.run()
    finally:
        agent.close()
    assert [kind for kind, _ in messages_from(ours)] == [FromAgent.ENDED]


def test_agent_without_pidfds_runs(connection, monkeypatch):
    """Old kernels lack them, and sandboxes deny them."""

    def denied(pid):
        if pid in {os.getpid(), os.getppid()}:
            raise OSError(errno.EPERM, "denied")
        return pidfd_open(pid)

    pidfd_open = os.pidfd_open

    monkeypatch.setattr(os, "pidfd_open", denied)
    processes.has_pidfds.cache_clear()
    try:
        Agent(connection[1], TERMS).close()
    finally:
        processes.has_pidfds.cache_clear()


def test_agent_that_cannot_be_created_reports_the_reason(connection, monkeypatch):
    ours, theirs = connection

    def exhausted():
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(agents, "_connect", lambda _: theirs)
    monkeypatch.setattr(agents, "_settle", lambda _: None)
    monkeypatch.setattr(agents, "make_poller", exhausted)
    with pytest.raises(OSError, match="too many open files"):
        agents.serve(TERMS)
    ((kind, body),) = messages_from(ours)
    assert kind == FromAgent.FAULT
    assert "too many open files" in str(failures.unpack(body))


def test_links_at_a_foreign_address_leave_no_descriptor():
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="assign"):
        Links(RayOptions.of({}), spawn=False, address="192.0.2.1", emit=print, choose=list)
    assert os.listdir("/proc/self/fd") == before
