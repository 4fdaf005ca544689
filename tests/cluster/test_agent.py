"""Agents, links and connections without a cluster: failures are reported, leave no resources, and run no code."""

import errno
import os
import pickle
import queue
import socket
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.deadlock import DEADLOCK_S
from helpers.wrapped_functions import wrap

from mpqueue.backends.ray import agent as agents
from mpqueue.backends.ray import wire
from mpqueue.backends.ray.agent import Agent, _connect
from mpqueue.backends.ray.connect import Node
from mpqueue.backends.ray.launcher import ClusterLauncher
from mpqueue.backends.ray.links import Links
from mpqueue.backends.ray.relay import LinkState, NodeLink, Relay
from mpqueue.backends.ray.wire import FROM_AGENT, TO_AGENT, AgentTerms, FromAgent, ToAgent, read_handshake
from mpqueue.backends.start.launcher import LauncherGone
from mpqueue.memory.slots import PAGE
from mpqueue.plan.options.ray_options import RayOptions
from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes import hash_seed, processes
from mpqueue.system.signals.joined_threads import JoinedThread
from mpqueue.transport.credentials import ForeignPeer, new_token
from mpqueue.transport.framing import receive_exactly
from mpqueue.worker import failures
from mpqueue.worker.config import WorkerConfig
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.records import GRANT, MAGIC, REPORT, GrantKind, ReportKind

TERMS = AgentTerms(("127.0.0.1", 0), b"", 0, [], [], "/", "1", spawn=False, deadline_s=60.0)


def exhausted(*_):
    raise OSError(errno.EMFILE, "too many open files")


