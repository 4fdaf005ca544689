"""The dispatcher and the supervision alone: full pipes, the assignment of work items and slots, starts and exits."""

import errno
import fcntl
import os
import random
import signal
from collections import Counter
from types import SimpleNamespace
from unittest.mock import Mock

import psutil
import pytest
from helpers import simulated_pool
from helpers.faults import Numbers, numbers
from helpers.forked_calls import exit_at_once
from helpers.signal_handlers import raising
from helpers.simulated_pool import endless_epoch, word_of
from helpers.started_enqueuer import started

from mpqueue import Loader, OrderedEnqueuer
from mpqueue.backends.processes import dispatcher
from mpqueue.backends.processes.handle import Cause, Pipes, WorkerHandle
from mpqueue.backends.processes.ring_memory import slot_reuse
from mpqueue.backends.processes.roster import Roster
from mpqueue.backends.start.forker import Forker
from mpqueue.memory.segment import FIRST_BYTES
from mpqueue.memory.slots import LARGE_BYTES, SlotState
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.stream_cursor import StreamCursor
from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes.processes import Process
from mpqueue.transport.poller import make_poller
from mpqueue.worker.config import Payload, WorkerEnds

pytestmark = pytest.mark.shared_fork_server


def test_deep_queue_of_cheap_batches_does_not_deadlock():
    """Otherwise the trainer would wait to grant, and the worker to report."""
    with started(Numbers(1 << 40), 1, 4096) as enqueuer:
        assert numbers(enqueuer.get(), 5000) == list(range(5000))


def test_smallest_kernel_pipes_suffice(monkeypatch):
    """Users with very many pipes get two pages each."""

    class Narrow(WorkerHandle):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            for fd in (self.pipes.grants, self.pipes.reports):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)
            assert self.room > 50
            self.room = 50

    monkeypatch.setattr("mpqueue.backends.processes.roster.WorkerHandle", Narrow)
    with started(Numbers(1 << 40), 2, 1000) as enqueuer:
        assert numbers(enqueuer.get(), 5000) == list(range(5000))


def test_exited_worker_is_not_polled(monkeypatch):
    """Otherwise its pipe is reported forever if a child of the trainer holds it open."""
    poller = Mock(wraps=make_poller())
    monkeypatch.setattr("mpqueue.backends.processes.roster.make_poller", lambda: poller)

    def polled():
        count = Counter(call.args[0] for call in poller.register.mock_calls)
        count.subtract(call.args[0] for call in poller.unregister.mock_calls)
        return set(count.elements())

    with simulated_pool.World(simulated_pool.Source([1]), endless_epoch(), 2, 4, random.Random(0).choice) as world:
        roster = world.backend.pool.roster
        others = polled() - roster.by_reports.keys()
        for _ in range(3):
            world.dies(next(iter(world.workers.values())), -9)
            for _ in range(20):
                world.pipeline.next()
            assert len(roster.workers) == len(roster.by_reports) == 2
            assert polled() == others | roster.by_reports.keys()


class LateForkServer(simulated_pool.ForkServer):
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


class DiesAtARestart(simulated_pool.ForkServer):
    """A fork server that has exited when a third worker is requested."""

    num_asked = 0

    def start_worker(self, key, config, ends):
        self.num_asked += 1
        if self.num_asked == 3:
            self.dies()
        super().start_worker(key, config, ends)


def test_fork_server_that_exits_during_a_request_is_replaced(monkeypatch):
    """The trainer notices the exit during the request."""
    monkeypatch.setattr(simulated_pool, "ForkServer", DiesAtARestart)
    with simulated_pool.World(simulated_pool.Source([1]), endless_epoch(), 2, 4, random.Random(0).choice) as world:
        first = world.fork_server
        world.dies(next(iter(world.workers.values())), -9)
        found = [world.pipeline.next() for _ in range(20)]
        assert [word_of(batch) for batch in found] == list(range(20))
        assert first.is_gone
        assert len(world.workers) == 2


class Watched(simulated_pool.World):
    """A world that records the work of each worker."""

    def __init__(self, *args):
        self.done = []
        super().__init__(*args)

    def note_reported(self, worker, grant):
        super().note_reported(worker, grant)
        self.done.append((worker.config.info.id, grant[4]))


def test_work_is_granted_before_the_last_worker_runs_and_the_first_worker_gets_the_first_batch(monkeypatch):
    monkeypatch.setattr(simulated_pool, "ForkServer", LateForkServer)
    with Watched(simulated_pool.Source([1]), endless_epoch(), 2, 8, lambda choices: choices[0]) as world:
        assert world.done[0] == (0, 0)
        assert not world.backend.supervision.vacant


def in_turn(things):
    """Return the first item that can continue, with as few steps as possible."""
    return things[0] if callable(things[0]) else min(things)


