"""When lanes take snapshots: so often that little is computed again, so seldom that they cost next to nothing."""

import pytest

from mpqueue import Dataset
from mpqueue.dataset.lane import StreamLane
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.engine.outcomes import WithTail
from mpqueue.worker import context, lane_runner
from mpqueue.worker.lane_runner import LaneRunner

LANES, ELEMENT_NS = 4, 1_000_000
EVERY = lane_runner._BETWEEN_NS // LANES // ELEMENT_NS  # elements of a lane, where a snapshot costs little


class Run:
    """Lanes whose elements and snapshots take as long as a test says."""

    def __init__(self, monkeypatch):
        self.now, self.save_ns, self.held_up_ns, self.number = 0, 1000, 0, 0
        self.behind = dict.fromkeys(range(LANES), 0)
        monkeypatch.setattr(lane_runner, "clock_ns", lambda: self.now)
        save = StreamLane.save

        def slow_save(lane):
            self.now += self.save_ns + self.held_up_ns
            self.held_up_ns = 0
            return save(lane)

        monkeypatch.setattr(StreamLane, "save", slow_save)
        dataset = Dataset.range(1 << 40).filter(self._keep)
        info = context.WorkerInfo(0, 1, 0)
        self._runner = LaneRunner(
            DatasetLanes(dataset.root), info, context.begin_batch, None, num_lanes=LANES, in_slot=False, torch=None
        )

    def _keep(self, _):
        self.now += ELEMENT_NS
        return True

    def go(self, rounds):
        """Run so many rounds of all lanes; return how many elements came between two snapshots of a lane, at most."""
        most = 0
        for _ in range(rounds):
            for lane in range(LANES):
                found = self._runner.run(0, self.number * LANES + lane)
                self.behind[lane] = 0 if isinstance(found, WithTail) else self.behind[lane] + 1
                most = max(most, self.behind[lane])
            self.number += 1
        return most


@pytest.fixture
def run(monkeypatch):
    before = context.of_thread()
    yield Run(monkeypatch)
    context.go_back(before)


def test_half_a_second_of_work_lies_between_the_snapshots_of_all_lanes(run):
    assert EVERY // 2 < run.go(5 * EVERY) <= EVERY


def test_a_snapshot_that_was_held_up_does_not_put_off_the_next_one(run):
    run.go(EVERY + 1)
    for _ in range(4):
        run.held_up_ns = 3_000_000_000
        assert run.go(3 * EVERY) <= EVERY


def test_snapshots_that_take_long_are_seldom(run):
    run.save_ns = 10_000_000
    run.go(12 * 100)
    assert run.go(3000) >= 0.9 * 100 * run.save_ns // ELEMENT_NS
