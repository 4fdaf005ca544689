"""Messages over a stream: of all sizes, in pieces, and with descriptors."""

import contextlib
import itertools
import os
import socket

import pytest
from helpers.damaged_bytes import bent, edits
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqueue.transport.framing import (
    Incoming,
    Outgoing,
    close_descriptors,
    receive_with_descriptors,
    send_with_descriptors,
)
from mpqueue.transport.records import ProtocolError, RecordType

HEAD = RecordType("kind:B key:I nbytes:Q", kinds=(1, 2))


class Both:
    """A pair of ends that receive messages of kind 1 as bytes, and messages of kind 2 into a view."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs
        self.received = []
        for end in (ours, theirs):
            end.setblocking(False)
        self.outgoing, self.incoming = Outgoing(ours), Incoming(theirs, self._messages())

    def _messages(self):
        while True:
            kind, key, nbytes = HEAD.parse((yield HEAD.size))
            if kind == 1:
                self.received.append((kind, key, (yield nbytes)))
            else:
                if nbytes > 1 << 24:  # damaged: the view would never be filled
                    raise ProtocolError("too much")
                view = memoryview(bytearray(nbytes))
                yield view
                self.received.append((kind, key, bytes(view)))

    def put(self, kind, key, payload):
        self.outgoing.put(HEAD.pack(kind, key, len(payload)), payload)

    def carry(self):
        """Transfer all pending bytes."""
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
        both.put(1, key, bytes([key % 251]) * key)
    both.carry()
    assert both.received == [(1, key, bytes([key % 251]) * key) for key in range(300)]


@settings(max_examples=part_of(100, 4))
@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 9), st.binary(max_size=99)), max_size=4), edits)
def test_messages_before_damage_are_delivered(messages, edits):
    """The damaged stream ends in an error, or waits for more."""
    packed = [HEAD.pack(kind, key, len(body)) + body for kind, key, body in messages]
    good = b"".join(packed)
    damaged = bent(good, edits)
    first = next((at for at, pair in enumerate(zip(good, damaged, strict=False)) if pair[0] != pair[1]), len(damaged))
    both = Both(*socket.socketpair())
    both.ours.sendall(damaged)
    both.ours.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ProtocolError):
        while both.incoming.take():
            pass
    both.close()
    num_whole = sum(end <= first for end in itertools.accumulate(map(len, packed)))
    assert both.received[:num_whole] == messages[:num_whole]


@pytest.mark.parametrize("nbytes", [0, 1, 65_535, 65_536, 70_000, 9_000_001])
def test_payloads_of_any_size_are_received_into_their_view(both, nbytes):
    payload = os.urandom(nbytes)
    for key in range(3):
        both.put(2, key, payload)
        both.put(1, key, b"between")
    both.carry()
    assert both.received == [message for key in range(3) for message in ((2, key, payload), (1, key, b"between"))]


def test_when_sent_is_called_after_the_send(both):
    calls = []
    both.put(2, 0, bytes(8 << 20))
    both.outgoing.when_sent(lambda: calls.append("large"))
    both.outgoing.flush()
    assert calls == []
    both.carry()
    assert calls == ["large"]


def test_too_large_body_is_refused(both):
    both.outgoing.put(HEAD.pack(1, 0, 1 << 30))
    both.outgoing.flush()
    with pytest.raises(ProtocolError, match="got 1073741824"):
        both.incoming.take()


def test_end_of_peer_is_end_of_messages(both):
    both.ours.close()
    assert both.incoming.take() is False


def test_received_descriptors_are_not_inherited_and_bounded_in_number(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs, open(tmp_path / "file", "w") as file:
        before = os.listdir("/proc/self/fd")
        send_with_descriptors(theirs, b"!?", [file.fileno()] * 3)
        data, fds = receive_with_descriptors(ours, 1, 2)
        assert data == b"!"
        assert len(fds) <= 2
        assert not any(map(os.get_inheritable, fds))
        close_descriptors(fds)
        assert ours.recv(1) == b"?"
        assert os.listdir("/proc/self/fd") == before
