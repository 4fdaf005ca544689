"""Connections to an owner alone: who is accepted, and that all of them end with it."""

import socket
import threading
from types import SimpleNamespace

import pytest
from helpers.calls import DEADLOCK_S

from mpqueue.coordination import rendezvous
from mpqueue.queues import client
from mpqueue.queues.listener import Listener
from mpqueue.queues.wire import HEAD, Down, RecordPipe
from mpqueue.system.shared_poller import close_poller, make_shared_poller


@pytest.fixture
def pool():
    pipe = RecordPipe()
    segment = SimpleNamespace(size=4096, fd=pipe.write_fd)  # any descriptor can be sent
    yield SimpleNamespace(arena=SimpleNamespace(segment=segment)), pipe
    pipe.close()


@pytest.fixture
def listener():
    poller = make_shared_poller()
    made = Listener(poller)
    yield made
    made.close()
    close_poller(poller)


def test_who_connects_is_told_its_number(listener, pool):
    connections = [rendezvous.connect(listener.address) for _ in range(2)]
    for number, connection in enumerate(connections, 1):
        listener.accept(*pool)
        hello = HEAD.unpack(connection.recv(HEAD.size))
        assert hello == (Down.HELLO, number, 4096, pool[1].mark, 0)
    assert sorted(listener.clients) == [1, 2]
    for connection in connections:
        connection.close()


def test_nobody_is_waited_for_who_has_gone_before_being_accepted(listener, pool):
    """Under the hub's lock, where everybody else would wait as well."""
    accepting = threading.Thread(target=listener.accept, args=pool, daemon=True)
    accepting.start()
    accepting.join(DEADLOCK_S)
    assert not accepting.is_alive()
    assert listener.clients == {}


def test_all_connections_end_with_the_listener(pool):
    poller = make_shared_poller()
    listener = Listener(poller)
    with rendezvous.connect(listener.address) as connection:
        listener.accept(*pool)
        assert len(connection.recv(HEAD.size)) == HEAD.size
        listener.close()
        connection.settimeout(DEADLOCK_S)
        assert connection.recv(1) == b""
        with pytest.raises(ConnectionError, match="nobody listens"):
            rendezvous.connect(listener.address)
    close_poller(poller)


def test_who_asks_and_reads_no_answer_is_cut_off_before_the_answers_fill_the_memory(monkeypatch):
    monkeypatch.setattr(client, "_MAX_OUTBOX_BYTES", 1 << 20)
    ours, theirs = socket.socketpair()
    answers = client.Answers(ours, lambda: None)
    with theirs:
        for _ in range(100):
            answers.send(Down.DONE, 1, data=bytes(1 << 17))
        assert len(answers._outbox) < 1 << 21
        received = 0
        while data := theirs.recv(1 << 20):
            received += len(data)
        assert received < 1 << 23
    answers.close()
