"""Descriptors and what is called when they are ready; in which order a consumer is told."""

import os
import socket

import pytest

from mpqueue.service.connections import Handlers, Peer
from mpqueue.service.records import OFFER, Text, ToConsumer
from mpqueue.transport.credentials import credentials_of


@pytest.fixture
def handlers():
    made = Handlers()
    yield made
    made.close()


def test_a_descriptor_that_takes_the_number_of_a_closed_one_is_not_taken_for_ready(handlers):
    """Else a consumer that attaches in the moment in which another ends would be taken for dead."""
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


def test_what_was_offered_before_a_message_comes_before_it():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        peer = Peer(1, ours, credentials_of(ours), 0.0)
        offers, text = [bytes([number]) * OFFER.size for number in range(3)], Text(ToConsumer.SPEC, 0, 7, b"body")
        peer.offer(offers[0])
        peer.offer(offers[1])
        peer.tell(text)
        peer.offer(offers[2])
        assert peer.flush()
        assert [theirs.recv(1000) for _ in range(3)] == [offers[0] + offers[1], text.pack(), offers[2]]
