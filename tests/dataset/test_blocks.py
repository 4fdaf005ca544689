"""Blocks of elements: a buffer that swaps blocks, and read-ahead before a batch."""

import numpy as np
import pytest

from mpqueue import Dataset
from mpqueue.dataset.lanes import ahead
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.worker.context import begin_batch
from mpqueue.worker.runners.lanes import LaneRun
from mpqueue.worker.runners.runner import StreamEnd


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
