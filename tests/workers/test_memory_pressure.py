"""Memory pressure: the memory freed for each worker, and the workers that give up, in a simulated pool."""

from collections import deque
from types import SimpleNamespace

import pytest

from mpqueue.engine.outcomes import Result
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.segment import FIRST_BYTES
from mpqueue.plan.cursors import WorkItem
from mpqueue.worker.records import GRANT, MAGIC, GrantKind
from mpqueue.workers.handle import Cause, Work, WorkerHandle
from mpqueue.workers.memory_pressure import MemoryPressure
from mpqueue.workers.pool import WorkerPool

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
        self.pages, self.slots, self.narrow, self.unread = pages, slots, narrow, unread
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
        if not self.slots + self.narrow:
            return None
        has_room = self.slots > 0
        self.slots, self.narrow = self.slots - has_room, self.narrow - (not has_room)
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
            self.slots += 1
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


def pressure_of(pool, *, can_replay=False):
    pressure = MemoryPressure(pool, can_replay=can_replay)
    for worker in pool.workers:
        pressure._starved[worker] = worker.work
    return pressure


def relieve(pool, *, may_fail=True, **options):
    """Return the number of grants."""
    pumped = []
    pressure_of(pool, **options).relieve(lambda: pumped.append(1), may_fail=may_fail)
    return len(pumped)


def group_relief(pool, *, can_replay=True):
    pressure = pressure_of(pool, can_replay=can_replay)
    pressure._is_of_group = True
    pressure.relieve(lambda: None, may_fail=True)
    return pressure


def test_in_a_full_group_the_next_batch_may_use_the_reserve_once():
    worker = Waiting(5)
    pool = Pool(workers=[worker], later=[6])
    pressure = group_relief(pool)
    assert [kind for kind, _ in worker.heard] == [GrantKind.RETRY]
    assert pressure._lent == 5
    assert pool.later == [6], "finished batches must remain"


@pytest.mark.parametrize(("due", "may_use_reserve"), [(3, False), (9, True)])
def test_only_the_next_batch_may_use_the_reserve_of_a_group(due, may_use_reserve):
    starved, running = Waiting(5), Waiting(due)
    running.life.is_starved = False
    pool = Pool(workers=[starved, running], pages=1)
    pressure = MemoryPressure(pool, can_replay=True)
    pressure._starved[starved], pressure._is_of_group = starved.work, True
    pressure.relieve(lambda: None, may_fail=True)
    assert starved.heard == [(GrantKind.RETRY, 5)]
    assert starved.may_use_reserve == [may_use_reserve]


def test_in_a_full_group_finished_batches_are_dropped_not_moved():
    worker = Waiting(5)
    pool = Pool(workers=[worker], later=[6, 8])
    pressure = pressure_of(pool, can_replay=True)
    pressure._is_of_group, pressure._lent = True, 5
    pressure.relieve(lambda: None, may_fail=True)
    assert pool.later == [6]
    assert "dropped" in pool.done
    assert "moved" not in pool.done
    assert [kind for kind, _ in worker.heard] == [GrantKind.RETRY]


@pytest.mark.parametrize("way", [{"pages": 1}, {"later": [4, 6]}, {"unread": 1}], ids=str)
def test_starved_worker_tries_again_after_memory_was_freed(way):
    worker = Waiting(5)
    pool = Pool(workers=[worker], **way)
    relieve(pool)
    assert worker.heard == [(GrantKind.RETRY, 5)]
    assert pool.done[-1:] == ["pages"]
    assert pool.later == [4] * ("later" in way)


@pytest.mark.parametrize(
    ("pending", "options", "heard"),
    [
        ([], {}, {5: [GrantKind.FAIL]}),
        ([9], {}, {5: [GrantKind.FAIL]}),  # then a worker is busy
        ([3], {}, {7: [GrantKind.FAIL]}),  # memory of the last worker is useful for the first one
        ([], {"may_fail": False}, {}),
        ([3], {"may_fail": False}, {}),
    ],
)
def test_one_worker_gives_up_if_no_memory_can_be_freed_and_the_consumer_waits(pending, options, heard):
    workers = Waiting(7), Waiting(5)
    pool = Pool(workers=workers, pending=pending)
    assert relieve(pool, **options) == 0
    assert {worker.number: [kind for kind, _ in worker.heard] for worker in workers if worker.heard} == heard
    assert [work_item.number for work_item in pool.pending] == pending
    assert not pool.given_up


def test_no_worker_gives_up_while_another_one_is_busy():
    worker = Waiting(5)
    pool = Pool(workers=[worker], pending=[3])
    pool.is_busy = True
    assert relieve(pool) == 0
    assert not (worker.heard or pool.given_up)


