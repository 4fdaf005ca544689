"""Streams in lanes yield the same elements with any worker and any crash; they, and iterables, continue from states."""

import os
import pickle
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from helpers.call_counts import instructions_of
from helpers.declared_hangs import TIMEOUT_S, DeclaredHangs, judge_by
from helpers.faults import burns
from helpers.gates import Gate, pass_gate
from helpers.logged_lanes import LANES, AtGate, Counted, CountedLane, all_of, computed, expected, rest, running
from helpers.signal_handlers import raising

import mpqueue
from mpqueue import Loader
from mpqueue.backends.processes import lane_dispatcher
from mpqueue.engine.backend import EndOfStream
from mpqueue.errors import BatchTimeout, WorkerDied
from mpqueue.memory.writer import SlotWriter
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.worker import main as worker_main
from mpqueue.worker.context import WorkerInfo, keep_thread
from mpqueue.worker.runners import lane_runner
from mpqueue.worker.runners.runner import RunnerArguments

pytestmark = [pytest.mark.sample(1), pytest.mark.shared_fork_server]

BACKENDS = pytest.mark.parametrize(("backend", "workers"), [("process", 3), ("thread", 3), ("process", 0)])


@pytest.fixture
def undisturbed(tmp_path):
    return all_of(Counted(tmp_path / "undisturbed"), workers=0)


@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("when", ["at", "saving"])
def test_lanes_of_a_killed_worker_continue_from_their_snapshots(tmp_path, undisturbed, when):
    with Gate() as gate:
        source = Counted(tmp_path / "log", **{when: AtGate(gate.address, tmp_path / "fuse", 5, 8)})
        with running(source, start_method="fork") as pipeline:
            found = [pipeline.next().tolist() for _ in range(LANES)]
            killer = threading.Thread(target=lambda: gate.arrival().kill())
            killer.start()
            found += rest(pipeline)
            killer.join()
            assert (pipeline.backend.statistics().deaths, pipeline.backend.statistics().restarts) == (1, 1)
    assert found == undisturbed
    again = {point for point, count in computed(tmp_path / "log").items() if count > 1}
    assert all(number >= 6 for _, number in again), "computed from the beginning"
    assert len(again) <= 2 * LANES // 3


@pytest.fixture
def moves_only_when_asked(monkeypatch):
    """Return a function that allows moves of lanes; until then, a slow machine moves none, of any age.

    A worker reads one grant at a time: those that it reads ahead, as it does while they are cheap, cannot move.
    """
    monkeypatch.setattr(worker_main, "_AHEAD_NS", 0)
    with monkeypatch.context() as patch:
        patch.setattr(lane_dispatcher, "_MOVE_AFTER_NS", 600 * 10**9)
        yield patch.undo


def waiting_source(gate, log):
    """Return a source that passes a gate before element 3 of each even lane."""

    def wait_at_3(run, number):
        if run.lane % 2 == 0 and number == 3:
            pass_gate(gate.address, run.lane)

    return Counted(log, at=wait_at_3)


@pytest.mark.usefixtures("always_saved")
def test_lane_of_a_slow_worker_moves_to_an_idle_one_and_is_released(tmp_path, moves_only_when_asked):
    """Its buffers may be large, and the epoch long."""
    fifo = tmp_path / "dropped"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool, open(os.open(fifo, os.O_RDWR), encoding="ascii") as drops, Gate() as gate:
        source = waiting_source(gate, tmp_path / "log")
        source.dropped = str(fifo)
        with running(source, workers=2, lanes=4, start_method="fork") as pipeline:
            found = [pipeline.next().tolist() for _ in range(4)]
            moves_only_when_asked()
            later = pool.submit(rest, pipeline)
            arrivals = {arrival.pid: arrival for arrival in (gate.arrival(), gate.arrival())}
            owner = pipeline.backend.pool.roster.pids[0]  # it has opened both lanes, and one has moved
            stays, [moved] = arrivals.pop(owner), arrivals.values()
            stays.let_go()
            assert f"{moved.tag} {owner}\n" in iter(drops.readline, "")
            moved.let_go()
            found += later.result()
    assert {stays.tag, moved.tag} == {0, 2}
    assert [(lane, number) for lane, number, *_ in found] == expected(num_lanes=4)
    assert found == all_of(Counted(tmp_path / "other"), workers=0, lanes=4)


