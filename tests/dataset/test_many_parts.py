"""Datasets of thousands of parts or stages, and stages that several others read: they work, at about the same cost."""

import functools
import json
import pickle
import threading
import tracemalloc
from itertools import islice

import numpy as np
import pytest
from helpers.call_counts import calls_of
from helpers.loader_runs import batches_of, begun
from helpers.pipelines import opened

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.lanes import joining
from mpqueue.dataset.running.as_source import DatasetItems
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker.runners.lanes import LaneRun

pytestmark = pytest.mark.sample(1)

PARTS = 2_000


def identity(sample):
    return sample


def sources(parts, length):
    return [Dataset(np.arange(part * length, (part + 1) * length)).map(identity) for part in range(parts)]


def concatenated(parts, length=8):
    return Dataset.concatenate(*sources(parts, length))


def mixed(parts, length=8):
    return Dataset.mix(sources(parts, length), [1 + part % 7 for part in range(parts)], stop="all")


def bytes_of(use):
    """Return the peak memory in use."""
    tracemalloc.start()
    try:
        use()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def element_by_element(dataset):
    positions = [number * 7919 % len(dataset) for number in range(50)]
    return lambda: [dataset[position] for position in positions]


def through_an_iterator(dataset):
    iterator = iter(dataset)
    return lambda: [next(iterator) for _ in range(50)]


def batches_of_a_worker(dataset):
    source = DatasetItems(dataset, dataset.root).runs
    return lambda: [source.__getitems__(range(first, first + 32)) for first in range(0, 50 * 32, 32)]


USES = [element_by_element, through_an_iterator, batches_of_a_worker]


