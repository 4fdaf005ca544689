"""The connection between trainer and agent: messages of all sizes in any pieces, plain and encrypted."""

import os
import pickle
import socket
import threading

import pytest
from helpers.certificates import certificates

from mpqueue.cluster import wire
from mpqueue.cluster.agent import _connect
from mpqueue.cluster.terms import Terms
from mpqueue.cluster.wire import HEAD, Incoming, Outgoing, ProtocolError, greet, read_greeting
from mpqueue.transport.credentials import new_token


class Both:
    """Two ends of a connection, and what one has received of the other."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs
        self.received = []
        for end in (ours, theirs):
            end.setblocking(False)
        self.outgoing, self.incoming = Outgoing(ours), Incoming(theirs, self._messages())

    def _messages(self):
        while True:
            kind, key, nbytes = HEAD.unpack((yield HEAD.size))
            if kind == 1:
                self.received.append((kind, key, (yield nbytes)))
            else:
                view = memoryview(bytearray(nbytes))
                yield view
                self.received.append((kind, key, bytes(view)))

    def carry(self):
        """Move all that is to be moved."""
        is_open = True
        while not self.outgoing.flush() and is_open:
            is_open = self.incoming.take()
        self.incoming.take()

    def close(self):
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def both():
    made = Both(*socket.socketpair())
    yield made
    made.close()


def test_messages_arrive_in_order_with_their_bodies(both):
    for key in range(300):
        both.outgoing.put(1, key, bytes([key % 251]) * key)
    both.carry()
    assert both.received == [(1, key, bytes([key % 251]) * key) for key in range(300)]


@pytest.mark.parametrize("nbytes", [0, 1, 65_535, 65_536, 70_000, 9_000_001])
def test_payloads_of_any_size_are_received_where_they_belong(both, nbytes):
    payload = os.urandom(nbytes)
    for key in range(3):
        both.outgoing.put_sized(2, key, nbytes, payload)
        both.outgoing.put(1, key, b"between")
    both.carry()
    assert both.received == [message for key in range(3) for message in ((2, key, payload), (1, key, b"between"))]


def test_who_has_put_something_learns_when_it_is_sent(both):
    told = []
    both.outgoing.put_sized(2, 0, 8 << 20, bytes(8 << 20))
    both.outgoing.when_sent(lambda: told.append("large"))
    both.outgoing.flush()
    assert told == []
    both.carry()
    assert told == ["large"]


def test_a_body_that_no_message_has_is_refused(both):
    both.outgoing.put_sized(1, 0, 1 << 30, b"")
    both.outgoing.flush()
    with pytest.raises(ProtocolError, match="1073741824 bytes"):
        both.incoming.take()


def test_the_end_of_the_other_side_is_the_end(both):
    both.ours.close()
    assert both.incoming.take() is False


def both_greet(token, other_token):
    """What the trainer has read of an agent's greeting, and the agent's error."""
    ours, theirs = socket.socketpair()
    errors = []

    def agent():
        try:
            greet(theirs, other_token, 7)
        except OSError as error:
            errors.append(error)
        finally:
            theirs.close()

    thread = threading.Thread(target=agent)
    thread.start()
    with ours:
        number = read_greeting(ours, token)
    thread.join(60)
    return number, errors


def test_only_who_has_the_token_is_let_in():
    token = new_token()
    assert both_greet(token, token) == (7, [])
    number, (error,) = both_greet(token, new_token())
    assert number is None
    assert isinstance(error, ConnectionError)


@pytest.mark.parametrize("said", [b"", b"too little", bytes(48)])
def test_who_says_anything_else_is_not_let_in(said):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        if len(said) < 48:
            with pytest.raises(ConnectionError):
                read_greeting(ours, new_token())
        else:
            assert read_greeting(ours, new_token()) is None


@pytest.mark.parametrize("as_trainer", ["the token of another", "no token"])
def test_an_agent_takes_nothing_from_who_listens_in_the_place_of_its_trainer(as_trainer, tmp_path):
    """A trainer has died, and its port is somebody else's."""

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
                read_greeting(connection, new_token())
            body = pickle.dumps(Marking())
            connection.sendall(HEAD.pack(wire.ToAgent.START, 1, len(body)) + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=impostor)
        thread.start()
        terms = Terms(listener.getsockname(), new_token(), 0, [], "/", "0", False, 10.0)
        with pytest.raises(ConnectionError):
            _connect(terms)
        thread.join(60)
    assert not list(tmp_path.iterdir())


def test_with_rays_certificates_the_connection_is_encrypted(tmp_path, monkeypatch):
    for name, value in certificates(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert wire.uses_tls()
    ours, theirs = socket.socketpair()
    wrapped = []
    thread = threading.Thread(target=lambda: wrapped.append(wire.wrap(theirs, is_server=True)))
    thread.start()
    client = wire.wrap(ours, is_server=False)
    thread.join(60)
    both = Both(client, wrapped[0])
    assert both.ours.cipher() is not None
    payload = os.urandom(3_000_000)
    both.outgoing.put_sized(2, 1, len(payload), payload)
    both.outgoing.put(1, 2, b"after it")
    both.carry()
    assert both.received == [(2, 1, payload), (1, 2, b"after it")]
    both.close()


def test_who_has_no_certificate_of_rays_authority_is_refused(tmp_path, monkeypatch):
    import ssl

    for name, value in certificates(tmp_path).items():
        monkeypatch.setenv(name, value)
    ours, theirs = socket.socketpair()
    errors = []

    def accept():
        try:
            wire.wrap(theirs, is_server=True)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=accept)
    thread.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(ours) as client:
        thread.join(60)
        assert isinstance(errors[0], ssl.SSLError)
        client.close()
    theirs.close()
