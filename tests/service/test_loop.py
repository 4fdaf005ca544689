"""Messages sent to consumers, and the descriptors that the server watches."""

import contextlib
import math
import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from mpqueue.service.protocol.records import LOST, Text, ToConsumer, unpack_down
from mpqueue.service.serving.connections import Handlers, Peer, Stage
from mpqueue.service.serving.deliveries import Deliveries
from mpqueue.system.descriptors import descriptors
from mpqueue.transport.credentials import Credentials

NO_SLOTS = SimpleNamespace(share=None, release=None)


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


def test_messages_are_kept_while_socket_is_full(pair: Any):
    peer, theirs = pair
    sent = [
        Text(ToConsumer.CUT, LOST, number, bytes([number % 251]) * (1 + number * 7 % 5000)) for number in range(1000)
    ]
    for text in sent:
        peer.tell(text)
    assert not peer.flush(), "the socket must become full for this test"
    received: list[Any] = []
    while len(received) < len(sent):
        with contextlib.suppress(BlockingIOError):
            while True:
                received += unpack_down(theirs.recv(1 << 14))
        peer.flush()
    assert received == sent
    assert not peer.is_full


def test_writable_socket_is_not_watched_anymore(pair: Any):
    peer, theirs = pair
    no_stream: Any = SimpleNamespace(slots=NO_SLOTS)  # no batch is routed
    deliveries = Deliveries(no_stream, None)
    deliveries.peers[1] = peer
    while not peer.is_full:
        deliveries.cut(1, LOST, "x" * 4000)
        changed = deliveries.flush()
    assert changed == [peer], "it must be watched for writability"
    deliveries.cut(1, LOST, "more")
    assert deliveries.flush() == [], "it is already watched"
    drain(theirs)
    deliveries.cut(1, LOST, "more")
    assert deliveries.flush() == [peer], "a writable socket would otherwise wake the server repeatedly"
    assert not peer.is_full


def test_end_of_an_epoch_is_sent_before_the_next_one_is_journaled(pair: Any):
    """A server killed in between would leave a consumer of a broadcast one epoch late for the next server."""
    peer, theirs = pair
    received: list[Any] = []

    def begin(epoch: int, *_: object, **__: object) -> None:
        if epoch == 4:
            received.append((epoch, [(end.kind, end.epoch) for end in unpack_down(theirs.recv(1 << 14))]))

    hooks: dict[str, Any] = {"finish_epoch": lambda: None, "next_point": lambda: None, "source_state": lambda: None}
    stream: Any = SimpleNamespace(slots=NO_SLOTS, **hooks)
    journal: Any = SimpleNamespace(begin=begin)
    deliveries = Deliveries(stream, journal)
    deliveries.peers[1] = peer
    deliveries.end(1, 3, 0)
    deliveries.finish_epoch(3)
    assert received == [(4, [(ToConsumer.END, 3)])]
    while not peer.is_full:
        deliveries.end(1, 4, 0)
        deliveries.finish_epoch(4)
    assert deliveries.flush() == [peer], "it must be watched for writability"


# -- Handlers of ready descriptors


@pytest.fixture
def handlers():
    made = Handlers()
    yield made
    made.close()


def test_reused_descriptor_number_is_not_taken_for_ready(handlers):
    """Otherwise a consumer that attaches during a disconnection would be taken for crashed."""
    called = []
    pipes = {name: os.pipe() for name in ("one", "other")}

    def close_the_other(name, other):
        called.append(name)
        handlers.unwatch(pipes[other][0])
        os.dup2(quiet, pipes[other][0])
        handlers.watch(pipes[other][0], lambda: called.append("quiet"))

    quiet, unused = os.pipe()
    handlers.watch(pipes["one"][0], lambda: close_the_other("one", "other"))
    handlers.watch(pipes["other"][0], lambda: close_the_other("other", "one"))
    for _, write_end in pipes.values():
        os.write(write_end, b"x")
    handlers.wait(0)
    assert called in (["one"], ["other"])
    for fd in (quiet, unused, *pipes["one"], *pipes["other"]):
        os.close(fd)


@pytest.mark.parametrize("timeout_s", [1e9, math.inf])
def test_wait_of_any_length_ends_with_a_ready_descriptor(handlers, timeout_s):
    """A lease, or the time of a rank's reservation, may be unlimited."""
    called, (read_end, write_end) = [], os.pipe()
    handlers.watch(read_end, lambda: called.append(True))
    os.write(write_end, b"x")
    handlers.wait(timeout_s)
    assert called
    handlers.unwatch(read_end)
    os.close(read_end)
    os.close(write_end)
