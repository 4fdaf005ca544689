"""What is sent to consumers, and whose sockets are watched for room."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from mpqueue.service.connections import Peer, Stage
from mpqueue.service.loop import Deliveries
from mpqueue.service.records import LOST
from mpqueue.system import descriptors
from mpqueue.transport.credentials import Credentials


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    descriptors.own_object(ours)
    peer = Peer(1, ours, Credentials(1, 0, 0), 0.0)
    peer.stage = Stage.ATTACHED
    yield peer, theirs
    peer.close()
    theirs.close()


def drain(sock: socket.socket) -> None:
    while True:
        try:
            sock.recv(1 << 16)
        except BlockingIOError:
            return


def test_a_socket_that_has_room_again_is_watched_for_room_no_more(pair: Any):
    peer, theirs = pair
    no_stream: Any = SimpleNamespace(share=None, release=None)  # no batch is dealt
    deliveries = Deliveries(no_stream, {1: peer}, None, 0)
    while not peer.is_full:
        deliveries.cut(1, LOST, "x" * 4000)
        changed = deliveries.flush()
    assert changed == [peer], "it is to be watched from now on"
    deliveries.cut(1, LOST, "more")
    assert deliveries.flush() == [], "it is watched already"
    drain(theirs)
    deliveries.cut(1, LOST, "more")
    assert deliveries.flush() == [peer], "or its room would wake the server again and again"
    assert not peer.is_full