@pytest.fixture
def connection():
    """The trainer's and the agent's end of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs


class OpenAgent(Agent):
    """An agent that shows its memory."""

    mirror = property(lambda self: self._mirror)


class OpenLinks(Links):
    """Links that show their socket."""

    listener = property(lambda self: self._listener)
    address = property(lambda self: self._listener.getsockname())
    token = property(lambda self: self._token)

    def end_time_of_start(self, link):
        self._agents[link] = None, None, 0.0


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

    monkeypatch.setattr(agents.ForkServer, "start_worker", is_gone)
    config = pickle.dumps(WorkerConfig(WorkerInfo(0, 1, 0), 0, 4 * PAGE, "memfd", PAGE, None))
    ours.sendall(TO_AGENT.pack(ToAgent.START, 0, len(config)) + config)
    ours.shutdown(socket.SHUT_WR)
    try:
        agent.run()
    finally:
        agent.close()
    assert [kind for kind, _ in messages_from(ours)] == [FromAgent.ENDED]


@pytest.fixture
def agent_and_workers(connection, monkeypatch):
    """A running agent, and a function that starts a worker: it returns the ends of its grants and reports."""
    agent, started, opened = OpenAgent(connection[1], TERMS), queue.SimpleQueue(), []
    monkeypatch.setattr(
        agents.ForkServer, "start_worker", lambda *parts: started.put([os.dup(fd) for fd in parts[3][:2]])
    )
    config = pickle.dumps(WorkerConfig(WorkerInfo(0, 1, 0), 0, 2 * SLOT_BYTES, "memfd", SLOT_BYTES, None))

    def start(key):
        connection[0].sendall(TO_AGENT.pack(ToAgent.START, key, len(config)) + config)
        opened.extend(started.get(timeout=DEADLOCK_S))
        return opened[-2:]

    thread = JoinedThread(agent.run, "agent")
    thread.start()
    yield agent, start
    connection[0].shutdown(socket.SHUT_WR)
    thread.join(DEADLOCK_S)
    agent.close()
    for fd in opened:
        os.close(fd)


SLOT_BYTES = 8 << 20


def test_new_source_remains_in_its_slot_until_all_workers_of_the_node_have_it(connection, agent_and_workers):
    """Also if batches are small, and one worker loads it before another has its grant."""
    trainer, (agent, start) = connection[0], agent_and_workers
    data = os.urandom(SLOT_BYTES // 2)
    grant = GRANT.pack(MAGIC, GrantKind.STATE, 1, 5, len(data), 0, len(data))
    filled = TO_AGENT.pack(ToAgent.FILLED, 0, len(grant) + len(data)) + grant + data
    (first, reports), (second, _) = start(0), start(1)
    trainer.sendall(filled)
    assert GRANT.unpack(os.read(first, GRANT.size))[6] >= len(data)
    assert agent.mirror.view(1, len(data)) == data
    os.write(reports, REPORT.pack(MAGIC, ReportKind.LOADED, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0))
    receive_exactly(trainer, FROM_AGENT.size + REPORT.size)
    assert not agent.mirror.relieve()
    trainer.sendall(TO_AGENT.pack(ToAgent.GRANTS, 1, len(grant)) + grant)
    os.read(second, GRANT.size)
    assert agent.mirror.view(1, len(data)) == data


def test_batch_before_invalid_data_of_a_worker_arrives_with_its_bytes(connection, agent_and_workers):
    """Its report must not reach the pool without them, and its slot becomes free again."""
    trainer, (agent, start) = connection[0], agent_and_workers
    grants, reports = start(0)

    def grant(slot):
        data = GRANT.pack(MAGIC, GrantKind.WORK, slot, 5, 0, 0, 0)
        trainer.sendall(TO_AGENT.pack(ToAgent.GRANTS, 0, len(data)) + data)
        os.read(grants, GRANT.size)

    grant(slot=1)
    agent.mirror.view(1, 3)[:] = b"abc"
    batch = REPORT.pack(MAGIC, ReportKind.BATCH, 0, 1, 5, 0, 0, 3, 1 << 16, 0, 0, 0)
    os.write(reports, batch + b"?" * REPORT.size)
    assert FROM_AGENT.parse(receive_exactly(trainer, FROM_AGENT.size)) == (FromAgent.REPORTS, 0, REPORT.size)
    assert receive_exactly(trainer, REPORT.size + 3) == batch + b"abc"
    assert FROM_AGENT.parse(receive_exactly(trainer, FROM_AGENT.size)) == (FromAgent.RAW, 0, 0)
    grant(slot=0)  # the agent has recorded by now that it has sent the batch
    assert agent.mirror.relieve()


def test_agent_without_pidfds_runs(connection, monkeypatch):
    """Old kernels lack them, and sandboxes deny them."""

    def denied(pidfd_open, pid):
        if pid in {os.getpid(), os.getppid()}:
            raise OSError(errno.EPERM, "denied")
        return pidfd_open(pid)

    wrap(monkeypatch, os, "pidfd_open", denied)
    processes.has_pidfds.cache_clear()
    try:
        Agent(connection[1], TERMS).close()
    finally:
        processes.has_pidfds.cache_clear()


@pytest.fixture
def trainer_end(connection, monkeypatch):
    """The trainer's end of the connection that an agent of this process will use."""
    ours, theirs = connection
    monkeypatch.setattr(agents, "_connect", lambda _: theirs)
    monkeypatch.setattr(agents, "_settle", lambda _: None)
    return ours


def reason_of_fault(sock):
    """Return the text of the only message of an agent, which is an error."""
    ((kind, body),) = messages_from(sock)
    assert kind == FromAgent.FAULT
    return str(failures.unpack(body))


def test_agent_that_cannot_be_created_reports_the_reason(trainer_end, monkeypatch):
    monkeypatch.setattr(agents, "make_poller", exhausted)
    with pytest.raises(OSError, match="too many open files"):
        agents.serve(TERMS)
    assert "too many open files" in reason_of_fault(trainer_end)


def test_system_error_in_an_agent_is_reported_to_the_trainer(trainer_end, monkeypatch):
    """It is not mistaken for the end of the connection, which would hide the reason."""
    monkeypatch.setattr(agents.ForkServer, "send_patch", exhausted)
    head = pickle.dumps((0, [], {}, {}))
    trainer_end.sendall(TO_AGENT.pack(ToAgent.SOURCE, 0, len(head)) + head)
    agents.serve(TERMS)
    assert "too many open files" in reason_of_fault(trainer_end)


NODE = Node("a node", "192.0.2.1", {})


def with_a_worker(link):
    link.workers[7] = SimpleNamespace(key=7, flush=lambda: True, close=lambda: None)
    return link


