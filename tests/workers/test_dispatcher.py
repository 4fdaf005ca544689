"""The dispatcher alone: full pipes, errors between epochs, and the assignment of work items."""

import fcntl
import itertools
import os
import random
import types

import pytest
from helpers import simulated
from helpers.faults import Numbers, numbers

from mpqueue import Loader, OrderedEnqueuer
from mpqueue.memory.segment import FIRST_BYTES
from mpqueue.memory.slots import SlotState
from mpqueue.plan.cursors import EpochCursor, Listed, Place, StreamCursor, WorkItem
from mpqueue.transport.poller import make_poller
from mpqueue.worker.records import GRANT
from mpqueue.workers import dispatcher
from mpqueue.workers.handle import WorkerHandle


def test_deep_queue_of_cheap_batches_does_not_deadlock():
    """Otherwise the trainer would wait to grant, and the worker to report."""
    with OrderedEnqueuer(Numbers(1 << 40), True) as enqueuer:
        enqueuer.start(1, 4096)
        assert numbers(enqueuer.get(), 9000) == list(range(9000))


def test_smallest_kernel_pipes_suffice(monkeypatch):
    """Users with very many pipes get two pages each."""

    class Narrow(WorkerHandle):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            for fd in (self.pipes.grants, self.pipes.reports):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)
            assert self.room > 50
            self.room = 50

    monkeypatch.setattr("mpqueue.workers.roster.WorkerHandle", Narrow)
    with OrderedEnqueuer(Numbers(1 << 40), True) as enqueuer:
        enqueuer.start(2, 1000)
        assert numbers(enqueuer.get(), 5000) == list(range(5000))


def test_room_for_grants_does_not_block():
    worker = WorkerHandle(0, 0)
    try:
        for number in range(1, 30):  # writes of all sizes: each may waste a part of a page
            written = 0
            while written + number <= worker.room:
                worker.outbox += bytes(GRANT.size * number)
                worker.flush()
                written += number
            while written:
                written -= len(os.read(worker.pipes.unread, GRANT.size * number)) // GRANT.size
    finally:
        worker.pipes.close_worker_ends()
        worker.close()


class Listened:
    """A poller that records its registered descriptors."""

    def __init__(self):
        self._poller, self.fds = make_poller(), set()

    def __getattr__(self, name):
        return getattr(self._poller, name)

    def register(self, fd, *events):
        self.fds.add(fd)
        self._poller.register(fd, *events)

    def unregister(self, fd):
        self.fds.remove(fd)
        self._poller.unregister(fd)


def test_exited_worker_is_not_polled(monkeypatch):
    """Otherwise its pipe is reported forever if a child of the trainer holds it open."""
    monkeypatch.setattr("mpqueue.workers.roster.make_poller", Listened)
    cursor = EpochCursor(lambda: 1 << 20, 0)
    cursor.start_at(0)
    world = simulated.World(simulated.Source([1]), cursor, 2, 4, random.Random(0).choice)
    try:
        roster = world.backend.pool.roster
        others = roster.poller.fds - roster.by_reports.keys()
        for _ in range(3):
            world.dies(next(iter(world.workers.values())), -9)
            for _ in range(20):
                world.pipeline.next()
            assert len(roster.workers) == len(roster.by_reports) == 2
            assert roster.poller.fds == others | roster.by_reports.keys()
    finally:
        world.close()


class LateForkServer(simulated.ForkServer):
    """A fork server that reports a second worker only after the first one has reported a batch."""

    def __init__(self, world):
        super().__init__(world)
        self.late = []

    def tell(self, event):
        if self.world.workers.keys() == {event.key} or event.process is None:
            super().tell(event)
        else:
            self.late.append(event)

    def events(self, timeout_s=0):
        if self.late and not self.pending_events:
            while not self.world.done:
                self.world.step(may_kill=False)
            super().tell(self.late.pop())
        return super().events(timeout_s)


class DiesAtARestart(simulated.ForkServer):
    """A fork server that has exited when a third worker is requested."""

    num_asked = 0

    def start_worker(self, key, config, ends):
        self.num_asked += 1
        if self.num_asked == 3:
            self.dies()
        super().start_worker(key, config, ends)


def test_fork_server_that_exits_during_a_request_is_replaced(monkeypatch):
    """The trainer notices the exit during the request."""
    monkeypatch.setattr(simulated, "ForkServer", DiesAtARestart)
    cursor = EpochCursor(lambda: 1 << 20, 0)
    cursor.start_at(0)
    world = simulated.World(simulated.Source([1]), cursor, 2, 4, random.Random(0).choice)
    try:
        first = world.fork_server
        world.dies(next(iter(world.workers.values())), -9)
        found = [world.pipeline.next() for _ in range(20)]
        assert [int((batch["a"] if isinstance(batch, dict) else batch)[0]) for batch in found] == list(range(20))
        assert first.is_gone
        assert len(world.workers) == 2
    finally:
        world.close()


