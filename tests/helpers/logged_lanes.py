"""A source of lanes that logs each computed element, and streams of it with any number of lanes."""

import collections
import contextlib
import os

import numpy as np

import mpqueue
from helpers.faults import burns
from helpers.gates import pass_gate
from mpqueue.backends.job import Job
from mpqueue.engine.backend import EndOfStream
from mpqueue.loader.session import Session
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.stream_cursor import StreamCursor
from mpqueue.worker import context
from mpqueue.worker.runners import lane_runner
from mpqueue.worker.runners.runner import StreamEnd

LANES = 16


class Counted:
    """Lanes of elements: each is (lane, number, a random word, the sum of all earlier words).

    An endless stream continues each lane.

    Args:
        length: Number of elements of each lane; odd lanes have one less.
        log: Path of a file that gets a line for each computed element.
        at: Called with (lane, number) before an element is computed.
        saving: Called with (lane, number) before a lane saves its state.

    Attributes:
        dropped: Path of a FIFO that gets a line "lane pid" when a process releases a lane.
    """

    dropped = None

    def __init__(self, log, length=12, at=None, saving=None):
        self.log, self.length, self.at, self.saving = str(log), length, at, saving

    def __setstate__(self, state):
        """Restore the settings in a process that is not forked from the test."""
        vars(self).update(state)
        if state.get("is_always_saved"):
            lane_runner._BETWEEN_NS = lane_runner._WORK_PER_SAVE = 0

    def open_lane(self, run):
        return CountedLane(self, run)

    def shape(self):
        return [f"Counted({self.length})"]


class CountedLane:
    def __init__(self, source, run):
        self.source, self.run = source, run
        self.number, self.total = run.state or (0, 0)

    def __del__(self):
        if self.source.dropped is not None:
            with open(self.source.dropped, "w", encoding="ascii") as fifo:
                fifo.write(f"{self.run.lane} {os.getpid()}\n")

    def next(self):
        source, run, number = self.source, self.run, self.number
        assert context.worker_info().shard_id == run.lane
        if number == source.length - run.lane % 2 and not run.endless:
            raise StreamEnd
        if source.at is not None:
            source.at(run, number)
        with open(source.log, "a", encoding="ascii") as log:
            log.write(f"{run.lane} {number}\n")
        run.begin(run.seed, run.epoch, number * run.num_lanes + run.lane)
        word = int(mpqueue.rng().integers(1 << 30))
        self.number, self.total = number + 1, self.total + word
        return np.array([run.lane, number, word, self.total])

    def save(self):
        if self.source.saving is not None:
            self.source.saving(self.run, self.number)
        return [self.number, self.total]


def expected(length=12, num_lanes=LANES):
    """Return the expected elements: lanes in turn, each until it ends."""
    rounds = [(lane, number) for number in range(length) for lane in range(num_lanes)]
    return [(lane, number) for lane, number in rounds if number < length - lane % 2]


@contextlib.contextmanager
def running(source, *, workers=3, lanes=LANES, backend="process", point=None, skips=False, **options):
    session = Session()
    on_error = "skip" if skips else "raise"
    plan = resolve(source, Options(lanes=lanes, on_error=on_error), seed=3, seed_given=True)
    job = Job(plan=plan, workers=workers, options=Options(**options))
    try:
        yield session.start(job, StreamCursor(lanes), backend, 2 * lanes, point or ResumePoint())
    finally:
        session.stop()


def rest(pipeline):
    found = []
    with contextlib.suppress(EndOfStream):
        while True:
            found.append(pipeline.next().tolist())
    return found


def all_of(source, **options):
    with running(source, **options) as pipeline:
        return rest(pipeline)


def computed(log):
    """Return how often each element was computed."""
    with open(log, encoding="ascii") as lines:
        return collections.Counter(tuple(map(int, line.split())) for line in lines)


class AtGate:
    """A callable that passes a gate once, before one element."""

    def __init__(self, gate, fuse, lane, number):
        self.gate, self.fuse, self.point = gate, str(fuse), (lane, number)

    def __call__(self, run, number):
        if (run.lane, number) == self.point and burns(self.fuse):
            pass_gate(self.gate)
