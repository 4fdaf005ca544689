"""Saved states are small, and are restored exactly."""

import json
import pickle

import numpy as np
import pytest
from helpers.saved_states import take
from helpers.stage_inputs import opened_at

from mpqueue import Dataset, Loader
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.errors import StateDamaged
from mpqueue.plan.states.compact import compacted, restored
from mpqueue.worker import context
from mpqueue.worker.runners.lanes import LaneRun

LONG = "a text that makes a state long " * 50


def kept(value):
    return value % 4 != 0


def by_chance(value):
    return value * 2654435761 % 1000 < 700


def same(one, other):
    return one == other and repr(one) == repr(other)


@pytest.mark.parametrize(
    "state",
    [
        [1, 2, 3] * 10, list(range(0, 1000, 7)), [-5, 1 << 61, -(1 << 61), 0] * 8, [1 << 63, 1] * 10,
        [(1 << 62) + 1, -(1 << 62) - 1] * 10, [1 << 100] * 20, [True, False] * 10, [True, 1] * 10, (1, (2, [3, (4,)])),
        {"a": {"b": [None, True, 1.5, "é"]}, "": -1}, [[number] * 20 for number in range(20)],
        {"held": list(range(20)), "pick": 3},
        {"held": list(range(20)), "pick": 3, "draining": False, "key": [1, 2], "size": 20},
    ],
)  # fmt: skip
def test_snapshots_are_restored_exactly(state):
    snapshots = [[3, {"state": state, "more": LONG}], None]
    packed = compacted(snapshots)
    assert isinstance(packed, str)
    assert same(restored(json.loads(json.dumps(packed))), snapshots)


@pytest.mark.parametrize(
    "state",
    [
        {1: 2},
        {"~gaps": [1]},
        b"bytes",
        np.arange(3),
        float("inf"),
        "\ud800",
        {1, 2},
        [np.int64(1)] * 20,
        1 << 5000,
        {"held": list(range(20)), "pick": 3, "draining": False, "key": "of the user", "size": 20},
    ],
)
def test_values_that_json_would_change_are_kept(state):
    snapshots = [[3, {"state": state, "more": LONG}], None]
    assert compacted(snapshots) is snapshots
    assert restored(snapshots) is snapshots


def test_short_snapshots_are_human_readable():
    snapshots = [[3, {"place": 5}], None]
    assert compacted(snapshots) is snapshots


@pytest.mark.parametrize("text", ["", "zlib:", "zlib:AAAA", "zlib:!", "other", "zlib:eJyrBQAAkAB7"])
def test_damaged_string_is_named(text):
    with pytest.raises(StateDamaged, match="the snapshots of a state cannot be read"):
        restored(text)


PIPELINES = {
    "full": (lambda rows: rows.shuffle(buffer=100), [1, 50, 800, 1500]),
    "draining": (lambda rows: rows.shuffle(buffer=100), [1950, 1995]),
    "never full": (lambda rows: rows.shuffle(buffer=5000), [1, 700]),
    "two buffers": (lambda rows: rows.shuffle(buffer=100).shuffle(buffer=50), [1, 900, 1900, 1980]),
    "batches": (lambda rows: rows.batch(3, collate=tuple).shuffle(buffer=40), [1, 300, 650]),
    "repeated": (lambda rows: rows.take(300).shuffle(buffer=100).repeat(5), [350, 250, 1450]),
}


@pytest.mark.usefixtures("_own_thread")
@pytest.mark.parametrize("name", PIPELINES)
def test_buffer_is_restored_in_order(name):
    make, numbers = PIPELINES[name]
    source = DatasetLanes(make(Dataset.range(2000).filter(lambda value: True)).root)
    run = LaneRun(0, 1, 5, 2, context.begin_batch)
    for number in numbers:
        lane = source.open_lane(run)
        for _ in range(number):
            lane.next()
        snapshot = [number, pickle.loads(pickle.dumps(lane.save()))]
        packed = compacted([snapshot, [0, LONG]])
        assert isinstance(packed, str)
        assert restored(packed) == [snapshot, [0, LONG]]
        again = opened_at(source, run, restored(packed)[0][1])
        rest = [lane.next() for _ in range(5)]
        assert [again.next() for _ in range(5)] == rest


@pytest.fixture
def _own_thread():
    restore = context.keep_thread()
    yield
    restore()


@pytest.mark.usefixtures("_own_thread")
def test_large_buffer_takes_two_bytes_per_element():
    """A string of decimal numbers would take eight."""
    size = 50_000
    rows = Dataset.range(1 << 40).shuffle().filter(by_chance).shuffle(buffer=size).batch(2048, collate=len)
    lane = DatasetLanes(rows.root).open_lane(LaneRun(3, 16, 5, 0, context.begin_batch))
    for _ in range(60):
        assert lane.next() == 2048
    snapshot = [0, pickle.loads(pickle.dumps(lane.save()))]
    packed = compacted([snapshot])
    assert len(json.dumps(packed)) <= 2 * size
    assert restored(packed) == [snapshot]


@pytest.mark.sample(2)
@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("keep", [kept, by_chance])
@pytest.mark.parametrize("stages", [lambda rows: rows, lambda rows: rows.batch(32), lambda rows: rows.batch(500)])
def test_stream_without_buffer_takes_four_kilobytes(keep, stages):
    """With 16 virtual shards; without compression of waiting elements, up to 78."""
    dataset = stages(Dataset.range(1 << 30).shuffle().filter(keep))
    with Loader(dataset, workers=0, seed=3) as loader:
        _, batches = take(loader, 50)
        state = loader.state_dict()
        wanted, batches = take(loader, 5, batches)
        del batches
    assert len(json.dumps(state)) <= 4096
    with Loader(dataset, workers=0, seed=3) as loader:
        loader.load_state_dict(json.loads(json.dumps(state)))
        assert take(loader, 5)[0] == wanted