class Watched(simulated.World):
    """A world that records the work of each worker."""

    def __init__(self, *args):
        self.done = []
        super().__init__(*args)

    def note_reported(self, worker, grant):
        super().note_reported(worker, grant)
        self.done.append((worker.config.info.id, grant[4]))


def test_work_is_granted_before_the_last_worker_runs_and_the_first_worker_gets_the_first_batch(monkeypatch):
    monkeypatch.setattr(simulated, "ForkServer", LateForkServer)
    cursor = EpochCursor(lambda: 8, 0)
    cursor.start_at(0)
    world = Watched(simulated.Source([1]), cursor, 2, 8, lambda choices: choices[0])
    try:
        assert world.done[0] == (0, 0)
        assert not world.backend.supervision.vacant
    finally:
        world.close()


class Seen:
    """An idle worker that records when it is examined."""

    def __init__(self, looks):
        self.looks = looks

    @property
    def in_flight(self):
        self.looks.append(dispatcher._clock())
        return {}


@pytest.mark.parametrize(("num_workers", "looked_at"), [(64, [0, 1, 199_999, 200_000]), (100, [0, 200_000])])
def test_few_workers_are_examined_at_every_wait(monkeypatch, num_workers, looked_at):
    """Examining thousands of workers costs more than the wait."""
    looks = []
    workers = {number: Seen(looks) for number in range(num_workers)}
    ledger = types.SimpleNamespace(is_stream=False, credit=10)
    pool = types.SimpleNamespace(ledger=ledger, owners=None, roster=types.SimpleNamespace(workers=workers))
    made = dispatcher.Dispatcher(pool, None, [None] * num_workers)
    waits = []
    for now in (0, 1, 199_999, 200_000):
        monkeypatch.setattr(dispatcher, "_clock", lambda now=now: now)
        waits.append(made.balance())
    assert sorted(set(looks)) == looked_at
    until = [None if now in looked_at else (200_000 - now) / 1e9 for now in (0, 1, 199_999, 200_000)]
    assert waits == until  # in seconds, until the next try is worthwhile


@pytest.mark.parametrize(
    ("num_workers", "credit", "cost_ns", "chunk", "lot"),
    [
        (16, 128, 250_000, 1, 19),  # one batch every 16 µs
        (64, 512, 1_000_000, 1, 19),
        # With four times as many workers, batches arrive four times as fast, so each message grants more batches.
        (64, 512, 500_000, 2, 38),
        (1024, 8192, 500_000, 2, 614),
        (16, 128, 10_000, 29, 32),  # at most a quarter of the credit
        (16, 40, 250_000, 1, 8),  # two for each worker
        (16, 32, 250_000, 1, 1),
        (2, 10, 250_000, 1, 2),
        (2, 10, 10_000_000, 1, 1),
    ],
)
def test_several_batches_are_granted_at_a_time_if_they_arrive_quickly(num_workers, credit, cost_ns, chunk, lot):
    """The grants are for one worker with cheap batches, or for many workers."""
    made = dispatcher.Dispatcher(
        types.SimpleNamespace(ledger=types.SimpleNamespace(is_stream=False, credit=credit), owners=None),
        None,
        [None] * num_workers,
    )
    for _ in range(200):
        made._note_cost(cost_ns)
    assert (made.chunk, made.lot) == (chunk, lot)


def choosing(workers):
    """A dispatcher of workers with these numbers of grants; None for a missing worker."""
    handles = {
        number: types.SimpleNamespace(number=number, in_flight=range(load), room=10)
        for number, load in enumerate(workers)
        if load is not None
    }
    ledger = types.SimpleNamespace(is_stream=False, credit=10)
    pool = types.SimpleNamespace(ledger=ledger, owners=None, roster=types.SimpleNamespace(workers=handles))
    return dispatcher.Dispatcher(pool, None, [None] * len(workers))


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5])
def test_chunks_go_to_all_workers_beginning_with_the_first(num_workers):
    """The worker with number 0 runs first."""
    made = choosing([0] * num_workers)
    assert [made._choose(None).number for _ in range(2 * num_workers)] == 2 * list(range(num_workers))