def test_worker_with_a_later_batch_is_killed_for_its_memory():
    workers = Waiting(5, LARGE), Waiting(7, LARGE), Waiting(8, FIRST_BYTES)
    pool = Pool(workers=workers, pending=[9])
    relieve(pool, can_replay=True)
    assert pool.killed == [(7, Cause.SACRIFICED)]
    assert not (any(worker.heard for worker in workers) or pool.given_up)


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


@pytest.mark.parametrize(
    ("has", "done"),
    [
        ({"slots": 1}, []),
        ({"later": [4, 6]}, ["moved"]),  # which had a slot
        ({"narrow": 1, "pages": 1}, ["pages"]),
    ],
    ids=str,
)
def test_moved_out_batch_gets_a_slot_when_it_is_due(has, done):
    pool = Pool(**has)
    pressure = pressure_of(pool)
    assert pressure.make_slot(5, LARGE, may_fail=True) is not None
    assert pool.done == done
    assert not pressure.is_known


REASONS = ["a worker is busy", "a worker is killed for it", "the consumer only looks", "a killed worker has not exited"]


@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("reason", REASONS)
def test_moved_out_batch_waits_as_long_as_a_slot_may_become_free(reason, narrow):
    pool = Pool(narrow=narrow)
    pool.is_busy, pool.is_idle = reason == REASONS[0], reason != REASONS[3]
    pool.workers = [Waiting(7, LARGE)] if reason == REASONS[1] else []
    pressure = pressure_of(pool, can_replay=True)
    assert pressure.make_slot(5, LARGE, may_fail=reason != REASONS[2]) is None
    assert pool.done == ["reclaimed"] * narrow
    assert len(pool.killed) == (reason == REASONS[1])
    pool.workers = []
    pressure._starved.clear()
    assert pressure.is_known
    for pending, is_high in [([], True), ([6], True), ([4], False)]:
        pool.pending = deque(SimpleNamespace(number=number) for number in pending)
        assert pressure.is_high is is_high
    pool.pending.clear()
    pool.has_urgent = True
    assert not pressure.is_high


def test_moved_out_batch_is_an_error_if_no_slot_can_become_free():
    pressure = pressure_of(Pool(), can_replay=True)
    with pytest.raises(SharedMemoryFull) as caught:
        pressure.make_slot(5, LARGE, may_fail=True)
    assert (caught.value.bytes_asked, caught.value.bytes_available) == (LARGE, 7)
    assert not pressure.is_known


# -- Memory of the pool


def of_number(number):
    return WorkItem(number, 0, number, number)


class Ring:
    """Records the slots that become free."""

    def __init__(self):
        self.released = []

    def release(self, slot):
        self.released.append(slot.turn)


@pytest.fixture
def workers():
    """Three workers that have read no grant; the first and the last one have grants."""
    made = [WorkerHandle(number, number) for number in range(3)]
    for worker, numbers in zip(made, ([4, 6], [], [5]), strict=True):
        for number in numbers:
            worker.in_flight[number] = Work(of_number(number), SimpleNamespace(turn=number), None)
            worker.outbox += GRANT.pack(MAGIC, GrantKind.WORK, number, number, number, 0, 0)
        worker.flush()
    yield made
    for worker in made:
        worker.pipes.close_worker_ends()
        worker.close()


def pool_of(ready, *workers):
    roster = SimpleNamespace(workers={worker.number: worker for worker in workers})
    return WorkerPool(SimpleNamespace(ready=ready), Ring(), roster)


def test_slots_of_all_unread_grants_become_free(workers):
    pool = pool_of({}, *workers)
    assert pool.take_all_unread()
    assert [work_item.number for work_item in pool.pending] == [4, 5, 6]
    assert sorted(pool.ring.released) == [4, 5, 6]
    assert not any(worker.in_flight for worker in workers)
    assert not pool.take_all_unread()


class Finished(Work):
    """A batch that can be moved, or the end of a stream."""

    def __init__(self, number, *, is_end=False):
        super().__init__(of_number(number), SimpleNamespace(turn=number), None)
        self.is_end = is_end

    def evict(self):
        return f"moved {self.work_item.number}"


def test_finished_batch_that_is_due_last_is_moved_first():
    moved, end = Result(None), Finished(9, is_end=True)
    ready = {number: Finished(number) for number in (2, 3, 5, 7)} | {8: moved, 9: end}
    pool = pool_of(ready)
    assert pool.evict(beyond=3) and ready[7] == "moved 7"
    assert pool.evict(beyond=3) and ready[5] == "moved 5"
    assert not pool.evict(beyond=3)
    assert [type(ready[number]) for number in (2, 3)] == [Finished, Finished]
    assert (ready[8], ready[9]) == (moved, end)
