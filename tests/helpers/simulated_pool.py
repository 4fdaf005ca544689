"""A pool of simulated worker processes: the engine is real, and its workers are objects that a test steps.

Pipes, records, slots, layout, pushed states and the replacement of workers are real. Only the execution of a worker is
cut into steps that a test can order: read grants, compute, write the batch, report, crash. When the trainer would
block, the world takes one of the possible steps. If no step is possible, the trainer would never wake up. Such a
deadlock is found within microseconds.
"""

import contextlib
import errno
import os
import pickle
import random
import select
import signal
from collections import Counter, deque
from unittest import mock

import numpy as np

from helpers.state_machines import AimingMachine
from mpqueue.backends.job import LOCAL, Job
from mpqueue.backends.processes import dispatcher, lane_dispatcher
from mpqueue.backends.processes.process import ProcessBackend
from mpqueue.backends.processes.source_sync import SourceSync
from mpqueue.backends.sending.source_send import find_digests
from mpqueue.backends.sending.source_watch import SourceWatch
from mpqueue.backends.start.launcher import LauncherGone, ProcessEvent
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.pipeline import Pipeline
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.segment import Segment
from mpqueue.memory.slots import PAGE
from mpqueue.memory.writer import Placed, SlotWriter
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.orders import BatchesOrder
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.position.cursors import EpochCursor
from mpqueue.plan.position.lanes import RetryStart
from mpqueue.plan.position.ranks import Ranks
from mpqueue.plan.sources.sources import Items
from mpqueue.system.processes.processes import Process
from mpqueue.worker import failures
from mpqueue.worker.records import (
    GRANT,
    HELD,
    MAGIC,
    NEW_SPEC,
    REPORT,
    TAIL,
    GrantKind,
    ReportKind,
    pack_tail,
    unpack_start,
)
from mpqueue.worker.source_receive import apply_patch


def endless_epoch():
    """Return the schedule of an epoch with more batches than any test takes."""
    schedule = EpochCursor(lambda: 1 << 20, 0)
    schedule.start_at(0)
    return schedule


def word_of(batch):
    """Return the word that a batch of a `Source` consists of."""
    return int((batch["a"] if isinstance(batch, dict) else batch)[0])


class Deadlock(AssertionError):
    """The trainer waits, and no possible step would wake it."""