def without_agents(monkeypatch, start_agent=lambda *_: (None, None)):
    """Open links to nodes without agents."""
    monkeypatch.setattr("mpqueue.backends.ray.links.start_agent", start_agent)
    monkeypatch.setattr("mpqueue.backends.ray.links.reason_of", lambda _: None)
    monkeypatch.setattr("mpqueue.backends.ray.links.end_agent", lambda _: None)


@pytest.fixture
def links_and_events():
    """The links of a pool, and a queue of its events."""
    events = queue.SimpleQueue()
    made = OpenLinks(RayOptions.of({}), spawn=False, address="127.0.0.1", emit=events.put, choose=lambda _: [])
    yield made, events
    made.close()


def test_workers_of_a_link_without_a_relay_are_reported(links_and_events, monkeypatch):
    """Otherwise a start would wait for them forever."""

    monkeypatch.setattr("mpqueue.backends.ray.links.Relay", exhausted)
    made, events = links_and_events
    link = with_a_worker(NodeLink("a node", "a node", events.put, is_late=False))
    made.past.append(link)
    with socket.create_connection(made.address, DEADLOCK_S) as sock:
        wire.greet(sock, made.token, 0)
        event = events.get(timeout=DEADLOCK_S)
    assert event.key == 7
    assert "too many open files" in str(event.error)
    assert link.state is LinkState.LOST


def test_crash_of_a_fork_server_ends_its_link_at_once(connection):
    """Also while the connection remains open: the workers exit with the code of the fork server."""
    ours, theirs = connection
    events = queue.SimpleQueue()
    link = with_a_worker(NodeLink("a node", "a node", events.put, is_late=False))
    assert link.come_up()
    thread = JoinedThread(Relay(link, descriptors.own_socket(theirs), DEADLOCK_S).run, "relay")
    ours.sendall(FROM_AGENT.pack(FromAgent.ENDED, 0, wire.PID.size) + wire.PID.pack(-9))
    thread.start()
    event = events.get(timeout=2 * DEADLOCK_S)
    assert (event.key, event.exitcode, event.lost) == (7, -9, "")
    thread.join(DEADLOCK_S)
    assert link.state is LinkState.LOST


def test_connection_without_a_thread_is_closed_and_the_next_one_is_served(links_and_events, monkeypatch):
    """The thread that accepts connections also finds agents that have failed."""
    made, _ = links_and_events
    starts = []

    def start_later(start, thread):
        starts.append(thread)
        if len(starts) == 1:
            raise OSError(errno.EAGAIN, "can't start new thread")
        start(thread)

    wrap(monkeypatch, JoinedThread, "start", start_later)
    for expected in (0, 16):  # bytes of the challenge
        with socket.create_connection(made.address, DEADLOCK_S) as sock:
            assert len(sock.recv(16)) == expected


def test_lack_of_descriptors_is_reported_until_connections_are_accepted_again(links_and_events, monkeypatch, caplog):
    made, events = links_and_events
    listener, tries = made.listener, queue.SimpleQueue()
    short = SimpleNamespace(fileno=listener.fileno, accept=lambda: [tries.put(None), exhausted()])
    without_agents(monkeypatch)
    monkeypatch.setattr(made, "_nodes", lambda: [NODE])
    link = with_a_worker(made.open(NODE, 1, is_late=False))
    with monkeypatch.context() as patch:
        patch.setattr(made, "_listener", short)  # before the connection, which the real one would accept
        with socket.create_connection(listener.getsockname(), DEADLOCK_S) as sock:
            for _ in range(2):
                tries.get(timeout=DEADLOCK_S)
            assert ["cannot accept connections" in record.message for record in caplog.records] == [True]
            made.end_time_of_start(link)
            error = events.get(timeout=DEADLOCK_S).error
            patch.undo()
            assert len(sock.recv(16)) == 16  # the challenge
    assert "accept its connection" in str(error)
    assert "too many open files" in str(error)