def test_lane_per_worker_does_not_move(tmp_path):
    """User code may choose its share by the number of its worker."""
    with running(Counted(tmp_path / "log"), workers=3, lanes=3) as pipeline:
        assert not pipeline.backend.pool.owners.may_move
    with running(Counted(tmp_path / "log"), workers=3, lanes=6) as pipeline:
        assert pipeline.backend.pool.owners.may_move


@pytest.mark.usefixtures("always_saved")
def test_element_after_a_timeout_is_computed_again_from_its_snapshot(tmp_path, undisturbed, monkeypatch):
    hanging = DeclaredHangs(tmp_path / "hanging")
    judge_by(hanging, monkeypatch)
    monkeypatch.setattr("mpqueue.backends.processes.hang._DUMP_S", 0.1)

    def hangs(run, number):
        if (run.lane, number) == (4, 7) and burns(str(tmp_path / "fuse")):
            hanging.declare()
            threading.Event().wait()

    source = Counted(tmp_path / "log", at=hangs)
    assert all_of(source, start_method="fork", batch_timeout=TIMEOUT_S) == undisturbed
    assert all(number >= 5 for (_, number), count in computed(tmp_path / "log").items() if count > 1)


@pytest.mark.usefixtures("always_saved")
def test_snapshot_without_memory_is_omitted(tmp_path, undisturbed, monkeypatch):
    monkeypatch.setattr(SlotWriter, "append", raising(OSError(28, "no room")))
    with running(Counted(tmp_path / "log"), start_method="fork") as pipeline:
        found = rest(pipeline)
        assert pipeline.progress.point().starts == ()
    assert found == undisturbed


@pytest.mark.usefixtures("always_saved")
@BACKENDS
@pytest.mark.parametrize("raises", [True, False])
def test_state_that_cannot_be_saved_is_an_error(tmp_path, monkeypatch, backend, workers, raises):
    if raises:
        error, text = RuntimeError, r"the state of lane 0 is unavailable: CountedLane.save\(\) raised KeyError"
    else:
        error, text = TypeError, "the state of lane 0 cannot be pickled.*plain data"
    monkeypatch.setattr(CountedLane, "save", lambda _: {}["gone"] if raises else threading.Lock())
    source = Counted(tmp_path / "log")
    with running(source, backend=backend, workers=workers, lanes=1, start_method="fork") as pipeline:
        with pytest.raises(error, match=text):
            pipeline.next()
        # The lane itself continues, without another error.
        assert [number for _, number, *_ in rest(pipeline)] == [number for _, number in expected(num_lanes=1)][1:]


class Kills:
    """Ends its process, or hangs, at an element: each time, or the given number of times."""

    def __init__(self, fuses, point=(1, 3), *, hanging=None):
        self.fuses, self.point, self.hanging = fuses, point, hanging

    def __call__(self, run, number):
        if (run.lane, number) == self.point and (self.fuses is None or any(map(burns, self.fuses))):
            if self.hanging is not None:
                self.hanging.declare()
                threading.Event().wait()
            os.kill(os.getpid(), signal.SIGKILL)


def outcomes(pipeline):
    """Return all outcomes: elements, and errors at their positions."""
    found = []
    while True:
        try:
            found.append(tuple(pipeline.next().tolist()[:2]))
        except (WorkerDied, BatchTimeout) as error:
            found.append(error)
        except EndOfStream:
            return found


