"""Pipelines of thousands of stages, and stages that several others read."""

import json
import pickle
import threading
from itertools import islice

import pytest
from helpers.call_counts import calls_of
from helpers.loader_runs import batches_of, begun
from helpers.pipelines import opened

from mpqueue import Dataset

pytestmark = pytest.mark.sample(1)

STAGES = 1_050  # recursive calls of stages fail at the interpreter's limit of 1,000 frames


def increased(number):
    return number + 1


def keep(_):
    return True


def first(samples):
    return samples[0]


def in_list(sample):
    return [sample]


ONE = Dataset.range(1)
INDEXED = {
    "map": lambda dataset: dataset.map(increased),
    "take": lambda dataset: dataset.take(9),
    "skip": lambda dataset: dataset.skip(0),
    "shuffle": lambda dataset: dataset.shuffle(),
    "repeat": lambda dataset: dataset.repeat(1),
    "batch": lambda dataset: dataset.batch(1, collate=first),
    "concatenate": lambda dataset: dataset.concatenate(ONE),
    "mix": lambda dataset: dataset.mix([]),
    "zip and map": lambda dataset: dataset.zip(Dataset.range(9)).map(first),
}
STREAMS = {name: stage for name, stage in INDEXED.items() if name != "shuffle"} | {
    "filter": lambda dataset: dataset.filter(keep),
    "shuffle in a buffer": lambda dataset: dataset.shuffle(buffer=1),
    "enumerate and map": lambda dataset: dataset.enumerate().map(lambda pair: pair[1]),
    "flat_map": lambda dataset: dataset.flat_map(in_list),
}
KINDS = INDEXED | STREAMS


def chain(dataset, name, count=STAGES):
    """Return a dataset with ``count`` more stages of a kind, not counting joined inputs."""
    for _ in range(count // (1 + (" and " in name))):
        dataset = KINDS[name](dataset)
    return dataset


def assert_works(dataset):
    """Check the uses of a pipeline in one process: repr, pickle, and computation."""
    lines = repr(dataset).splitlines()
    assert len(lines) == 1 + dataset.root.facts.size
    again = pickle.loads(pickle.dumps(dataset))
    assert repr(again).splitlines() == lines
    found = list(islice(dataset, 3))
    assert list(islice(again, 3)) == found
    return found


@pytest.mark.parametrize("name", INDEXED)
def test_indexed_dataset_of_thousands_of_stages_works(name):
    dataset = chain(Dataset.range(9), name)
    found = assert_works(dataset)
    assert [dataset[position] for position in range(3)] == found
    if name == "map":
        assert found == [STAGES, STAGES + 1, STAGES + 2]


# Kinds that indexed datasets do not have, and those with other states in streams.
@pytest.mark.parametrize("name", [*sorted(STREAMS.keys() - INDEXED.keys()), "map", "concatenate", "mix"])
def test_stream_of_thousands_of_stages_works_and_resumes_from_its_state(name):
    dataset = chain(Dataset.range(9).filter(keep), name)
    assert_works(dataset)
    lane = opened(dataset, seed=1)
    lane.next(), lane.next()
    again = opened(dataset, seed=1, state=json.loads(json.dumps(pickle.loads(pickle.dumps(lane.save())))))
    assert [again.next() for _ in range(3)] == [lane.next() for _ in range(3)]
    # A row for each opened stage; unread inputs have no row.
    assert len(lane.counts()) == dataset.root.facts.size - (STAGES if name == "concatenate" else 0)


@pytest.mark.slow
def test_loader_of_thousands_of_flat_maps_reaches_its_end_and_resumes():
    """Each stage must pull only once from the one before it at the end: otherwise 100 stages would take forever."""
    dataset = chain(Dataset.range(9), "flat_map")
    whole = batches_of(dataset, workers=1)
    head, state = begun(dataset, 4, workers=1)
    assert sorted(whole) == list(range(9))
    assert len(json.dumps(state)) < 120 * STAGES  # a stage does not repeat the states of earlier stages
    assert head + batches_of(dataset, workers=2, state=state) == whole


@pytest.mark.parametrize("stream", [False, True], ids=["indexed", "stream"])
def test_loader_runs_thousands_of_maps_in_workers_and_resumes(stream):
    dataset = chain(Dataset.range(60).filter(keep) if stream else Dataset.range(60), "map")
    options = {"batch_size": 4, "workers": 2, "seed": 1} | ({"lanes": 2} if stream else {})
    whole = batches_of(dataset, **options)
    head, state = begun(dataset, 5, **options)
    assert sorted(number for batch in whole for number in batch) == [STAGES + number for number in range(60)]
    assert head + batches_of(dataset, state=state, **options) == whole


@pytest.mark.parametrize("name", ["map", "concatenate", "zip and map", "enumerate and map", "filter"])
def test_calls_between_stages_do_not_use_the_c_stack(name):
    """The stack is as small as for threads on some systems."""
    for dataset in (Dataset.range(9), Dataset.range(9).filter(keep)):
        deep = chain(dataset, name)
        found = []
        size = threading.stack_size(256 << 10)
        try:
            thread = threading.Thread(target=lambda deep=deep, found=found: found.extend(islice(deep, 3)))
            thread.start()
        finally:
            threading.stack_size(size)
        thread.join()
        assert len(found) == 3


@pytest.mark.parametrize("name", KINDS)
def test_cost_of_adding_a_stage_is_independent_of_their_number(name):
    few = calls_of(lambda: chain(Dataset.range(9), name, 50))
    many = calls_of(lambda: chain(Dataset.range(9), name, 500))
    assert many < 10.5 * few


def doubled(dataset, times=60):
    """Return a dataset that reads one stage on 2**times paths."""
    for _ in range(times):
        dataset = dataset.concatenate(dataset)
    return dataset


def test_stage_with_many_paths_is_visited_once(tmp_path):
    dataset = doubled(Dataset.range(4).map(increased)).map(increased)
    few = calls_of(lambda: doubled(Dataset.range(4), 10))
    assert calls_of(lambda: doubled(Dataset.range(4), 60)) < 6.5 * few
    assert len(repr(dataset).splitlines()) < 200
    assert len(pickle.dumps(dataset)) < 20_000
    assert dataset.root.stage_index == 3 * 2**60 - 1
    assert dataset[5] == 3
    assert dataset[4 * 2**60 - 1] == 5
    assert list(islice(pickle.loads(pickle.dumps(dataset)), 5)) == [2, 3, 4, 5, 2]
    assert list(islice(dataset.take(6).cache(tmp_path), 6)) == [2, 3, 4, 5, 2, 3]


def test_stream_with_many_paths_is_computed_and_resumed():
    dataset = doubled(Dataset.range(40).filter(keep)).map(increased).batch(4)
    options = {"workers": 1, "lanes": 2, "seed": 1}
    whole, _ = begun(dataset, 33, **options)
    head, state = begun(dataset, 3, **options)
    assert len(json.dumps(state)) < 50_000
    assert {number for batch in whole for number in batch} == set(range(1, 41))
    assert head + begun(dataset, 30, state=state, **options)[0] == whole
