"""Authentication of peers: both ends prove the token without revealing it, and other users are refused."""

import os
import socket
import threading

import pytest
from helpers.deadlock import DEADLOCK_S

from mpqueue.transport import credentials
from mpqueue.transport.credentials import (
    Address,
    ForeignPeer,
    Vetting,
    check_peer,
    new_token,
    prove,
)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(DEADLOCK_S)
    yield ours, theirs
    ours.close()
    theirs.close()


class Proving:
    """A thread that connects."""

    def __init__(self, sock, token):
        self._sock, self._token, self.error = sock, token, None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            prove(self._sock, self._token)
        except OSError as error:
            self.error = error
            self._sock.close()

    def end(self):
        self.thread.join(DEADLOCK_S)
        return self.error


class Tapped:
    """A socket that records all of its data."""

    def __init__(self, sock):
        self._sock, self.family, self.heard, self.sent = sock, sock.family, b"", b""

    def recv(self, size):
        data = self._sock.recv(size)
        self.heard += data
        return data

    def recv_into(self, view):
        data = self.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def sendall(self, data, flags=0):
        self.sent += data
        self._sock.sendall(data, flags)


def heard(vetting):
    while not vetting.hear():
        pass


# The token


def test_two_ends_with_one_token_accept_each_other(ends):
    ours, theirs = ends
    token = new_token()
    proving = Proving(theirs, token)
    heard(Vetting(ours, token))
    assert proving.end() is None
    ours.sendall(b"what follows")  # the handshake is read completely, and no later data
    assert theirs.recv(100) == b"what follows"


def test_caller_without_token_is_refused_and_learns_nothing(ends):
    ours, theirs = ends
    proving = Proving(theirs, new_token())
    with pytest.raises(ForeignPeer, match="does not know the"):
        heard(Vetting(ours, new_token()))
    ours.close()
    assert isinstance(proving.end(), ConnectionResetError)


def test_listener_without_token_is_detected(ends):
    ours, theirs = ends
    proving = Proving(theirs, new_token())
    ours.sendall(os.urandom(16))
    assert len(ours.recv(100)) == 48
    ours.sendall(os.urandom(32))
    assert isinstance(proving.end(), ForeignPeer)
    assert ours.recv(100) == b""  # it received no more data


def test_listener_cannot_replay_proof_of_caller(ends):
    """A proof is valid for one role only, even with equal challenges."""
    ours, theirs = ends
    proving = Proving(theirs, new_token())
    ours.sendall(bytes(16))
    sent = ours.recv(100)
    ours.sendall(sent[16:])
    assert isinstance(proving.end(), ForeignPeer)


def test_data_of_another_connection_is_useless(ends):
    ours, theirs = ends
    token = new_token()
    tapped = Tapped(theirs)
    proving = Proving(tapped, token)
    heard(Vetting(ours, token))
    assert proving.end() is None
    again, replaying = socket.socketpair()
    with again, replaying:
        replaying.sendall(tapped.sent)
        with pytest.raises(ForeignPeer):
            heard(Vetting(again, token))
    assert token not in tapped.sent + tapped.heard


def test_proof_may_arrive_in_pieces_and_later_data_is_kept(ends):
    ours, theirs = ends
    token = new_token()
    ours.setblocking(False)
    vetting = Vetting(ours, token)
    theirs_challenge, own = theirs.recv(16), os.urandom(16)
    sent = own + credentials._proof(token, b"connects", theirs_challenge, own)
    for place in range(len(sent)):
        assert not vetting.hear()
        theirs.sendall(sent[place : place + 1])
    theirs.sendall(b"more")
    assert vetting.hear()
    assert ours.recv(100) == b"more"


@pytest.mark.parametrize("sent", [b"", b"half"])
def test_end_of_connection_is_not_a_proof(ends, sent):
    ours, theirs = ends
    vetting = Vetting(ours, new_token())
    theirs.sendall(sent)
    theirs.close()
    with pytest.raises(ConnectionError):
        heard(vetting)
    with pytest.raises(ConnectionError):
        prove(ours, new_token())


def test_token_appears_in_no_message():
    address = Address("\0mpqueue-1", 1000, new_token())
    assert str(address) == repr(address) == "'\\x00mpqueue-1' of uid 1000"
    assert new_token() != new_token()


# The user


def test_another_user_is_refused_as_peer(ends):
    with pytest.raises(ForeignPeer, match=f"of uid {os.geteuid() + 1}, got uid {os.geteuid()}") as caught:
        check_peer(ends[0], {os.geteuid() + 1})
    assert caught.value.credentials.uid == os.geteuid()
    assert isinstance(caught.value, ConnectionError)