@functools.cache
def in_few_and_in_many_parts(make):
    """Return two datasets with the same number of elements, shared by all tests because they are slow to make."""
    return [make(parts, 8 * PARTS // parts) for parts in (10, PARTS)]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("make", [concatenated, mixed])
def test_cost_of_an_element_is_independent_of_the_number_of_parts(make, use):
    costs = []
    for dataset in in_few_and_in_many_parts(make):
        run = use(dataset)
        run()  # creates the objects that exist once per part
        costs.append((calls_of(run, in_c=True), bytes_of(run)))
    (few_calls, few_bytes), (many_calls, many_bytes) = costs
    # A batch of a mix requests one element each of up to 32 parts, and three each of 10 parts.
    assert many_calls <= (1.5 if make is concatenated else 3) * few_calls
    # Arrays with an item per part would take 64 KB.
    assert many_bytes <= few_bytes + 50_000


@pytest.mark.parametrize("make", [concatenated, mixed])
def test_elements_of_many_parts_are_the_same_singly_and_in_blocks(make):
    dataset = make(200)
    positions = np.random.default_rng(0).permutation(len(dataset))[:500].tolist()
    blocks = [dataset.__getitems__(positions[first : first + 64]) for first in range(0, len(positions), 64)]
    assert [value for block in blocks for value in block] == [dataset[position] for position in positions]


def test_growth_of_a_part_is_seen_on_read_and_by_len():
    parts = [[0, 1], [2, 3], [4, 5]]
    dataset = Dataset.concatenate(*map(Dataset, parts)).map(identity)
    assert [dataset[position] for position in range(6)] == [0, 1, 2, 3, 4, 5]
    parts[1].append(30)
    assert dataset[3] == 3
    assert dataset[4] == 30
    assert dataset[-1] == 5
    parts[0].insert(0, -1)
    assert len(dataset) == 8
    assert [dataset[position] for position in range(8)] == [-1, 0, 1, 2, 3, 30, 4, 5]
    parts[2].append(6)
    assert dataset[8] == 6
    assert list(dataset) == [-1, 0, 1, 2, 3, 30, 4, 5, 6]
    del parts[0][:]
    assert list(dataset) == [2, 3, 30, 4, 5, 6]
    with pytest.raises(IndexError, match="the dataset has 6 elements"):
        dataset[6]


def test_source_with_a_different_length_at_each_call_is_read():
    class Restless:
        calls = 0

        def __len__(self):
            self.calls += 1
            return 10 + self.calls % 2

        def __getitem__(self, index):
            return index

    assert Dataset(Restless()).map(identity)[3] == 3


def test_dataset_shared_by_stages_has_separate_random_numbers_in_each():
    once = Dataset.range(6).shuffle().map(lambda number: (number, int(mpqueue.rng().integers(1 << 60))))
    again = Dataset.range(6).shuffle().map(lambda number: (number, int(mpqueue.rng().integers(1 << 60))))
    shared, apart = once.concatenate(once).shuffle(), once.concatenate(again).shuffle()
    assert list(shared) == list(apart)
    assert len(set(shared)) == 12
    positions = [3, 9, 0, 6, 11]
    assert shared.__getitems__(positions) == [list(shared)[position] for position in positions]


# -- Streams


def keep(_):
    return True


def streams(parts, length):
    return [Dataset.range(part * length, (part + 1) * length).filter(keep) for part in range(parts)]


def lanes_of(dataset, num_lanes=16, **state):
    source = DatasetLanes(dataset.root)
    runs = [LaneRun(lane, num_lanes, 1, 0, lambda seed, epoch, position: None, **state) for lane in range(num_lanes)]
    return [source.open_lane(run) for run in runs]


JOINS = {"concatenate": lambda parts: Dataset.concatenate(*parts), "mix": Dataset.mix}


@pytest.mark.parametrize("name", JOINS)
def test_virtual_shards_open_the_parts_that_they_read(name):
    join = JOINS[name]
    lengths = {}
    for parts in (10, 3000):
        lanes = lanes_of(join(streams(parts, 96_000 // parts)).batch(8))
        memory = bytes_of(lambda lanes=lanes: [lane.next() for lane in lanes])
        saved = [lane.save() for lane in lanes]
        lengths[parts] = memory, max(map(len, saved)), max(len(pickle.dumps(state)) for state in saved)
    # A batch of 8 reads a few more parts of a mix. Each has two stages, and an item for each in the state.
    assert lengths[3000][0] <= lengths[10][0] + 1_500_000
    assert lengths[3000][1] <= lengths[10][1] + 1
    assert lengths[3000][2] <= lengths[10][2] + 4_000


def test_exhausted_parts_are_neither_held_nor_saved():
    dataset = Dataset.concatenate(*streams(500, 4)).shuffle(buffer=10).batch(2)
    (lane,) = lanes_of(dataset, 1)
    for _ in range(900):
        lane.next()
    # The batch, the read-ahead, the buffer, the concatenation, and the two stages of the current part.
    assert len(lane.save()["stages"]) <= 6
    assert [row[2] for row in lane.counts() if row[0].endswith("filter(keep)")][:400] == [4] * 400


@pytest.mark.parametrize("stop", ["first", "all", "never"])
@pytest.mark.parametrize("parts", [3, 40])
def test_mix_of_streams_resumes_from_a_state_with_some_of_them(parts, stop):
    dataset = Dataset.mix(streams(parts, 30), stop=stop).shuffle(buffer=4)
    for position in (0, 1, 7, 50):
        (lane,) = lanes_of(dataset, 1)
        for _ in range(position):
            lane.next()
        state = json.loads(json.dumps(pickle.loads(pickle.dumps(lane.save()))))
        (again,) = lanes_of(dataset, 1, state=state)
        assert [again.next() for _ in range(25)] == [lane.next() for _ in range(25)]


def test_cost_of_a_mix_is_independent_of_the_number_of_streams(monkeypatch):
    monkeypatch.setattr(joining, "clock_ns", lambda: 0)  # on a busy machine, a mix reads less ahead
    costs = []
    for parts in (10, 300):
        (lane,) = lanes_of(Dataset.mix(streams(parts, 300_000 // parts)).batch(256), 1)
        for _ in range(200):
            lane.next()
        costs.append(calls_of(lambda lane=lane: [lane.next() for _ in range(100)], in_c=True))
    assert costs[1] <= 2 * costs[0]


def test_mix_reads_no_slow_single_or_skippable_samples_ahead():
    taken = []

    def slow(number):
        taken.append(number)
        until = clock_ns() + 2_000_000
        while clock_ns() < until:
            pass
        return number

    def quick(number):
        taken.append(number)
        return number

    def parts(function):
        return Dataset.mix([part.map(function) for part in streams(50, 40)])

    for dataset, options, most in (
        (parts(slow).batch(4), {}, 8),
        (parts(quick), {}, 20),
        (parts(quick).batch(4), {"skip": lambda skipped: None}, 20),
    ):
        taken.clear()
        (lane,) = lanes_of(dataset, 1, **options)
        for _ in range(20 if most == 20 and not options else most // 4):
            lane.next()
        assert len(taken) <= most


# -- Pipelines of thousands of stages, and stages that several others read


STAGES = 1_050  # recursive calls of stages fail at the interpreter's limit of 1,000 frames


def increased(number):
    return number + 1


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
