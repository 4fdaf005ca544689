"""Lanes and slots when workers start and exit, in a simulated world."""

from helpers import simulated_pool
from helpers.simulated_pool import endless_epoch, word_of

from mpqueue.backends.processes.handle import Cause
from mpqueue.memory.slots import SlotState
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.stream_cursor import StreamCursor
from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes.processes import Process

LANES = 4


def in_turn(things):
    """Return the first item that can continue, with as few steps as possible."""
    return things[0] if callable(things[0]) else min(things)


def words(world, count):
    return [word_of(world.pipeline.next()) for _ in range(count)]


def test_lanes_without_read_grants_go_to_a_returning_worker():
    cursor = StreamCursor(LANES)
    cursor.go_to(ResumePoint())
    with simulated_pool.World(simulated_pool.Source([1], lengths=[50] * LANES), cursor, 2, 8, in_turn) as world:
        supervision, pool = world.backend.supervision, world.backend.pool
        found = []
        while not supervision.resize(1):  # as long as the other worker runs its lanes
            found += words(world, 1)
        (leaving,) = (worker for worker in world.workers.values() if worker.config.info.id == 1)
        while leaving.key in world.workers:
            leaving.moves()[0]()
        found += words(world, 8)
        (worker,) = pool.roster.workers.values()
        world.pipeline.look()
        assert {work.work_item.lane for work in worker.in_flight.values()} == set(range(LANES))
        supervision.take_exits()
        assert supervision.resize(2)
        assert len(pool.owners.of(0)) == len(pool.owners.of(1)) == LANES // 2
        found += words(world, 100)
        assert found == [1000 * (at % LANES + 1) + at // LANES for at in range(len(found))]


class Stuck(simulated_pool.ForkServer):
    """A fork server that kills no process."""

    def kill(self, key, number):
        """It waits in the kernel."""

    def give_up(self, key):
        return False


def test_slots_held_by_code_of_an_abandoned_worker_wait_for_its_exit(monkeypatch):
    monkeypatch.setattr(simulated_pool, "ForkServer", Stuck)
    monkeypatch.setattr("mpqueue.backends.processes.supervision.STUCK_S", 0.0)
    world = simulated_pool.World(simulated_pool.Source([1]), endless_epoch(), 2, 4, in_turn)
    sentinel, other_end = descriptors.pipe()  # of a process that has not exited
    try:
        supervision, roster = world.backend.supervision, world.backend.pool.roster
        table = world.backend.pool.ring.slots

        def held_by(number):
            """Return a slot without readers that contains an array of a worker's code."""
            slot = table.grant(number)
            table.publish(slot, 0, held=True)
            table.release(slot)
            return slot

        words(world, 20)
        first = roster.workers[0]
        own, of_another = held_by(0), held_by(1)
        roster.kill(first, Cause.HUNG)
        first.process = Process(first.process.pid, sentinel)
        supervision.give_up_overdue()
        assert roster.workers[0] is not first
        slots = own, of_another, held_by(0)
        assert {slot.state for slot in slots} == {SlotState.RETIRED}
        world.dies(world.workers[first.key], -9)
        supervision.take_exits()
        assert [slot.state for slot in slots] == [SlotState.FREE, SlotState.RETIRED, SlotState.RETIRED]
    finally:
        world.close()
        descriptors.close(other_end)