@pytest.mark.parametrize(
    ("loads", "chunk", "number"),
    [
        ([1, 0, 0], 1, 1),
        ([1, 1, 0], 1, 0),  # the less busy of the next two, not of all
        ([0, 1, 1], 1, 0),
        ([None, 3, 0], 1, 1),
        ([3, None, 0], 1, 0),
        ([None, None, 3], 1, 2),
        ([None, None, None], 1, None),
        ([9, 9, 9], 1, 0),
        ([10, 10, 0], 1, None),
        ([7, 7, 0], 3, 0),
        ([8, 8, 0], 3, None),
    ],
)
def test_chunk_goes_to_the_less_busy_worker_with_room_for_the_chunk(loads, chunk, number):
    made = choosing(loads)
    made.chunk = chunk
    chosen = made._choose(None)
    assert (None if chosen is None else chosen.number) == number


def test_list_of_samples_without_memory_is_not_granted():
    """Lists before it are granted, and its slot is free again."""
    slots = [types.SimpleNamespace(number=number, turn=7 + number, offset=0, high_water=0) for number in range(3)]
    given, released = iter(slots), []
    ring = types.SimpleNamespace(
        grant=lambda _worker: next(given),
        reserve=lambda slot, _nbytes: slot is not slots[1],
        slots=types.SimpleNamespace(release=released.append),
        memory=bytearray(1000),
    )
    made = choosing([0])
    made._pool.ring = ring
    worker = types.SimpleNamespace(number=0, in_flight={}, outbox=bytearray(), busy_since=0)
    work_items = [WorkItem(number, 0, number, number, -1, Listed(number, (number,))) for number in range(3)]
    assert made._grant(worker, work_items) == 1
    assert list(worker.in_flight) == [7]
    assert [grant[3] for grant in GRANT.iter_unpack(worker.outbox)] == [7]
    assert released == [slots[1]]


def words(batches):
    return [int((batch["a"] if isinstance(batch, dict) else batch)[0]) for batch in batches]


def streams(num_lanes, length, num_workers, credit):
    """A world of streams, and the words of their elements in order."""
    cursor = StreamCursor(num_lanes)
    cursor.go_to(Place())
    source = simulated.Source([1], (), [length] * num_lanes)
    expected = [source.content(0, number, lane) for number in range(length) for lane in range(num_lanes)]
    world = simulated.World(source, cursor, num_workers, credit, lambda choices: choices[0])
    return world, words(expected)


def test_element_without_memory_for_its_start_is_granted_later():
    world, expected = streams(num_lanes=2, length=6, num_workers=2, credit=4)
    try:
        pool, found, refused = world.backend.pool, [], []
        reserve = pool.ring.reserve

        def reserve_later(slot, nbytes):
            if nbytes == FIRST_BYTES or refused:
                return reserve(slot, nbytes)
            refused.append(nbytes)
            return False

        pool.ring.reserve = reserve_later
        while len(found) < 4:
            found.append(world.pipeline.next())
        assert not refused  # lanes at their beginning need no memory
        world.dies(next(iter(world.workers.values())), -9)
        while len(found) < len(expected):
            found.append(world.pipeline.next())
        assert words(found) == expected
        assert refused
        granted = [slot for slot in pool.ring.slots.slots if slot.state is SlotState.GRANTED]
        in_flight = [work.slot for worker in pool.roster.living for work in worker.in_flight.values()]
        assert sorted(slot.number for slot in granted) == sorted(slot.number for slot in in_flight)
    finally:
        world.close()


def test_retiring_worker_finishes_its_elements_and_gets_no_more():
    """Its lanes move after that, so that two processes never run the same lane."""
    world, expected = streams(num_lanes=4, length=5, num_workers=2, credit=8)
    try:
        backend = world.backend
        supervision, roster = backend.supervision, backend.pool.roster
        going = roster.workers[1]
        worker = world.workers[going.key]
        while worker.grant is None:
            worker.moves()[0]()
        for num_begun in (1, 0):
            assert not supervision.resize(1) or not num_begun
            backend.pump()
            assert len(going.in_flight) == num_begun
            while num_begun and (moves := worker.moves()):
                moves[0]()
            backend.dispatcher.drain(going)
            backend.pump()
            assert not going.in_flight
        assert roster.workers.keys() == {0}
        assert {backend.pool.owners.owner(lane) for lane in range(4)} == {0}
        assert words(world.pipeline.next() for _ in expected) == expected
    finally:
        world.close()


@pytest.mark.parametrize(("chunk", "head", "num_yields"), [(1, 0, 0), (2, 0, 1), (2, None, 0), (1, None, 0)])
def test_trainer_yields_its_cpu_while_it_waits_for_cheap_batches(monkeypatch, chunk, head, num_yields):
    """A worker may use the CPU. With expensive batches the trainer would only lose its turn."""
    cursor = EpochCursor(lambda: 1 << 20, 0)
    cursor.start_at(0)
    world = simulated.World(simulated.Source([1]), cursor, 1, 2, lambda choices: choices[0])
    try:
        yields = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "sched_yield", lambda: yields.append(None))
            world.backend.dispatcher.chunk = chunk
            world.backend.take_in(head)
        assert len(yields) == num_yields
    finally:
        world.close()


