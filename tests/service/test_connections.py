"""Handlers of ready descriptors, and the order of messages to a consumer."""

import errno
import os
import socket
from types import SimpleNamespace

import pytest

from mpqueue.service import connections
from mpqueue.service.connections import Handlers, Peer, Reception
from mpqueue.service.records import OFFER, Text, ToConsumer
from mpqueue.transport.credentials import credentials_of


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


def test_offers_are_sent_before_later_message():
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


@pytest.fixture
def reception(handlers, monkeypatch):
    """A reception with a controlled clock, and the results of its `accept`: errors or connections that end at once."""
    ours, theirs = socket.socketpair()
    state = SimpleNamespace(now=1000.0, error=OSError(errno.EMFILE, "Too many open files"))

    def accept(*_):
        if state.error is not None:
            raise state.error
        there, here = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        there.close()
        return here

    monkeypatch.setattr(connections, "accept", accept)
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: state.now))
    with ours, theirs:
        made = Reception(handlers, ours, frozenset({os.geteuid()}), lambda _: None)

        def run(seconds):
            """Make a connection wait for this time; return when there were warnings."""
            until = state.now + seconds
            theirs.send(b"x")
            while state.now < until:
                made.look(state.now)
                handlers.wait(0)
                state.now = min(until, made.due_at() or until)

        yield SimpleNamespace(run=run, state=state, made=made)
        made.close()


def test_failing_accept_is_logged_once_and_then_at_doubling_intervals(reception, caplog):
    counts = []
    for _ in range(8):
        reception.run(10.0 * 2 ** len(counts))
        counts.append(len(caplog.records))
    assert counts == list(range(1, 9))
    first, second, *_ = [record.getMessage() for record in caplog.records]
    assert "cannot accept connections: [Errno 24] Too many open files; check `ulimit -n`" in first
    assert "cannot accept connections, for 10 s so far" in second
