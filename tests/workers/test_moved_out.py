"""Room for a batch that was moved out of the ring, requested by a server when the batch is due."""

import pytest
from helpers import simulated
from helpers.simulated import endless_epoch, word_of

from mpqueue.errors import SharedMemoryFull

NBYTES = 1 << 20
ENDLESS = 1 << 40


@pytest.fixture
def world():
    """Two batches are ready, no worker is busy, and there is memory for one more small slot."""
    world = simulated.World(simulated.Source([1]), endless_epoch(), 1, 2, lambda choices: choices[0], max_pages=48)
    while world.has_moves():
        world.step()
    assert world.pipeline.num_ready == 2
    yield world
    world.close()


def words(world, count):
    return [word_of(world.pipeline.next()) for _ in range(count)]


def test_room_that_cannot_become_free_is_an_error_and_leaves_no_slot_in_use(world):
    pool = world.backend.pool
    with pytest.raises(SharedMemoryFull, match="1,048,576 bytes"):
        world.backend.pressure.make_slot(-1, NBYTES, may_fail=True)
    assert pool.ring.slots.num_free == pool.ring.slots.num_slots  # ready batches are in private memory
    assert not pool.ring.segment.pages
    assert not world.backend.pressure.is_known
    assert words(world, 2) == [0, 1]


@pytest.mark.parametrize("why", ["no consumer waits", "a worker is busy", "a killed worker has not exited"])
def test_room_that_may_become_free_is_awaited_and_no_later_work_is_granted(world, why):
    pool, pressure = world.backend.pool, world.backend.pressure
    (worker,) = pool.roster.workers.values()
    if why == "a worker is busy":
        worker.loading.add(1)
    if why == "a killed worker has not exited":
        pool.roster.dying[worker] = 0.0
    assert pressure.make_slot(-1, NBYTES, may_fail=why != "no consumer waits") is None
    assert pressure.is_known
    assert pressure.is_high
    worker.loading.clear()
    pool.roster.dying.clear()
    pool.ring.segment.max_pages = ENDLESS
    slot = pressure.make_slot(-1, NBYTES, may_fail=True)
    assert slot.high_water == NBYTES
    assert not pressure.is_known
    pool.ring.release(slot)
    assert words(world, 2) == [0, 1]
