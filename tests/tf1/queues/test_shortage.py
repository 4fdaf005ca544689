"""The distribution of blocks while memory is short, without real connections."""

import pytest

from mpqueue.memory.segment import Segment
from mpqueue.tf1.queues.arena import class_for
from mpqueue.tf1.queues.block_pool import BlockPool
from mpqueue.tf1.queues.client import Client
from mpqueue.tf1.queues.shortage import Shortage
from mpqueue.tf1.queues.wire import Down

MB = 1 << 20
NUM_MB = 10
CLASS = class_for(MB)


class Answers:
    def __init__(self):
        self.sent = []

    def send(self, kind, *fields):
        self.sent.append((kind, *fields))

    def fail(self, number, error):
        self.sent.append((Down.FAILED, number, error))


@pytest.fixture
def pool(monkeypatch):
    """Return a pool with room for a number of blocks of 1 MiB."""
    reserve, reserved = Segment.reserve, []

    def num_free():
        return NUM_MB * MB - sum(reserved)

    def reserve_within(self, offset, end, *, spare=0):
        if end - offset > num_free():
            raise OSError(28, "No space left on device")
        reserve(self, offset, end)
        reserved.append(end - offset)

    monkeypatch.setattr(Segment, "reserve", reserve_within)
    for name in ("available_bytes", "free_bytes"):
        monkeypatch.setattr(Segment, name, lambda _self: num_free())
    made = BlockPool()
    yield made
    made.close()


@pytest.fixture
def clients():
    return {number: Client(number, 1, Answers()) for number in range(4)}


def granted(client):
    return len(client.granted.get(CLASS, ()))


def ask(shortage, client, count):
    """Request blocks ahead of need; return the number of blocks that the client then has."""
    shortage.want(client, CLASS, 1, 1, count, 0)
    assert client.answers.sent[-1][0] is Down.BLOCKS
    return granted(client)


def test_blocks_ahead_are_shared_evenly_with_one_part_left(pool, clients):
    """Otherwise an idle client would deprive later clients of all blocks."""
    shortage = Shortage(pool, clients, {})
    assert ask(shortage, clients[0], 3) == 0
    assert ask(shortage, clients[0], 2) == 2
    assert ask(shortage, clients[0], 1) == 2
    assert [ask(shortage, clients[number], 1) for number in (1, 2, 3)] == [1, 1, 1]
    assert len(pool.arena.take(CLASS, NUM_MB - 5)) == NUM_MB - 5


def test_first_client_leaves_room_for_a_new_one(pool, clients):
    shortage = Shortage(pool, {0: clients[0]}, {})
    assert ask(shortage, clients[0], NUM_MB) == 0
    assert ask(shortage, clients[0], NUM_MB // 2) == NUM_MB // 2


def test_blocked_client_gets_only_what_it_needs(pool, clients):
    shortage = Shortage(pool, clients, {})
    shortage.want(clients[0], CLASS, 1, 1, 6, 3)
    assert granted(clients[0]) == 3
    assert not shortage.demands
