"""The poller that several threads may wait on: over epoll, and over poll where there is none."""

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
    """A wait may return early with nothing."""
    while not (ready := poller.poll(DEADLOCK_S)):
        pass
    return ready


def test_what_is_ready_is_told_with_its_events(poller, pipe):
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


def test_a_descriptor_that_is_registered_during_a_wait_ends_it(poller, pipe):
    found = []
    thread = threading.Thread(target=lambda: found.extend(until_ready(poller)), daemon=True)
    thread.start()
    os.write(pipe[1], b"!")
    poller.register(pipe[0], READABLE)
    poller.poll(0)  # another thread's look does not keep the first one asleep
    thread.join(DEADLOCK_S)
    assert found == [(pipe[0], READABLE)]


def test_a_wait_ends_when_its_time_is_over(poller, pipe):
    poller.register(pipe[0], READABLE)
    assert poller.poll(0.001) == []
    assert poller.poll(0.001) == []


def test_one_descriptor_is_waited_for_until_it_is_readable_or_a_deadline(pipe):
    read_end, write_end = pipe
    assert not wait_readable(read_end, time.monotonic() + 0.001)
    assert not has_hung_up(read_end)
    os.write(write_end, b"!")
    assert wait_readable(read_end, None)
    assert wait_readable(read_end, time.monotonic() - 1)


def test_the_end_of_the_other_side_is_seen_behind_what_was_not_read():
    ours, theirs = socket.socketpair()
    with ours:
        theirs.send(b"unread")
        assert not has_hung_up(ours.fileno())
        theirs.close()
        assert has_hung_up(ours.fileno())
