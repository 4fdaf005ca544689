"""Memory pressure: the memory freed for each worker, and the workers that give up, in a simulated pool."""

from collections import deque
from types import SimpleNamespace

import pytest

from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.segment import FIRST_BYTES
from mpqueue.worker.records import GRANT, GrantKind
from mpqueue.workers.handle import Cause
from mpqueue.workers.memory_pressure import MemoryPressure

LARGE = 3 << 20


class Waiting:
    """A worker that waits for memory for the batch of a work item."""

    def __init__(self, number, nbytes=0):
        self.number = number
        self.life = SimpleNamespace(is_starved=True, feed=self._feed)
        slot = SimpleNamespace(turn=number, high_water=nbytes)
        self.work = SimpleNamespace(work_item=SimpleNamespace(number=number), slot=slot, cancelled=False)
        self.in_flight, self.outbox, self.heard = {number: self.work}, bytearray(), []
        self.may_use_reserve = []

    def _feed(self):
        self.life.is_starved = False

    def flush(self):
        for grant in GRANT.iter_unpack(self.outbox):
            self.heard.append((grant[1], grant[3]))
            self.may_use_reserve.append(bool(grant[4]))
        self.outbox.clear()


class Pool:
    """A pool with the given free pages, slots with and without room, finished later batches, and unread grants."""

    is_idle, is_busy = True, False

    def __init__(self, *, pages=0, slots=0, narrow=0, later=(), unread=0, pending=(), workers=()):
        self.pages, self.wide, self.narrow, self.unread = pages, slots, narrow, unread
        self.slots = SimpleNamespace(num_slots=9, num_free=0, num_leased=0, num_retired=0, bytes_reserved=lambda: 0)
        self.later, self.workers = list(later), workers
        self.pending = deque(SimpleNamespace(number=number) for number in pending)
        self.ring = self.segment = self.roster = self.ledger = self
        self.has_urgent, self.done, self.killed, self.given_up = False, [], [], []

    @property
    def living(self):
        return self.workers

    @property
    def nobody_works(self):
        return not self.is_busy and all(worker.life.is_starved for worker in self.workers)

    def grant(self, worker):
        assert worker == -1
        if not self.wide + self.narrow:
            return None
        has_room = self.wide > 0
        self.wide, self.narrow = self.wide - has_room, self.narrow - (not has_room)
        return SimpleNamespace(has_room=has_room)

    def reserve(self, slot, nbytes):
        assert nbytes == LARGE
        return slot.has_room or self.done[-1:] == ["pages"]

    def reclaim(self, slot):
        self.done.append("reclaimed")

    def available_bytes(self):
        return 7

    def give_back(self):
        self.pages -= 1
        if self.pages >= 0:
            self.done.append("pages")
        return self.pages >= 0

    def evict(self, *, beyond):
        later = [number for number in self.later if number > beyond]
        if later:
            self.later.remove(max(later))
            self.done.append("moved")
            self.wide += 1
            self.pages = 1
        return bool(later)

    def drop(self, *, beyond):
        later = [number for number in self.later if number > beyond]
        if later:
            self.later.remove(max(later))
            self.done.append("dropped")
            self.pages = 1
        return bool(later)

    def take_all_unread(self):
        self.unread, had = 0, self.unread
        self.pages = had
        return had > 0

    def kill(self, worker, cause):
        self.killed.append((worker.number, cause))
        worker.life.is_starved = False

    def give_up(self, work_item, error):
        self.given_up.append((work_item.number, error))


def pressure_of(pool, *, can_replay=False, is_of_group=False):
    """Return the pressure after all workers that wait for memory have reported that."""
    pressure = MemoryPressure(pool, can_replay=can_replay)
    for worker in pool.workers:
        if worker.life.is_starved:
            pressure.note(worker, worker.work, is_of_group=is_of_group)
    return pressure


def relieve(pool, *, may_fail=True, **options):
    """Return the number of grants."""
    pumped = []
    pressure_of(pool, **options).relieve(lambda: pumped.append(1), may_fail=may_fail)
    return len(pumped)


def test_next_batch_may_use_the_reserve_of_a_full_group_once_and_then_later_batches_are_dropped():
    worker = Waiting(5)
    pool = Pool(workers=[worker], later=[6, 8])
    pressure = pressure_of(pool, can_replay=True, is_of_group=True)
    pressure.relieve(lambda: None, may_fail=True)
    assert worker.heard == [(GrantKind.RETRY, 5)]
    assert pool.later == [6, 8]
    worker.life.is_starved = True
    pressure.note(worker, worker.work, is_of_group=True)
    pressure.relieve(lambda: None, may_fail=True)
    assert worker.heard == [(GrantKind.RETRY, 5)] * 2
    assert pool.later == [6]
    assert "moved" not in pool.done  # private memory counts in a group, too


@pytest.mark.parametrize(("due", "may_use_reserve"), [(3, False), (9, True)])
def test_only_the_next_batch_may_use_the_reserve_of_a_group(due, may_use_reserve):
    starved, running = Waiting(5), Waiting(due)
    running.life.is_starved = False
    relieve(Pool(workers=[starved, running], pages=1), can_replay=True, is_of_group=True)
    assert starved.heard == [(GrantKind.RETRY, 5)]
    assert starved.may_use_reserve == [may_use_reserve]


def test_worker_with_a_later_batch_is_killed_for_its_memory():
    workers = Waiting(5, LARGE), Waiting(7, LARGE), Waiting(8, FIRST_BYTES)
    pool = Pool(workers=workers, pending=[9])
    relieve(pool, can_replay=True)
    assert pool.killed == [(7, Cause.SACRIFICED)]
    assert not (any(worker.heard for worker in workers) or pool.given_up)


@pytest.mark.parametrize(("nbytes", "is_killed"), [(LARGE, True), (FIRST_BYTES, False)])
def test_worker_that_has_read_a_grant_with_memory_is_killed_for_it(nbytes, is_killed):
    """The batch that is due finds no memory, because only that worker could return this grant."""
    due, later = Waiting(7), Waiting(8, FIRST_BYTES)
    later.in_flight[10] = SimpleNamespace(work_item=SimpleNamespace(number=10), slot=SimpleNamespace(high_water=nbytes))
    pool = Pool(workers=[due, later])
    relieve(pool, can_replay=True)
    assert pool.killed == [(8, Cause.SACRIFICED)] * is_killed


@pytest.mark.parametrize(
    ("has_pages", "may_fail", "granted", "given_up"),
    [(True, True, 1, []), (False, True, 0, [3]), (False, False, 0, [])],
)
def test_batch_without_a_slot_is_an_error_if_no_slot_can_become_free(has_pages, may_fail, granted, given_up):
    pool = Pool(pages=has_pages, pending=[3, 4])
    pumped = []

    def pump():
        pumped.append(1)
        pool.is_busy = True

    MemoryPressure(pool, can_replay=True).relieve(pump, may_fail=may_fail)
    assert len(pumped) == granted
    assert [number for number, _ in pool.given_up] == given_up
    assert [work_item.number for work_item in pool.pending] == [3, 4][len(given_up) :]
    for _, error in pool.given_up:
        assert (type(error), error.bytes_asked, error.bytes_available) == (SharedMemoryFull, FIRST_BYTES, 7)