def streams(num_lanes, length, num_workers, credit, choose=lambda choices: choices[0]):
    """A world of streams, and the words of their elements in order."""
    cursor = StreamCursor(num_lanes)
    cursor.go_to(ResumePoint())
    source = simulated_pool.Source([1], (), [length] * num_lanes)
    expected = [source.content(0, number, lane) for number in range(length) for lane in range(num_lanes)]
    world = simulated_pool.World(source, cursor, num_workers, credit, choose)
    return world, [*map(word_of, expected)]


def test_element_without_memory_for_its_start_is_granted_later():
    world, expected = streams(num_lanes=2, length=6, num_workers=2, credit=4)
    with world:
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
        assert [*map(word_of, found)] == expected
        assert refused
        granted = [slot for slot in pool.ring.slots.slots if slot.state is SlotState.GRANTED]
        in_flight = [work.slot for worker in pool.roster.living for work in worker.in_flight.values()]
        assert sorted(slot.index for slot in granted) == sorted(slot.index for slot in in_flight)


def refusing_poller():
    """Return a poller that accepts no pipe of reports, like one at the limit of watched descriptors."""
    return SimpleNamespace(register=raising(OSError(errno.ENOSPC, "no watch is left")), close=lambda: None)


def test_worker_that_cannot_be_polled_leaves_nothing(monkeypatch):
    monkeypatch.setattr("mpqueue.backends.processes.roster.make_poller", refusing_poller)
    before = os.listdir("/proc/self/fd")
    roster = Roster(-1, None)
    roster.launcher = object()  # it is not asked
    with pytest.raises(OSError, match="no watch is left"):
        roster.start(0)
    assert not (roster.workers or roster.living or roster.by_reports)
    assert os.listdir("/proc/self/fd") == before


def test_forked_worker_that_cannot_be_watched_is_killed(monkeypatch):
    """The pool forgets it, so that an event about its exit would be an error."""
    before = psutil.Process().children()
    forker = Forker(Payload(None, None))
    forker.watch(refusing_poller())
    pipes = Pipes()
    try:
        monkeypatch.setattr(Forker, "_live", lambda *_: exit_at_once(signal.pause() or 1))
        with pytest.raises(OSError, match="no watch is left"):
            forker.start_worker(0, None, WorkerEnds(*pipes.worker_ends[:2], pipes.unread, pipes.worker_ends[2]))
        assert forker.events() == []
        assert psutil.Process().children() == before
    finally:
        pipes.close_worker_ends()
        pipes.close()
        forker.release(reusable=False)


def test_retiring_worker_finishes_its_elements_and_gets_no_more():
    """Its lanes move after that, so that two processes never run the same lane."""
    world, expected = streams(num_lanes=4, length=5, num_workers=2, credit=8)
    with world:
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
        assert [word_of(world.pipeline.next()) for _ in expected] == expected


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
        with pytest.raises(ValueError, match=r"the source is empty: len\(Vanishing\) is 0"):
            next(batches)
        assert not enqueuer.is_running()


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_starts_the_next_epoch_after_an_error_of_epoch_end(workers):
    source, ends = Numbers(3), []

    def end():
        ends.append(True)
        if len(ends) == 1:
            raise OSError("the disk is full")

    source.on_epoch_end = end
    with Loader(source, workers=workers) as loader:
        with pytest.raises(OSError, match="the disk is full"):
            list(loader)
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]
        assert len(ends) == 2


def words(world, count):
    return [word_of(world.pipeline.next()) for _ in range(count)]


def test_lanes_without_read_grants_go_to_a_returning_worker():
    world, expected = streams(num_lanes=4, length=50, num_workers=2, credit=8, choose=in_turn)
    with world:
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
        assert {work.work_item.lane for work in worker.in_flight.values()} == set(range(4))
        supervision.take_exits()
        assert supervision.resize(2)
        assert len(pool.owners.of(0)) == len(pool.owners.of(1)) == 2
        found += words(world, 100)
        assert found == expected[: len(found)]


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


WORDS = LARGE_BYTES // 8  # of a batch that makes its slot large


@pytest.fixture
def reuse_is_worth_it(monkeypatch):
    monkeypatch.setattr(slot_reuse, "_WORTH_BYTES", LARGE_BYTES // 64)
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


@pytest.mark.usefixtures("reuse_is_worth_it")
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_waiting_consumer_uses_few_slots_with_any_queue_size(num_workers):
    with simulated_pool.World(simulated_pool.Source([WORDS]), endless_epoch(), num_workers, 20, Fair()) as world:
        assert [word_of(world.pipeline.next()) for _ in range(60)] == list(range(60))
        assert world.num_exchanged > 0
        assert sum(slot.is_large for slot in world.backend.pool.ring.slots.slots) <= 2 * num_workers + 2
