"""What samples and snapshots cost: calls per sample, elements read ahead, and the time between snapshots."""

import sys
from pathlib import Path

import numpy as np
import pytest

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.lanes import ahead
from mpqueue.dataset.lanes.lane import StreamLane
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.engine.outcomes import BatchWithState
from mpqueue.worker import context
from mpqueue.worker.context import begin_batch
from mpqueue.worker.runners import lane_runner
from mpqueue.worker.runners.lane_runner import LaneRunner
from mpqueue.worker.runners.lanes import LaneRun
from mpqueue.worker.runners.runner import RunnerArguments, StreamEnd

pytestmark = pytest.mark.sample(2)

PACKAGE = str(Path(mpqueue.__file__).parent)
SAMPLES, WARM_UP, WATCHED = 12_000, 4_000, 4_000


class Counting:
    """A map function that counts the calls in its worker between two calls of itself."""

    def __init__(self, path):
        self.path, self.num_calls, self.counted = path, 0, 0

    def watch(self, frame, event, _):
        self.counted += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)

    def __call__(self, sample):
        self.num_calls += 1
        if self.num_calls == WARM_UP:
            sys.setprofile(self.watch)
        elif self.num_calls == WARM_UP + WATCHED:
            sys.setprofile(None)
            self.path.write_text(str(self.counted / WATCHED))
        return sample


def keep(_):
    return True


def drawing(sample):
    return sample + mpqueue.rng().bit_generator.state["has_uint32"]


CHAINS = {
    "map, indexed": lambda dataset: dataset,
    "map": lambda dataset: dataset.shuffle(buffer=1),
    "map and filter": lambda dataset: dataset.filter(keep),
    "shuffle": lambda dataset: dataset.filter(keep).shuffle(buffer=1000),
}


# Options of the loader, and the most calls per sample. A block of 256 makes about 5 calls per stage and 30 for the
# batch, and the batch makes as many again. Seeding per sample and stage would take ten calls. Without workers, each
# batch is timed on a busy machine and followed by a snapshot.
IN_A_WORKER = {"workers": 1}, 0.5
IN_A_THREAD = {"workers": 1, "backend": "thread"}, 0.5
IN_THE_CALLER = {"workers": 0}, 2


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *((name, IN_A_WORKER) for name in CHAINS),
        ("map and filter", IN_A_THREAD),
        ("map and filter", IN_THE_CALLER),
        ("torch", ({"workers": 1, "start_method": "fork"}, 0.5)),  # which inherits the imported torch
        ("drawing", ({"workers": 1}, 12)),
    ],
)
def test_only_samples_that_draw_pay_for_random_numbers(name, place, tmp_path):
    path, (options, most) = tmp_path / "calls", place
    dataset = Dataset.range(SAMPLES)
    if name == "torch":
        dataset = dataset.map(pytest.importorskip("torch").is_tensor).map(Counting(path)).filter(keep)
    elif name == "drawing":
        dataset = dataset.map(Counting(path)).map(drawing)
    else:
        dataset = CHAINS[name](dataset.map(Counting(path)))
    with mpqueue.Loader(dataset.batch(256), seed=3, **options) as loader:
        num_samples = sum(len(batch) for batch in loader)
    assert num_samples == SAMPLES
    assert float(path.read_text()) < most


# -- The frequency of snapshots


LANES, ELEMENT_NS = 4, 1_000_000
EVERY = lane_runner._BETWEEN_NS // LANES // ELEMENT_NS  # elements of a lane between snapshots, if a snapshot is cheap


class Run:
    """Lanes with elements and snapshots of given durations."""

    def __init__(self, monkeypatch):
        self.now, self.save_ns, self.held_up_ns, self.number, self.num_saves = 0, 1000, 0, 0, 0
        self.behind = dict.fromkeys(range(LANES), 0)
        monkeypatch.setattr(lane_runner, "clock_ns", lambda: self.now)
        save = StreamLane.save

        def slow_save(lane):
            self.now += self.save_ns + self.held_up_ns
            self.held_up_ns = 0
            self.num_saves += 1
            return save(lane)

        monkeypatch.setattr(StreamLane, "save", slow_save)
        dataset = Dataset.range(1 << 40).filter(self._keep)
        info = context.WorkerInfo(0, 1, 0)
        parts = RunnerArguments(
            DatasetLanes(dataset.root), info, context.begin_batch, None, in_slot=False, num_lanes=LANES
        )
        self._runner = LaneRunner(parts)

    def _keep(self, _):
        self.now += ELEMENT_NS
        return True

    def go(self, rounds):
        """Run all lanes for some rounds; return the maximum number of elements between two snapshots of a lane."""
        most = 0
        for _ in range(rounds):
            for lane in range(LANES):
                found = self._runner.run(0, self.number * LANES + lane)
                self.behind[lane] = 0 if isinstance(found, BatchWithState) else self.behind[lane] + 1
                most = max(most, self.behind[lane])
            self.number += 1
        return most


