"""What follows an exclusion in a stream depends on its place, and not on what workers, threads or times have read."""

import itertools
import json
import pickle

import numpy as np
import pytest

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.worker.context import begin_batch
from mpqueue.worker.runners.lanes import LaneRun


def numbers(count=800):
    return Dataset.range(count).shuffle()


def is_kept(number):
    return number % 7 > 0


def ids_of(value):
    return np.asarray(value).ravel().tolist()


PIPELINES = {
    "threads before a batch": lambda: numbers().map(int, threads=3).filter(is_kept).shuffle(buffer=30).batch(8),
    "threads after a batch": lambda: numbers().filter(is_kept).batch(4).map(np.negative, threads=3).shuffle(buffer=5),
    "a filter after a buffer": lambda: numbers().shuffle(buffer=40).filter(is_kept).batch(8),
    "rows in a buffer": lambda: (
        numbers()
        .filter(is_kept)
        .map(lambda number: [number + 1] * (1 + number % 5))
        .pack(16)
        .shuffle(buffer=6)
        .batch(2)
    ),
    "buckets of a mix": lambda: Dataset.mix(
        [numbers(400).shuffle(buffer=9), Dataset.range(400, 800).filter(is_kept)], [2, 1]
    ).bucket(lambda number: number % 9, [3, 6], [5, 4, 3]),
    "items of elements": lambda: numbers().flat_map(lambda number: [number] * (number % 3)).shuffle(buffer=20).batch(8),
    "batches by index": lambda: numbers().batch(6).filter(lambda batch: batch[0] % 3 > 0).shuffle(buffer=4),
    "counted elements": lambda: numbers().filter(is_kept).take(500).enumerate().window(4, 2),
}


def loader_of(name, **options):
    return mpqueue.Loader(PIPELINES[name](), **{"seed": 5, "lanes": 6, "workers": 0} | options)


def plain(batches):
    return [json.dumps(batch, default=lambda value: value.tolist()) for batch in batches]


def excluded(name):
    """Return ids of samples that are in the pipeline. Some are read ahead at any place."""
    return [(0, number) for number in range(0, 400, 9)] if name == "buckets of a mix" else list(range(0, 800, 9))


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize("name", PIPELINES)
def test_batches_after_an_exclusion_depend_on_its_place(name):
    found = {}
    for backend in ({}, {"workers": 1}, {"workers": 3}, {"workers": 3, "backend": "thread"}):
        with loader_of(name, **backend) as loader:
            batches = iter(loader)
            before = plain(itertools.islice(batches, 20))
            loader.exclude(excluded(name))
            state = json.dumps(loader.state_dict())
            found[str(backend)] = before + plain(batches)
        with loader_of(name, workers=2) as loader:
            loader.load_state_dict(json.loads(state))
            found[f"{backend} resumed"] = before + plain(loader)
    first = next(iter(found.values()))
    assert len(first) > 25
    assert {each for each, batches in found.items() if batches != first} == set()


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", PIPELINES)
def test_excluded_samples_are_in_no_later_batch_and_others_are_lost_only_in_merged_elements(name):
    gone = set(excluded(name))
    with loader_of(name) as loader, loader_of(name) as other:
        batches, others = iter(loader), iter(other)
        seen = [set(loader.last.samples) for _ in itertools.islice(batches, 20)]
        assert [set(other.last.samples) for _ in itertools.islice(others, 20)] == seen
        loader.exclude(gone)
        left = set().union(*(loader.last.samples for _ in batches))
        rest = set().union(*(other.last.samples for _ in others))
    assert not left & gone
    if name not in {"rows in a buffer", "threads after a batch", "batches by index", "buckets of a mix"}:
        assert rest - gone <= left  # no stage merges elements before one that holds them


def test_excluded_samples_that_wait_in_an_input_of_concatenate_enter_no_buffer():
    before = Dataset.range(2).filter(lambda _: True).batch(1)
    dataset = Dataset.concatenate(before, Dataset.range(40).map(int, threads=3)).shuffle(buffer=4)
    options = {"seed": 5, "lanes": 1, "workers": 0}
    gone = [(1, 6), (1, 9), (1, 11)]  # the map of the second input has read them after the first two elements
    with mpqueue.Loader(dataset, **options) as loader, mpqueue.Loader(dataset, **options) as without:
        without.exclude(gone)
        batches = iter(loader)
        first = [next(batches), next(batches)]
        loader.exclude(gone)
        assert plain([*first, *batches]) == plain(without)


def test_a_buffer_takes_back_before_a_snapshot_what_it_has_picked_ahead():
    lanes = DatasetLanes(Dataset.range(10_000).filter(is_kept).shuffle(buffer=40).batch(16).root)
    ahead, plain_lane = (lanes.open_lane(LaneRun(1, 3, 5, 0, begin_batch)) for _ in range(2))
    num_ahead = 0
    for _ in range(100):
        plain_lane.prepare()  # it reads the requested elements
        assert ahead.next().tolist() == plain_lane.next().tolist()
        saved, other = pickle.loads(pickle.dumps([ahead.save(), plain_lane.save()]))
        _, shuffle, entry = saved["stages"][:3]
        assert shuffle == other["stages"][1]
        assert entry["ahead"] == sorted(entry["ahead"])
        num_ahead += len(entry["ahead"])
    assert num_ahead > 100
