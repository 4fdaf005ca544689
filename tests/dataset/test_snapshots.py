"""The frequency of snapshots: often enough to recompute little, rarely enough to cost little."""

import json
import pickle

import pytest

from mpqueue import Dataset
from mpqueue.dataset.lanes.lane import StreamLane
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.engine.outcomes import BatchWithState
from mpqueue.worker import context
from mpqueue.worker.runners import lane_runner
from mpqueue.worker.runners.lane_runner import LaneRunner
from mpqueue.worker.runners.lanes import LaneRun
from mpqueue.worker.runners.runner import RunnerArguments

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


@pytest.mark.parametrize("first", [0, 1 << 31])
@pytest.mark.parametrize("stages", [lambda kept: kept, lambda kept: kept.batch(3, collate=tuple).take(1 << 40)])
def test_held_indices_are_plain_integers_in_a_state(first, stages):
    dataset = stages(Dataset.range(1 << 40).skip(first).filter(lambda position: True).shuffle(buffer=500))
    source, run = DatasetLanes(dataset.root), LaneRun(0, 1, 0, 0, context.begin_batch)
    lane = source.open_lane(run)
    for _ in range(40):
        lane.next()
    state = pickle.loads(pickle.dumps(lane.save()))
    by_json = json.loads(json.dumps(state))
    assert by_json == state
    wanted = [lane.next() for _ in range(600)]
    for saved in (state, by_json):
        again = source.open_lane(run._replace(state=saved))
        assert [again.next() for _ in range(600)] == wanted