@pytest.fixture
def run(own_thread, monkeypatch):
    return Run(monkeypatch)


def test_half_a_second_of_work_between_snapshots_of_all_lanes(run):
    assert EVERY // 2 < run.go(5 * EVERY) <= EVERY


def test_delayed_snapshot_does_not_delay_the_next_one(run):
    run.go(EVERY + 1)
    for _ in range(4):
        run.held_up_ns = 3_000_000_000
        assert run.go(3 * EVERY) <= EVERY


def test_slow_snapshots_are_rare(run):
    run.save_ns = 10_000_000
    run.go(12 * 100)
    assert run.go(3000) >= 0.9 * 100 * run.save_ns // ELEMENT_NS


def test_first_snapshots_determine_the_interval(run):
    """Lanes share the measured cost: if each of 16 lanes tried a snapshot, the first round would exceed the limit for 3
    s.
    """
    run.save_ns = 10_000_000
    for _ in range(30):
        run.go(100)
        assert 100 * (run.num_saves - 3) * run.save_ns <= run.now


# -- Blocks of elements


def test_buffer_keeps_arrays_and_lists_as_objects():
    samples = [np.array(number) if number % 2 else np.full(number, number) for number in range(400)]
    dataset = Dataset(samples).filter(lambda _: True).shuffle(buffer=30).batch(40, collate=list)
    found = [sample for batch in dataset for sample in batch]
    assert sorted(map(id, found)) == sorted(map(id, samples))


class Lane:
    """A lane of batches of ten with elements of a given duration."""

    def __init__(self, monkeypatch, **run):
        self.taken, self.now, self.each_ns = 0, 0, 0
        monkeypatch.setattr(ahead, "clock_ns", lambda: self.now)
        dataset = Dataset.range(1 << 40).map(self._take).filter(lambda number: number % 3 > 0).batch(10)
        self.lane = DatasetLanes(dataset.root).open_lane(LaneRun(0, 1, 1, 0, begin_batch, **run))

    def _take(self, number):
        self.taken += 1
        self.now += self.each_ns
        return number

    def most_ahead(self, count=60):
        """Return the maximum number of elements that were read ahead."""
        num_elements, most = 0, 0
        for _ in range(count):
            num_elements += len(self.lane.next())
            most = max(most, self.taken - num_elements * 3 // 2)
        return most


def test_cheap_elements_are_read_ahead_in_bounded_blocks(monkeypatch):
    assert 30 < Lane(monkeypatch).most_ahead() <= 8 * 10


@pytest.mark.parametrize(("each_ns", "most"), [(ahead._AHEAD_NS, 1), (ahead._AHEAD_NS // 30, 30)])
def test_slow_elements_are_computed_on_demand(monkeypatch, each_ns, most):
    lane = Lane(monkeypatch)
    lane.each_ns = each_ns
    assert lane.most_ahead() <= most


def test_no_read_ahead_when_errors_are_skipped(monkeypatch):
    assert Lane(monkeypatch, skip=lambda _: None).most_ahead() <= 1


def test_large_elements_are_read_one_by_one():
    taken = []

    def large(number):
        taken.append(number)
        return np.full(2000, number)

    dataset = Dataset.range(1 << 20).filter(lambda _: True).map(large).batch(10)
    lane = DatasetLanes(dataset.root).open_lane(LaneRun(0, 1, 1, 0, begin_batch))
    for count in range(1, 9):
        assert lane.next().shape == (10, 2000)
        assert len(taken) == 10 * count


def test_small_and_large_elements_can_alternate_between_batches():
    rows = Dataset.range(64).map(lambda number: np.full(2000 if number // 4 % 2 else 3, number))
    lane = DatasetLanes(rows.filter(lambda _: True).batch(4).root).open_lane(LaneRun(0, 1, 1, 0, begin_batch))
    found = [lane.next() for _ in range(16)]
    assert [batch.shape for batch in found] == [(4, 3), (4, 2000)] * 8
    assert [number for batch in found for number in batch[:, 0].tolist()] == list(range(64))
    with pytest.raises(StreamEnd):
        lane.next()
