"""The listener alone: which connections are accepted, and that all end with it."""

import errno
import os
import select
import socket
from types import SimpleNamespace

import pytest
from golden.outcomes import Background
from tf1.helpers.blocking_calls import DEADLOCK_S

from mpqueue.tf1.coordination import door
from mpqueue.tf1.coordination.door import connect
from mpqueue.tf1.queues import client
from mpqueue.tf1.queues.client import Listener
from mpqueue.tf1.queues.wire import HEAD, Down, RecordPipe
from mpqueue.transport import credentials
from mpqueue.transport.credentials import Credentials, new_token
from mpqueue.transport.poller import close_poller, make_poller


@pytest.fixture
def pool():
    pipe = RecordPipe()
    segment = SimpleNamespace(size=4096, fd=pipe.write_fd)  # any descriptor can be sent
    yield SimpleNamespace(arena=SimpleNamespace(segment=segment)), pipe
    pipe.close()


@pytest.fixture
def poller():
    made = make_poller()
    yield made
    close_poller(made)


@pytest.fixture
def listener(poller):
    made = Listener(poller)
    yield made
    made.close()


def attend(listener, poller, pool, timeout=DEADLOCK_S):
    """Make the listener handle the next events, and return them."""
    events = poller.poll(timeout)
    for fd, event in events:
        listener.attend(fd, event, *pool)
    return events


class Connecting(Background):
    """A call that connects in a thread, because it waits for the listener, which is served in the meantime."""

    def __init__(self, listener, poller, pool, address=None):
        known = len(listener.clients)
        super().__init__(connect, address or listener.address)
        while self.thread.is_alive() or (self.error is None and len(listener.clients) == known):
            attend(listener, poller, pool, 0.05)
        self.connection = self.value


def test_connection_without_token_gets_neither_number_nor_descriptor(listener, poller, pool):
    address = listener.address._replace(token=new_token())
    assert isinstance(Connecting(listener, poller, pool, address).error, ConnectionError)
    assert listener.clients == {}
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(listener.address.path)
        attend(listener, poller, pool)
        challenge, fds, _, _ = socket.recv_fds(silent, 4096, 4)
        assert (len(challenge), fds) == (16, [])
        silent.send(bytes(47))
        assert not select.select([silent], [], [], 0)[0]  # it waits for the rest of the proof
        silent.send(b"!")
        attend(listener, poller, pool)
        assert silent.recv(1) == b""
    assert listener.clients == {}


def test_connection_of_another_user_is_closed_at_once(listener, poller, pool, monkeypatch):
    monkeypatch.setattr(credentials, "credentials_of", lambda _: Credentials(1, os.geteuid() + 1, 0))
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(listener.address.path)
        attend(listener, poller, pool)
        assert other.recv(1) == b""


def test_client_that_disconnects_before_accept_does_not_block(listener, poller, pool):
    """It would block under the hub's lock, where all others would wait."""
    with socket.socket(socket.AF_UNIX) as accepted:
        accepted.connect(listener.address.path)
        events = attend(listener, poller, pool)
    Background(listener.attend, *events[0], *pool).finish()
    assert listener.clients == {}


def test_all_connections_end_with_the_listener(poller, pool):
    listener = Listener(poller)
    with Connecting(listener, poller, pool).connection as connection:
        assert len(connection.recv(HEAD.size)) == HEAD.size
        listener.close()
        connection.settimeout(DEADLOCK_S)
        assert connection.recv(1) == b""
        with pytest.raises(ConnectionError, match="No process listens"):
            connect(listener.address)


def test_client_that_reads_no_answers_is_disconnected_before_memory_fills(monkeypatch):
    monkeypatch.setattr(client, "_MAX_OUTBOX_BYTES", 1 << 20)
    ours, theirs = socket.socketpair()
    answers = client.Answers(ours, lambda: None)
    with theirs:
        for _ in range(100):
            answers.send(Down.DONE, 1, data=bytes(1 << 17))
        received = 0
        while data := theirs.recv(1 << 20):
            received += len(data)
        assert received < 1 << 23
    answers.close()


def test_end_of_connection_seen_by_two_threads_closes_no_other_connection(listener, poller, pool):
    """The second thread handles it when the descriptor number belongs to a new connection."""
    first = Connecting(listener, poller, pool)
    (fd,) = (one.answers.sock.fileno() for one in listener.clients.values())
    first.connection.close()
    seen = [poller.poll(DEADLOCK_S) for _ in range(2)]
    assert seen[0] == seen[1] == [(fd, seen[0][0][1])]
    assert listener.attend(*seen[0][0], *pool).number == 1
    second = Connecting(listener, poller, pool)
    assert listener.clients[2].answers.sock.fileno() == fd
    assert listener.attend(*seen[1][0], *pool) is None
    assert list(listener.clients) == [2]
    listener.clients[2].answers.send(Down.DONE, 7)
    second.connection.recv(HEAD.size)
    assert HEAD.unpack(second.connection.recv(HEAD.size))[1] == 7
    second.connection.close()


def test_missing_descriptors_pause_the_listener_and_are_logged_once(listener, poller, pool, monkeypatch, caplog):
    """The listening socket remains readable: without a pause, polling it would use a whole CPU."""
    pauses, accept = [], door.accept

    def accept_late(*args):
        if len(pauses) < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(*args)

    monkeypatch.setattr(door, "accept", accept_late)
    monkeypatch.setattr(door, "time", SimpleNamespace(sleep=pauses.append))
    Connecting(listener, poller, pool).connection.close()
    assert len(pauses) == 3
    assert caplog.text.count("ulimit -n") == 1