def test_large_allowance_is_spread_over_the_workers():
    cursor = EpochCursor(lambda: 1 << 20, 0)
    cursor.start_at(0)
    world = simulated.World(simulated.Source([1]), cursor, 4, 32, random.Random(0).choice)
    try:
        made, pool = world.backend.dispatcher, world.backend.pool
        world.pipeline.ledger.allowance = 16
        pool.cancel()
        world.pipeline.ledger.forget_work_items()
        made.chunk, made.lot = 1, 16
        made.pump()
        held = [sorted(w.work_item.number for w in worker.in_flight.values() if not w.cancelled)
                for worker in pool.roster.workers.values()]  # fmt: skip
        assert sorted(map(len, held)) == [4, 4, 4, 4]
        assert all(second - first <= 7 for numbers in held for first, second in itertools.pairwise(numbers))
    finally:
        world.close()


class Vanishing(Numbers):
    """A source with batches in its first epoch only."""

    was_asked = False

    def __len__(self):
        length, self.was_asked = 0 if self.was_asked else self.length, True
        return length


@pytest.mark.parametrize(("processes", "workers"), [(True, 2), (False, 2), (True, 0)])
def test_length_that_becomes_invalid_is_an_error_after_the_last_batch(processes, workers):
    with OrderedEnqueuer(Vanishing(5), processes) as enqueuer:
        enqueuer.start(workers)
        batches = enqueuer.get()
        assert numbers(batches, 5) == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match=r"len\(Vanishing\) must be at least 1 batch"):
            next(batches)
        assert not enqueuer.is_running()


def test_loader_repeats_the_error_that_prevents_the_next_epoch():
    class Broken(Numbers):
        is_broken = False

        def __len__(self):
            if self.is_broken:
                raise OSError("the index file was deleted")
            return self.length

    source = Broken(3)
    with Loader(source, workers=2, max_queue_size=3) as loader:
        batches = iter(loader)
        assert numbers(batches, 1) == [0]
        source.is_broken = True
        assert [int(batch[0]) for batch in batches] == [1, 2]
        for _ in range(2):
            with pytest.raises(OSError, match="the index file was deleted"):
                list(loader)
        source.is_broken = False
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_starts_the_next_epoch_after_an_error_of_epoch_end(workers):
    class Ending(Numbers):
        ends = 0

        def on_epoch_end(self):
            self.ends += 1
            if self.ends == 1:
                raise OSError("the disk is full")

    source = Ending(3)
    with Loader(source, workers=workers) as loader:
        with pytest.raises(OSError, match="the disk is full"):
            list(loader)
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]
        assert source.ends == 2


def test_slot_of_a_dropped_batch_is_granted_before_one_without_memory():
    """Its pages are warm, and the ring remains as small as the memory in use."""
    cursor = EpochCursor(lambda: 1 << 20, 0)
    cursor.start_at(0)
    world = simulated.World(simulated.Source([1]), cursor, 1, 2, lambda choices: choices[0])
    try:
        for _ in range(50):
            world.pipeline.next()
        slots = world.backend.pool.ring.slots.slots
        assert len(slots) > 8
        assert sum(slot.high_water > 0 for slot in slots) <= 4
    finally:
        world.close()


def test_batch_without_views_frees_its_slot_at_once():
    class Texts(simulated.Source):
        """Batches without arrays."""

        def content(self, epoch, unit, lane=-1):
            return f"text {unit}"

    cursor = EpochCursor(lambda: 1 << 20, 0)
    cursor.start_at(0)
    world = simulated.World(Texts([1]), cursor, 1, 2, lambda choices: choices[0])
    try:
        kept = [world.pipeline.next() for _ in range(100)]
        assert kept == [f"text {number}" for number in range(100)]
    finally:
        world.close()


@pytest.mark.parametrize(("processes", "workers"), [(True, 1), (False, 1), (True, 0)])
def test_backend_is_interruptible_only_while_it_waits(processes, workers):
    """An interrupt during a wait is harmless. After any other one the state is checked."""
    with OrderedEnqueuer(Numbers(5), processes) as enqueuer:
        enqueuer.start(workers, 1)
        assert numbers(enqueuer.get(), 7) == [0, 1, 2, 3, 4, 0, 1]
        assert not enqueuer._engine.pipeline.ledger.is_waiting
