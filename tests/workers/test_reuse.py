"""Large batches use slots with memory first; their order and the number computed ahead do not change."""

from collections import Counter

import pytest
from helpers import simulated

from mpqueue.memory.slots import LARGE_BYTES
from mpqueue.plan.cursors import EpochCursor, Place, StreamCursor
from mpqueue.workers import dispatcher

WORDS = LARGE_BYTES // 8  # of a batch that makes its slot large


@pytest.fixture(autouse=True)
def always_worth_it(monkeypatch):
    monkeypatch.setattr(dispatcher, "_WORTH_BYTES", LARGE_BYTES // 64)
    monkeypatch.setattr(dispatcher, "_CHEAP_NS", 1)  # no chunks


class Fair:
    """Equally fast workers that read one grant at a time; the consumer waits as long as any of them can continue."""

    def __init__(self):
        self.steps = Counter()

    def __call__(self, things):
        if not callable(things[0]):
            return min(things)
        move = min(things, key=lambda move: self.steps[move.__self__.key])
        self.steps[move.__self__.key] += 1
        return move


def world_of(num_workers, credit, *, words=WORDS, lengths=None):
    if lengths is None:
        cursor = EpochCursor(lambda: 1 << 20, 0)
    else:
        cursor = StreamCursor(num_workers)
    cursor.go_to(Place())
    return simulated.World(simulated.Source([words], lengths=lengths), cursor, num_workers, credit, Fair())


def word_of(batch):
    return int((batch["a"] if isinstance(batch, dict) else batch)[0])


def num_large(world):
    return sum(slot.is_large for slot in world.backend.pool.ring.slots.slots)


def num_exchanges(world):
    """Return the number of times that grants were taken back for other slots."""
    return world.backend.dispatcher._reuse.num_exchanged


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_waiting_consumer_uses_few_slots_with_any_queue_size(num_workers):
    world = world_of(num_workers, 20)
    try:
        assert [word_of(world.pipeline.next()) for _ in range(60)] == list(range(60))
        assert num_exchanges(world) > 0
        assert num_large(world) <= 2 * num_workers + 2
    finally:
        world.close()


def test_consumer_that_does_not_wait_finds_a_full_queue():
    """Workers without other work write to new slots, and the whole queue is granted at any time."""
    world = world_of(2, 6)
    try:
        for number in range(8):
            assert word_of(world.pipeline.next()) == number
            while world.has_moves():
                world.step()
            world.backend.take_in(None, may_fail=False)
            assert len(world.backend.pool.ready) >= 5
        assert world.pipeline.num_ready == 6
        assert num_large(world) <= 6 + 2
    finally:
        world.close()


def test_grants_keep_their_order_and_worker_when_slots_are_exchanged():
    world = world_of(1, 8)
    try:
        pool = world.backend.pool
        for _ in range(5):
            world.pipeline.next()
            (worker,) = pool.roster.workers.values()
            numbers = [work.work_item.number for work in worker.in_flight.values()]
            assert numbers == sorted(numbers)
            assert not pool.pending
        assert num_exchanges(world) > 0
    finally:
        world.close()


def test_elements_of_streams_arrive_in_order_when_slots_are_exchanged():
    world = world_of(2, 9, lengths=[40, 40])
    try:
        found = [word_of(world.pipeline.next()) for _ in range(60)]
        assert found == [1000 * (lane + 1) + number for number in range(30) for lane in range(2)]
        assert num_exchanges(world) > 0
    finally:
        world.close()


def test_slots_of_small_batches_are_not_exchanged():
    world = world_of(2, 12, words=10)
    try:
        for _ in range(60):
            world.pipeline.next()
        assert num_exchanges(world) == 0
    finally:
        world.close()


def test_exchange_that_costs_more_than_it_saves_is_not_done(monkeypatch):
    """Each grant that is taken back has a cost: a deep queue of batches that are barely large."""
    monkeypatch.setattr(dispatcher, "_WORTH_BYTES", LARGE_BYTES)
    world = world_of(1, 12)
    try:
        for _ in range(30):
            world.pipeline.next()
        assert num_exchanges(world) == 0
    finally:
        world.close()


def test_consumer_that_keeps_batches_gets_other_slots():
    world = world_of(2, 6)
    try:
        kept = [world.pipeline.next() for _ in range(5)]
        for number in range(5, 30):
            assert word_of(world.pipeline.next()) == number
        assert [word_of(batch) for batch in kept] == list(range(5))
    finally:
        world.close()