def test_node_whose_agent_could_not_be_created_is_free_for_another_one(links_and_events, monkeypatch):
    """Otherwise workers would be placed there, and wait for the agent forever."""

    def fails(*_):
        raise RuntimeError("no placement group")

    made, _ = links_and_events
    monkeypatch.setattr("mpqueue.backends.ray.links.start_agent", fails)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(RuntimeError, match="no placement group"):
        made.open(NODE, 1, is_late=True)
    assert not made.by_node
    assert made.past[0].state is LinkState.LOST
    assert os.listdir("/proc/self/fd") == before


def test_node_that_two_threads_open_at_once_gets_one_agent(links_and_events, monkeypatch):
    """The consumer's thread restarts a worker there while the other one finds that the node has returned."""
    made, _ = links_and_events
    found, threads = [], []

    def open_it():
        found.append(made.open(NODE, 1, is_late=True))

    def start_agent(*_):
        if not threads:
            threads.append(JoinedThread(open_it, "other"))
            threads[0].start()
        return None, None

    without_agents(monkeypatch, start_agent)
    open_it()
    threads[0].join(DEADLOCK_S)
    assert found == [made.by_node["a node"]] * 2
    assert made.past == found[:1]


def test_links_survive_a_failing_choice_of_nodes(monkeypatch):
    """Ray may fail to answer a request about nodes or placement groups for a while."""
    calls = queue.SimpleQueue()

    def choose(nodes):
        calls.put(nodes)
        raise RuntimeError("Ray does not answer")

    monkeypatch.setattr("mpqueue.backends.ray.links.LOOK_S", 0.01)
    monkeypatch.setattr(Links, "_nodes", staticmethod(list))
    made = Links(RayOptions.of({}), spawn=False, address="127.0.0.1", emit=print, choose=choose)
    try:
        for _ in range(2):
            assert calls.get(timeout=DEADLOCK_S) == []
    finally:
        made.close()


def test_launcher_forgets_a_worker_that_could_not_be_started(monkeypatch):
    monkeypatch.setattr("mpqueue.backends.ray.launcher.RemoteWorker", exhausted)
    launcher = ClusterLauncher.__new__(ClusterLauncher)
    launcher.own, where = "", {}
    monkeypatch.setattr(launcher, "_where", where, raising=False)
    monkeypatch.setattr(launcher, "_segment", object(), raising=False)
    monkeypatch.setattr(launcher, "_place", lambda _: "a node")
    with pytest.raises(OSError, match="too many open files"):
        launcher.start_worker(7, WorkerConfig(WorkerInfo(0, 1, 0), 0, 4 * PAGE, "memfd", PAGE, None), None)
    assert not where


def test_links_at_a_foreign_address_leave_no_descriptor():
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="assign"):
        Links(RayOptions.of({}), spawn=False, address="192.0.2.1", emit=print, choose=list)
    assert os.listdir("/proc/self/fd") == before


def test_agent_has_the_command_line_of_the_trainer(monkeypatch, tmp_path):
    for name in ("argv", "path"):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(hash_seed.VARIABLE, "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")  # as Ray does in a running process: the CPUs of all workers
    agents._settle(TERMS._replace(argv=["train.py", "--rate", "3"]))
    assert sys.argv == ["train.py", "--rate", "3"]
    assert "OMP_NUM_THREADS" not in os.environ or b"OMP_NUM_THREADS=" in Path("/proc/self/environ").read_bytes()


@pytest.mark.parametrize("as_trainer", ["the token of another", "no token"])
def test_agent_accepts_nothing_from_process_on_port_of_crashed_trainer(as_trainer, tmp_path):
    """The trainer has crashed, and another process has taken its port."""

    class Marking:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "code_ran"),)

    def impostor():
        connection, _ = listener.accept()
        with connection:
            if as_trainer == "no token":
                connection.sendall(bytes(16))
                connection.recv(48)
                connection.sendall(bytes(32))
            else:
                with pytest.raises(ForeignPeer):
                    read_handshake(connection, new_token())
            body = pickle.dumps(Marking())
            connection.sendall(TO_AGENT.pack(wire.ToAgent.START, 1, len(body)) + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=impostor)
        thread.start()
        terms = AgentTerms(listener.getsockname(), new_token(), 0, [], [], "/", "0", False, 10.0)
        with pytest.raises(ConnectionError):
            _connect(terms)
        thread.join(60)
    assert not list(tmp_path.iterdir())
