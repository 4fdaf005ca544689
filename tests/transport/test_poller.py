"""The poller that several threads may wait for."""

import os
import socket
import threading
import time

import pytest
from helpers.deadlock import DEADLOCK_S

from mpqueue.transport.poller import (
    READABLE,
    WRITABLE,
    close_poller,
    has_hung_up,
    make_poller,
    wait_readable,
)


@pytest.fixture
def poller():
    made = make_poller()
    yield made
    close_poller(made)


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_ready_descriptors_are_reported_with_events(poller, pipe):
    read_end, write_end = pipe
    poller.register(read_end, READABLE)
    assert poller.poll(0) == []
    poller.register(write_end, WRITABLE)
    assert poller.poll(DEADLOCK_S) == [(write_end, WRITABLE)]
    poller.modify(write_end, 0)
    os.write(write_end, b"!")
    assert poller.poll(DEADLOCK_S) == [(read_end, READABLE)]
    poller.unregister(read_end)
    assert poller.poll(0) == []


def test_descriptor_registered_during_wait_ends_it(poller, pipe):
    events = []
    thread = threading.Thread(target=lambda: events.extend(poller.poll(DEADLOCK_S)), daemon=True)
    thread.start()
    os.write(pipe[1], b"!")
    poller.register(pipe[0], READABLE)
    poller.poll(0)  # a poll of another thread does not keep the first one waiting
    thread.join(DEADLOCK_S)
    assert events == [(pipe[0], READABLE)]


def test_wait_ends_at_its_timeout(poller, pipe):
    poller.register(pipe[0], READABLE)
    assert poller.poll(0.001) == []


def test_single_descriptor_wait_ends_when_readable_or_at_deadline(pipe):
    read_end, write_end = pipe
    assert not wait_readable(read_end, time.monotonic() + 0.001)
    assert not has_hung_up(read_end)
    os.write(write_end, b"!")
    assert wait_readable(read_end, None)
    assert wait_readable(read_end, time.monotonic() - 1)


def test_hang_up_of_peer_is_detected_before_unread_data():
    ours, theirs = socket.socketpair()
    with ours:
        theirs.send(b"unread")
        assert not has_hung_up(ours.fileno())
        theirs.close()
        assert has_hung_up(ours.fileno())
