"""The rows of consumers in the timeline of a server."""

from types import SimpleNamespace

import pytest
from helpers.service_simulation import BatchHandle

from mpqueue.service import tracing
from mpqueue.service.tracing import ConsumerRows

MS = 1_000_000


class Peer:
    number, credentials = 3, SimpleNamespace(pid=77)


class Timeline:
    def __init__(self):
        self.rows, self.used = [], []

    def add_consumer(self, number, name):
        self.rows.append((number, name))

    def use(self, consumer, place, began_ns, ended_ns):
        self.used.append((consumer, place, began_ns / MS, ended_ns / MS))


@pytest.fixture
def at(monkeypatch):
    """Sets the clock, in milliseconds."""
    return lambda ms: monkeypatch.setattr(tracing, "clock_ns", lambda: ms * MS)


def test_batch_is_drawn_from_its_offer_or_the_end_of_the_previous_one(at):
    timeline, peer = Timeline(), Peer()
    rows = ConsumerRows(timeline)
    at(100), rows.offer(peer)
    at(110), rows.offer(peer)
    at(120), rows.take(peer, BatchHandle(0, 4, 1), has_more=True)
    at(130), rows.take(peer, BatchHandle(0, 6, 2), has_more=False)
    at(150), rows.offer(peer)
    at(160), rows.take(peer, BatchHandle(1, 0, 3), has_more=False)
    assert timeline.rows == [(3, "consumer 3 (process 77)")]
    assert timeline.used == [(3, (0, 4), 100, 120), (3, (0, 6), 120, 130), (3, (1, 0), 150, 160)]


def test_fast_batches_of_server_are_sampled(at):
    timeline, peer = Timeline(), Peer()
    rows = ConsumerRows(timeline)
    at(100), rows.offer(peer)
    for ms in range(101, 113):
        at(ms), rows.take(peer, BatchHandle(0, ms, 1), has_more=True)
    assert timeline.used == [(3, (0, 101), 100, 101), (3, (0, 106), 105, 106), (3, (0, 111), 110, 111)]
