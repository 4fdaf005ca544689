"""The poller that several threads may wait for: with epoll, and with poll where epoll is missing."""

import os
import socket
import threading
import time

import pytest
from helpers.deadlock import DEADLOCK_S

from mpqueue.system import platform_support
from mpqueue.transport.poller import (
    READABLE,
    WRITABLE,
    PollPoller,
    close_poller,
    has_hung_up,
    make_poller,
    wait_readable,
)


@pytest.fixture(params=["epoll", "poll"])
def poller(request, monkeypatch):
    if request.param == "poll":
        monkeypatch.setattr(platform_support, "HAS_EPOLL", False)
    made = make_poller()
    assert isinstance(made, PollPoller) == (request.param == "poll")
    yield made
    close_poller(made)


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def until_ready(poller):
    """Repeat a wait that returns early without events."""
    while not (ready := poller.poll(DEADLOCK_S)):
        pass
    return ready


def test_ready_descriptors_are_reported_with_events(poller, pipe):
    read_end, write_end = pipe
    poller.register(read_end, READABLE)
    assert poller.poll(0) == []
    poller.register(write_end, WRITABLE)
    assert until_ready(poller) == [(write_end, WRITABLE)]
    poller.modify(write_end, 0)
    os.write(write_end, b"!")
    assert until_ready(poller) == [(read_end, READABLE)]
    poller.unregister(read_end)
    assert poller.poll(0) == []


def test_descriptor_registered_during_wait_ends_it(poller, pipe):
    events = []
    thread = threading.Thread(target=lambda: events.extend(until_ready(poller)), daemon=True)
    thread.start()
    os.write(pipe[1], b"!")
    poller.register(pipe[0], READABLE)
    poller.poll(0)  # a poll of another thread does not keep the first one waiting
    thread.join(DEADLOCK_S)
    assert events == [(pipe[0], READABLE)]


def test_wait_ends_at_its_timeout(poller, pipe):
    poller.register(pipe[0], READABLE)
    assert poller.poll(0.001) == []
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
