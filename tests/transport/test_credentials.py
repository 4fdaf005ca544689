"""Authentication of peers: both ends prove the token without revealing it, and other users are rejected."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from helpers.deadlock import DEADLOCK_S

from mpqueue.transport import credentials
from mpqueue.transport.credentials import Address, ForeignPeer, Vetting, check_peer, new_token, prove


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(DEADLOCK_S)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def proving():
    """Return a call that proves the token in a thread, as a process that connects, and returns a future."""

    def proved(sock, token):
        try:
            prove(sock, token)
        except OSError:
            sock.close()
            raise

    with ThreadPoolExecutor(1) as pool:
        yield partial(pool.submit, proved)


def heard(vetting):
    while not vetting.hear():
        pass


# The token


def test_two_ends_with_one_token_accept_each_other(ends, proving):
    ours, theirs = ends
    token = new_token()
    proof = proving(theirs, token)
    heard(Vetting(ours, token))
    assert proof.exception(DEADLOCK_S) is None
    ours.sendall(b"what follows")  # the handshake is read completely, and no later data
    assert theirs.recv(100) == b"what follows"


def test_caller_without_token_is_refused_and_learns_nothing(ends, proving):
    ours, theirs = ends
    proof = proving(theirs, new_token())
    with pytest.raises(ForeignPeer, match="does not know the"):
        heard(Vetting(ours, new_token()))
    ours.close()
    assert isinstance(proof.exception(DEADLOCK_S), ConnectionResetError)


def test_listener_without_token_is_detected(ends, proving):
    ours, theirs = ends
    proof = proving(theirs, new_token())
    ours.sendall(os.urandom(16))
    assert len(ours.recv(100)) == 48
    ours.sendall(os.urandom(32))
    assert isinstance(proof.exception(DEADLOCK_S), ForeignPeer)
    assert ours.recv(100) == b""  # it received no more data


def test_listener_cannot_replay_proof_of_caller(ends, proving):
    """A proof is valid for one role only, even with equal challenges."""
    ours, theirs = ends
    proof = proving(theirs, new_token())
    ours.sendall(bytes(16))
    sent = ours.recv(100)
    ours.sendall(sent[16:])
    assert isinstance(proof.exception(DEADLOCK_S), ForeignPeer)


def test_data_of_another_connection_is_useless(ends, proving):
    ours, theirs = ends
    token = new_token()
    vetting, proof = Vetting(ours, token), proving(theirs, token)
    sent = ours.recv(48, socket.MSG_PEEK | socket.MSG_WAITALL)
    heard(vetting)
    assert proof.exception(DEADLOCK_S) is None
    again, replaying = socket.socketpair()
    with again, replaying:
        replaying.sendall(sent)
        with pytest.raises(ForeignPeer):
            heard(Vetting(again, token))
    assert token not in sent


def test_proof_may_arrive_in_pieces_and_later_data_is_kept(ends):
    ours, theirs = ends
    token = new_token()
    ours.setblocking(False)
    vetting = Vetting(ours, token)
    theirs_challenge, own = theirs.recv(16), os.urandom(16)
    sent = own + credentials._proof(token, b"connects", theirs_challenge, own)
    for position in range(len(sent)):
        assert not vetting.hear()
        theirs.sendall(sent[position : position + 1])
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
    assert isinstance(caught.value, ConnectionError)