@pytest.mark.sample(3)
@pytest.mark.parametrize(("restarts", "kind"), [(0, WorkerDied), (2, WorkerDied), (0, BatchTimeout)])
def test_element_that_ends_every_worker_ends_its_lane(tmp_path, monkeypatch, restarts, kind):
    """Later elements can only be computed through it: otherwise the lane would be an endless series of errors."""
    hanging = DeclaredHangs(tmp_path / "hanging")
    judge_by(hanging, monkeypatch)
    source = Counted(tmp_path / "log", at=Kills(None, hanging=hanging if kind is BatchTimeout else None))
    options = {"lanes": 4, "start_method": "fork", "restarts": restarts, "batch_timeout": TIMEOUT_S}
    with running(source, workers=2, **options) as pipeline:
        found = outcomes(pipeline)
        point = pipeline.progress.point()
        assert pipeline.backend.statistics().deaths == 2 * (restarts + 1)
    first, second = (error for error in found if isinstance(error, kind))
    assert not hasattr(first, "__notes__")
    assert "the rest of lane 1 is left out" in second.__notes__[0]
    assert [one for one in found if isinstance(one, tuple)] == [
        (lane, number) for lane, number in expected(num_lanes=4) if lane != 1 or number < 3
    ]
    assert point.ends[1] == 5
    with running(source, workers=1, point=point, **options) as pipeline:
        assert outcomes(pipeline) == []


@pytest.mark.parametrize("fuses", [1, 3])
def test_lane_continues_after_an_element_that_exceeded_its_restarts(tmp_path, fuses):
    """The error replaces the element; later elements are complete."""
    source = Counted(tmp_path / "log", at=Kills([str(tmp_path / f"fuse {number}") for number in range(fuses)]))
    with running(source, workers=2, lanes=4, start_method="fork", restarts=fuses - 1) as pipeline:
        found = outcomes(pipeline)
    assert [type(one) for one in found].count(WorkerDied) == 1
    assert [one for one in found if isinstance(one, tuple)] == [one for one in expected(num_lanes=4) if one != (1, 3)]


class Resumable:
    """The result of a function: numbers with a saved position."""

    def __init__(self, log, length=8):
        self.info, self.log, self.number, self.length = mpqueue.worker_info(), log, 0, length

    def __iter__(self):
        return self

    def __next__(self):
        if self.number == self.length:
            raise StopIteration
        with open(self.log, "a", encoding="ascii") as log:
            log.write(f"{self.info.shard_id} {self.number}\n")
        self.number += 1
        return np.array([self.info.shard_id, self.number - 1, mpqueue.rng().integers(1 << 30)])

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state):
        self.number = state["number"]


class Stateful:
    """An iterable with the state of its latest iterator, like Hugging Face datasets."""

    def __init__(self, log):
        self.log, self.latest, self.begins_at = log, None, 0

    def __iter__(self):
        self.latest = Resumable(self.log)
        self.latest.number = self.begins_at
        yield from self.latest

    def state_dict(self):
        return self.latest.state_dict()

    def load_state_dict(self, state):
        self.begins_at = state["number"]


@pytest.mark.usefixtures("always_saved")
@BACKENDS
@pytest.mark.parametrize("made", [lambda log: lambda: Resumable(log), lambda log: Stateful(log).__iter__])
def test_result_of_a_function_continues_from_its_state(tmp_path, backend, workers, made):
    whole = all_of(made(str(tmp_path / "whole")), workers=0, lanes=4)
    assert [(lane, number) for lane, number, _ in whole] == [(lane, n) for n in range(8) for lane in range(4)]
    source = made(str(tmp_path / "log"))
    with running(source, backend=backend, workers=workers, lanes=4, start_method="fork") as pipeline:
        found = [pipeline.next().tolist() for _ in range(18)]
        point = pipeline.progress.point()
    assert [start.element_index for start in point.starts] == [5, 5, 4, 4]
    rest_of = made(str(tmp_path / "rest"))
    with running(rest_of, backend=backend, workers=workers, lanes=4, point=point, start_method="fork") as pipeline:
        assert found + rest(pipeline) == whole
    # Of an iterable, the first two elements are read to know whether it continues at a state.
    of_rest = {point: count for point, count in computed(tmp_path / "rest").items() if point[1] > 1}
    assert set(of_rest.values()) == {1}
    assert len(of_rest) == len(whole) - 18