class SmallSegment(Segment):
    """A segment in a file system with few pages."""

    max_pages = 1 << 40

    def __init__(self, fd, size, kind):
        super().__init__(fd, size, kind)
        self.pages = set()

    def reserve(self, offset, end, *, spare=0):
        wanted = set(range(offset // PAGE, -(-end // PAGE))) - self.pages
        room = self.max_pages - len(self.pages)
        self.pages.update(sorted(wanted)[: max(room, 0)])  # like the kernel, reserve as many pages as possible
        if len(wanted) > room:
            raise OSError(errno.ENOSPC, "no room")

    def discard(self, offset, end):
        for page in [page for page in self.pages if offset <= page * PAGE < end]:
            self.memory[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
            self.pages.remove(page)

    def available_bytes(self):
        return (self.max_pages - len(self.pages)) * PAGE


class Source:
    """A source with known content, size and errors of each batch.

    Args:
        sizes: Sizes in int64s, by index modulo their number.
        bad: Indices modulo 7 that raise.
        lengths: Lengths of the lanes of a stream, or None for a sequence.
    """

    def __init__(self, sizes, bad=(), lengths=None):
        self.sizes, self.bad, self.lengths, self.version = sizes, bad, lengths, 0

    def content(self, epoch, index, lane=-1):
        number = index if lane < 0 else index + 1000 * (lane + 1)
        if number % 7 in self.bad:
            raise ValueError(f"a bad record: {number}")
        word = self.version * 10**9 + epoch * 10**6 + number
        size = self.sizes[number % len(self.sizes)]
        return {"a": np.full(size, word), "name": str(number)} if number % 3 == 2 else np.full(size, word)


class Worker:
    """A worker of the world. Its possible steps are `moves`."""

    def __init__(self, world, key, config, ends, source, buffers):
        self.world, self.key, self.config = world, key, config
        self.grants, self.reports = os.dup(ends.grants), os.dup(ends.reports)
        self.writer = SlotWriter(world.ring.segment, config.stride, None)
        self.source, self.buffers = source, buffers
        self.backlog = deque()
        self.grant = self.placed = self.kind = None  # the grant being computed, and its part that is written
        self.is_starved = False
        self.kept = deque()  # arrays in slots that user code still references
        self.lanes = {}  # by number: the epoch of an open lane, and its next element
        self.poll = select.poll()
        self.poll.register(self.grants, select.POLLIN)

    def moves(self):
        """Return the steps that are possible now."""
        if self.is_starved:
            return [self.retry] if self.poll.poll(0) else []
        if self.placed is not None:
            return [self.report]
        found = []
        if self.grant is not None:
            found.append(self.write)
        elif self.backlog:
            found.append(self.begin)
        elif self.poll.poll(0):
            found.append(self.read)
        if self.kept and self.grant is None:
            found.append(self.release_kept)
        return found

    def read(self):
        """Read some of the grants from the pipe; exit at the end of the pipe."""
        data = os.read(self.grants, self.world.choose([1, 2, 16]) * GRANT.size)
        self.backlog.extend(GRANT.iter_unpack(data))
        if not data:
            self.world.dies(self, 0)

    def begin(self):
        grant = self.backlog.popleft()
        _, kind, slot, turn, index, _, high_water = grant
        if kind == GrantKind.STATE:
            encoded = np.frombuffer(self.world.ring.segment.memory, np.uint8, index, slot * self.config.stride)
            self.world.reached["source sent"] += 1
            payload, self.buffers = apply_patch(encoded, self.buffers)
            self.source = payload.source
            self.say(ReportKind.LOADED, slot, turn)
            return
        if kind == GrantKind.CLOSE:
            self.lanes.pop(index, None)  # may be absent if its epoch is over
            self.world.reached["lane closed"] += 1
            return
        assert kind == GrantKind.WORK or (kind == GrantKind.LANE and self.config.is_stream)
        if kind == GrantKind.LANE:
            start = unpack_start(self.world.ring.segment.memory, slot * self.config.stride)
            element_index, lane = divmod(index, self.config.num_lanes)
            if isinstance(start, RetryStart):  # a worker crashed at this element; this source has no retry markers
                self.world.reached["lane started after a crash"] += 1
                start = start.start
            assert start.element_index <= element_index
            assert start.state is None or pickle.loads(start.state) == (lane, start.element_index)
            self.world.reached["lane started from a snapshot"] += start.state is not None
            self.world.reached["lane restarted"] += 1
            self.lanes[lane] = grant[5], element_index
        self.world.note_begun(self, grant)
        self.writer.begin(slot, high_water)
        self.grant, self.kind, self.flags = grant, ReportKind.BATCH, 0
        try:
            self.writer.take([self.compute()])
        except ValueError as error:
            self.fail(error)

    def compute(self):
        _, _, _, _, index, epoch, _ = self.grant
        if not self.config.is_stream:
            content = self.source.content(epoch, index)
        else:
            element_index, lane = divmod(index, self.config.num_lanes)
            if not element_index:
                self.lanes[lane] = epoch, 0
            assert self.lanes[lane] == (epoch, element_index)  # a worker only computes the next element of a lane
            self.lanes[lane] = epoch, element_index + 1
            if element_index >= self.source.lengths[lane]:
                self.kind, self.placed = ReportKind.END, Placed(0, False, 0, 0, self.writer.keeps_slot())
                return None
            content = self.source.content(0, element_index, lane)
        if type(content) is np.ndarray and self.world.choose([False, False, True]):
            made = self.writer.empty(content.shape, content.dtype)
            if made is not None:
                made[...] = content
                self.world.reached["written in the slot"] += 1
                if self.world.choose([False, True]):
                    self.kept.append(made)
                return made
        return content

    def fail(self, error):
        try:
            self.kind, self.placed = ReportKind.RAISED, self.writer.place_bytes(failures.pack(error, "a note"))
        except OSError:  # no memory for the slots that user code still references
            self.world.reached["crashes without memory"] += 1
            self.world.dies(self, 1)

    def write(self):
        try:
            self.placed = self.writer.place()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.is_starved = True
            self.world.reached["no memory"] += 1
            self.say(ReportKind.FULL, self.grant[2], self.grant[3], self.writer.wanted)
        else:
            if self.config.is_stream and self.kind == ReportKind.BATCH and self.world.choose([False, False, True]):
                self.save()

    def save(self):
        """Write a snapshot after the batch, if there is room."""
        element_index, lane = divmod(self.grant[4], self.config.num_lanes)
        data = pack_tail(pickle.dumps((lane, element_index + 1)), ())
        try:
            self.writer.append(self.placed.nbytes, data)
        except OSError:
            self.world.reached["no memory for a snapshot"] += 1
        else:
            self.placed = self.placed._replace(nbytes=self.placed.nbytes + len(data))
            self.flags = TAIL

    def retry(self):
        data = os.read(self.grants, GRANT.size)
        if not data:
            self.world.dies(self, 0)
            return
        grant = GRANT.unpack(data)
        if grant[1] in (GrantKind.WORK, GrantKind.LANE, GrantKind.STATE):
            self.backlog.append(grant)
            return
        self.is_starved = False
        self.world.reached["given up" if grant[1] == GrantKind.FAIL else "tried again"] += 1
        if grant[1] == GrantKind.FAIL:
            self.fail(SharedMemoryFull(self.writer.wanted, 0, "Use smaller batches"))

    def report(self):
        _, _, slot, turn, _, _, _ = self.grant
        placed = self.placed
        flags = NEW_SPEC * placed.new_spec + HELD * placed.held + self.flags
        self.send(
            MAGIC, self.kind, flags, slot, turn, placed.spec, placed.header_offset, placed.nbytes,
            self.writer.high_water, 1000, 100, 10,
        )  # fmt: skip
        self.world.note_reported(self, self.grant)
        self.world.reached["held by the worker"] += placed.held
        self.grant = self.placed = None
        self.report_released()

    def release_kept(self):
        array = self.kept.popleft()
        array[...] = -1  # user code may write to the array until it releases it
        del array
        self.report_released()

    def report_released(self):
        while self.writer.let_go:
            self.world.reached["released by the worker"] += 1
            self.say(ReportKind.LET_GO, self.writer.let_go.popleft(), 0)

    def say(self, kind, slot, turn, nbytes=0):
        self.send(MAGIC, kind, 0, slot, turn, 0, 0, nbytes, self.writer.high_water, 0, 0, 0)

    def send(self, *fields):
        os.write(self.reports, REPORT.pack(*fields))

    def close(self):
        os.close(self.grants)
        os.close(self.reports)
        self.kept.clear()


class ForkServer:
    """A launcher that creates workers of the world."""

    def __init__(self, world):
        self.world = world
        self.pending_events = deque()
        self.image = None
        self.is_gone = False
        self.read_end, self.write_end = os.pipe()

    def watch(self, poller):
        self.poller = poller
        poller.register(self.read_end, select.POLLIN)

    def tell(self, event):
        self.pending_events.append(event)
        os.write(self.write_end, b"!")

    def set_image(self, image):
        self.check()
        known, self.image = self.image, image
        if known is not None and known.fingerprint == image.fingerprint:
            return None
        return image.patch(find_digests(image, known.digests if known else []))

    def has_image(self, image):
        return self.image is not None and self.image.fingerprint == image.fingerprint

    def check(self):
        if self.is_gone:
            raise LauncherGone(-9)

    def start_worker(self, key, config, ends):
        self.check()
        buffers = [np.frombuffer(buffer, np.uint8).copy() for buffer in self.image.buffers]
        source = pickle.loads(self.image.data, buffers=buffers).source
        self.world.workers[key] = Worker(self.world, key, config, ends, source, buffers)
        self.tell(ProcessEvent(key, Process(10**9 + key, -1)))

    def kill(self, key, number):
        self.check()
        worker = self.world.workers.get(key)
        if worker is not None:
            self.world.dies(worker, -number)

    def events(self, timeout_s=0):
        while not self.pending_events and not self.is_gone and timeout_s != 0:
            self.world.step(may_kill=False)  # the caller waits for workers that must end
        found, self.pending_events = list(self.pending_events), deque()
        if found:
            os.read(self.read_end, 1 << 16)
        elif self.is_gone:
            raise LauncherGone(-9)
        return found

    def dies(self):
        """End the fork server and all its workers; discard pending events."""
        self.is_gone = True
        for worker in list(self.world.workers.values()):
            self.world.dies(worker, -9)
        self.pending_events.clear()
        os.write(self.write_end, b"!")

    def release(self, *, reusable):
        for worker in list(self.world.workers.values()):
            self.world.dies(worker, -9)
        self.poller.unregister(self.read_end)
        for fd in (self.read_end, self.write_end):
            os.close(fd)
        self.world.fork_server = None
        return -9 if self.is_gone else None


class Sync(SourceSync):
    """The real source synchronization with simulated fork servers."""

    def __init__(self, payload, world):
        watch = SourceWatch(payload, is_local=False)  # its images have digests
        super().__init__(watch, watch.take_image(), spawn=False)
        self.world = world

    def begin(self):
        """Skip the wait, because no interpreter starts."""

    def launch(self):
        self.world.fork_server = ForkServer(self.world)
        self.equip(self.world.fork_server)
        return self.world.fork_server


class Backend(ProcessBackend):
    """The real backend. When it would sleep, the world takes a step."""

    def __init__(self, ledger, state, job, world):
        self.world = world
        super().__init__(ledger, state, job)

    def _open(self, undo):
        super()._open(undo)
        self.world.ring = self.pool.ring
        self._slow.time_left_s = lambda: None  # its clock differs from the world's

    def _poll(self, timeout_s):
        while True:
            events = super()._poll(0)
            if events or timeout_s == 0:
                return events
            if timeout_s is not None and self.world.choose([True, False]):
                self.world.now_ns += int(timeout_s * 1e9)
                return []  # simulated time passes
            self.world.step()


class World:
    """An engine with simulated workers.

    Args:
        source: A `Source`.
        schedule: Schedule of its batches.
        num_workers: Number of workers.
        credit: Credit limit of the pipeline.
        choose: Function that picks an item of a list, the only source of randomness.
        max_pages: Number of pages of the file system of the ring.
        epoch_end: Argument of `Pipeline`.
        restarts: Argument of an enqueuer.
        death_rate: One in ``death_rate`` steps is a crash; 0 for none.
        reached: Counter of events.
        ends_epochs: Argument of `Pipeline`.
        ring: Argument of a job.
    """

    def __init__(
        self, source, schedule, num_workers, credit, choose, *, max_pages=1 << 40, epoch_end=None, ordered=True,
        restarts=1000, death_rate=0, copy=False, reached=None, ends_epochs=True, ring=LOCAL,
    ):  # fmt: skip
        self.reached = Counter() if reached is None else reached
        self.choose, self.death_rate = choose, death_rate
        self.workers, self.fork_server, self.ring = {}, None, None
        self.grants_in_flight = {}  # by the worker's key: the grants that it has read and not reported
        self.num_deaths = 0
        ledger = Ledger(schedule, credit, ordered=ordered)
        self.pipeline = Pipeline(ledger, epoch_end=epoch_end, timed_epoch_end=False, ends_epochs=ends_epochs)
        options = Options(restarts=restarts, copy=copy)
        order = BatchesOrder.of(source=Items(source), options=Options(), ranks=Ranks())
        plan = Plan(order=order, seed_given=True)
        self.job = Job(plan=plan, workers=num_workers, options=options, ring=ring)
        self.now_ns = 0
        self._clocks = [mock.patch.object(module, "_clock", self.clock) for module in (dispatcher, lane_dispatcher)]
        for clock in self._clocks:
            clock.start()
        with small_segments(max_pages):
            self.backend = Backend(self.pipeline.ledger, Sync(self.job.payload, self), self.job, self)
            self.pipeline.start(self.backend)

    def clock(self):
        """Return the simulated time."""
        return self.now_ns

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def num_exchanged(self):
        """Number of times that grants were taken back for other slots."""
        return self.backend.dispatcher._reuse.num_exchanged

    def note_begun(self, worker, grant):
        self.grants_in_flight[worker.key] = grant

    def note_reported(self, worker, grant):
        assert self.grants_in_flight.pop(worker.key) == grant

    def dies(self, worker, exitcode):
        """End a worker in any state."""
        if self.workers.pop(worker.key, None) is None:
            return
        self.grants_in_flight.pop(worker.key, None)
        worker.close()
        self.fork_server.tell(ProcessEvent(worker.key, exitcode=exitcode))

    def kill_one(self, *, starved_first=False):
        """Kill a worker or the fork server."""
        self.num_deaths += 1
        starved = [worker for worker in self.workers.values() if worker.is_starved]
        victims = (
            starved if starved and starved_first else [*self.workers.values(), *[None] * (self.choose(range(8)) == 0)]
        )
        victim = self.choose(victims) if victims else None
        if victim is not None:
            kind = "starved" if victim.is_starved else "busy" if victim.grant is not None else "idle"
            self.reached[f"worker crashes while {kind}"] += 1
            self.dies(victim, -signal.SIGKILL)
        elif self.fork_server is not None and not self.fork_server.is_gone:
            self.reached["fork server crashes"] += 1
            self.fork_server.dies()

    def step(self, *, may_kill=True):
        """Take one of the possible steps."""
        self.now_ns += 50_000
        if may_kill and self.death_rate and self.choose(range(self.death_rate)) == 0:
            self.kill_one()
            return
        moves = [move for worker in self.workers.values() for move in worker.moves()]
        if not moves:
            raise Deadlock(self.describe())
        self.choose(moves)()

    def describe(self):
        """Describe the state of the engine and its workers."""
        backend = self.backend
        pool = backend.pool
        workers = {
            worker.index: ([work.work_item.work_id for work in worker.in_flight.values()], worker.life.state.value)
            for worker in pool.roster.workers.values()
        }
        return (
            f"head {self.pipeline.ledger.head}, ready {list(pool.ready)}, "
            f"pending {[work_item.work_id for work_item in pool.pending]}, "
            f"in flight {workers}, starved {[key for key, worker in self.workers.items() if worker.is_starved]}, "
            f"vacant {list(backend.supervision.vacant)}, slots {[slot.state.value for slot in pool.ring.slots.slots]}"
        )

    def has_moves(self):
        return any(worker.moves() for worker in self.workers.values())

    def close(self):
        """Stop the engine, and assert that no worker remains."""
        try:
            self.pipeline.stop()
        finally:
            for clock in self._clocks:
                clock.stop()
        assert not self.workers
        assert self.fork_server is None


@contextlib.contextmanager
def small_segments(max_pages):
    """Create rings in file systems of ``max_pages`` pages within the context."""
    from mpqueue.memory import ring

    kind = type("SmallSegment", (SmallSegment,), {"max_pages": max_pages})
    ring.Segment, real = kind, ring.Segment
    try:
        yield
    finally:
        ring.Segment = real


class MachineOfAWorld(AimingMachine):
    """The moves that dispatchers and servers share: their machines have a `world`, and `take_one`."""

    random = None

    def chance(self, things):
        """Choose for the simulated world: how often it chooses depends on garbage collections."""
        return things[self.random.randrange(len(things))] if self.random is not None else things[0]

    def new_chance(self):
        self.random = random.Random(self.choose(range(1 << 16)))

    def batches_are_taken(self):
        for _ in range(self.choose(range(1, 7))):
            self.new_chance()
            self.take_one()

    def the_world_continues(self):
        self.new_chance()
        for _ in range(self.choose(range(1, 13))):
            if self.world.has_moves():
                self.world.step()

    def somebody_dies(self):
        self.new_chance()
        self.world.kill_one(starved_first=self.choose([False, True]))

    def the_state_is_inconsistent(self):
        """Simulate the state after an interrupt."""
        self.new_chance()
        pipeline = self.world.pipeline
        pipeline.guard.is_inconsistent = pipeline.ledger.needs_attention = True
        self.reached["inconsistent"] += 1

    def each_work_item_is_in_one_place(self):
        ledger, pool = self.world.pipeline.ledger, self.world.backend.pool
        granted = [w.work_item.work_id for worker in pool.roster.workers.values() for w in worker.in_flight.values()
                   if not w.cancelled]  # fmt: skip
        everywhere = [*granted, *(work_item.work_id for work_item in pool.pending), *pool.ready]
        assert len(everywhere) == len(set(everywhere))
        assert set(everywhere) <= set(ledger.work_items)