def test_lane_that_is_slow_to_resume_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(lane_runner, "_SLOW_S", -1)

    def numbers():
        yield from range(6)

    with running(numbers, workers=0, lanes=1, point=ResumePoint(counts=(3,))) as pipeline:
        with pytest.warns(RuntimeWarning, match="from its beginning again.*after element 3.*state_dict"):
            assert pipeline.next() == 3


def test_cost_of_opening_a_lane_does_not_grow_with_the_number_of_lanes():
    lane = SimpleNamespace(next=int, save=lambda: None)  # endless, and without a state
    source = SimpleNamespace(open_lane=lambda _: lane)

    def opening(num_lanes):
        parts = RunnerArguments(source, WorkerInfo(0, 1, 0), lambda *_: None, None, in_slot=False, num_lanes=num_lanes)
        runner = lane_runner.LaneRunner(parts)
        return lambda: [runner.run(0, index) for index in range(num_lanes)]

    restore = keep_thread()
    few, many = (instructions_of(opening(num_lanes)) for num_lanes in (64, 1024))
    restore()
    assert many < 1.5 * 16 * few


class Numbers:
    """Counts, and passes a gate before each number."""

    def __init__(self, gate):
        self.gate, self.number = gate, 0

    def __iter__(self):
        return self

    def __next__(self):
        pass_gate(self.gate, self.number)
        self.number += 1
        return self.number - 1


@pytest.mark.parametrize("killed", ["worker", "fork server"])
def test_iterator_does_not_restart_after_a_crash(killed):
    with Gate() as gate, Loader(Numbers(gate.address), workers=1, max_queue_size=2) as loader:
        batches = iter(loader)
        gate.arrival().let_go()
        assert next(batches) == 0
        worker = gate.arrival()
        os.kill(worker.pid if killed == "worker" else psutil.Process(worker.pid).ppid(), signal.SIGKILL)
        with pytest.raises(WorkerDied, match="generator object cannot be computed again"):
            next(batches)
        worker.let_go()
        statistics = loader.statistics()
    assert (statistics.deaths, statistics.restarts) == (1, 0)


LENGTH = 300


class Shuffled:
    """Counts its epochs in ``__iter__``, and so begins another epoch after a load."""

    def __init__(self):
        self.epoch, self.at = 0, 0

    def __iter__(self):
        self.epoch += 1
        order = random.Random(self.epoch).sample(range(LENGTH), LENGTH)
        info = mpqueue.worker_info()
        order = order if info is None else order[info.shard_id :: info.num_shards]
        while self.at < len(order):
            self.at += 1
            yield order[self.at - 1]
        self.at = 0

    def state_dict(self):
        return {"epoch": self.epoch, "at": self.at}

    def load_state_dict(self, state):
        self.epoch, self.at = state["epoch"], state["at"]


@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "make",
    [lambda: Shuffled().__iter__, lambda: Shuffled, lambda: mpqueue.Dataset(Shuffled())],
    ids=["method", "function", "dataset"],
)
def test_resumed_epoch_has_the_rest_of_its_order(make, workers):
    options = {"workers": workers, "seed": 1, "lanes": 2, "start_method": "fork"}
    with mpqueue.Loader(make(), **options) as loader:
        batches = iter(loader)
        before = [next(batches) for _ in range(LENGTH // 2)]
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        rest = list(batches)
    assert sorted(before + rest) == list(range(LENGTH))
    with mpqueue.Loader(make(), **options) as loader:
        loader.load_state_dict(state)
        assert list(loader) == rest
