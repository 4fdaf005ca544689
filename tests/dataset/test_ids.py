"""Ids of samples: `map(function, with_id=True)`, and the ids of the elements of lanes and indices.

The sources of most tests consist of samples that are their own ids.
"""

import json
import pickle
from dataclasses import dataclass

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.indexed import IndexedRun
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.dataset.source import IndexedSource
from mpqueue.worker import context
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.runner import StreamEnd


def opened(dataset, lane=0, num_lanes=2, seed=0, state=None):
    """Open a lane of a dataset in this thread, which reports ids."""
    context.enter_thread(context.WorkerInfo(0, 1, seed, lane, num_lanes), is_seed_given=True)
    run = LaneRun(lane, num_lanes, seed, 0, context.begin_batch, state=state)
    return DatasetLanes(dataset.root).open_lane(run, keeps_tokens=True)


def rest_of(lane, count):
    """Return the next elements of a lane with their ids."""
    found = []
    while len(found) < count:
        try:
            found.append((lane.next(), lane.sample_ids()))
        except StreamEnd:
            break
    return found


@dataclass(frozen=True)
class OwnIds:
    """A stream of samples that are their own ids: the virtual shard and the number in it."""

    parts: tuple
    length: int

    def __call__(self):
        info = mpqueue.worker_info()
        for number in range(self.length):
            yield (*self.parts, info.shard_id, number)


def keep_some(sample):
    return sum(hash(part) for part in np.ravel(sample).tolist()) % 3 > 0


def twice(sample):
    return [sample, sample]


def same(sample):
    return sample


def second(pair):
    return pair[1]


def pair_of(sample, sample_id):
    return sample, sample_id


def _sources(parts, length):
    ids = [(*parts, number) if parts else number for number in range(length)]
    return st.sampled_from([Dataset(ids), Dataset(OwnIds(parts, length)), Dataset(ids).shuffle()])


@st.composite
def sources(draw, parts=(), depth=2):
    """Draw a dataset of one source or of several. Each sample is its own id."""
    kind = draw(st.sampled_from(["source", "mix", "concatenate"])) if depth else "source"
    if kind == "source":
        return draw(_sources(parts, draw(st.integers(1, 20))))
    datasets = [draw(sources((*parts, number), depth - 1)) for number in range(draw(st.integers(1, 3)))]
    if kind == "concatenate":
        return Dataset.concatenate(*datasets)
    return Dataset.mix(datasets, stop=draw(st.sampled_from(["first", "all"])))


STAGES = {
    "filter": lambda dataset: dataset.filter(keep_some),
    "buffer": lambda dataset: dataset.shuffle(buffer=3),
    "repeat": lambda dataset: dataset.repeat(2),
    "take": lambda dataset: dataset.take(13),
    "skip": lambda dataset: dataset.skip(3),
    "flat_map": lambda dataset: dataset.flat_map(twice),
    "enumerate": lambda dataset: dataset.enumerate().map(second),
    "cache": lambda dataset: dataset.cache(),
    "map": lambda dataset: dataset.map(same, threads=2),
}  # fmt: skip


def staged(dataset, names):
    for name in names:
        dataset = STAGES[name](dataset)
    return dataset


NAMES = st.lists(st.sampled_from(sorted(STAGES)), max_size=4)


@hypothesis.given(
    dataset=sources(), names=NAMES, threads=st.sampled_from([1, 2]), cut=st.integers(0, 20), lane=st.integers(0, 1)
)
@hypothesis.settings(max_examples=60)
def test_map_with_id_receives_the_id_of_each_sample_also_after_a_resume(dataset, names, threads, cut, lane):
    dataset = staged(dataset, names).map(pair_of, with_id=True, threads=threads).filter(bool)
    whole = [value for value, _ in rest_of(opened(dataset, lane), 50)]
    assert all(sample == sample_id for sample, sample_id in whole)
    before = opened(dataset, lane)
    found = [value for value, _ in rest_of(before, cut)]
    state = json.loads(json.dumps(pickle.loads(pickle.dumps(before.save()))))
    found += [value for value, _ in rest_of(opened(dataset, lane, state=state), 50 - len(found))]
    assert found == whole


@hypothesis.given(dataset=sources(), names=NAMES, size=st.integers(1, 4), lane=st.integers(0, 1))
@hypothesis.settings(max_examples=60)
def test_lane_reports_the_id_of_each_sample_of_a_batch(dataset, names, size, lane):
    dataset = staged(dataset, names).filter(is_kept).batch(size, collate=list)
    for batch, ids in rest_of(opened(dataset, lane), 30):
        assert batch == ids


def is_kept(_):
    return True


@hypothesis.given(
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=3), seed=st.integers(0, 1 << 63), epoch=st.integers(0, 3)
)
@hypothesis.settings(max_examples=30)
def test_indexed_dataset_reports_the_id_of_each_element(lengths, seed, epoch):
    first, *others = [
        Dataset([(0, part, number) for number in range(length)]).shuffle() for part, length in enumerate(lengths)
    ]
    joined = Dataset.concatenate(Dataset.mix([first, *others], stop="all").take(50), Dataset([(1, 0), (1, 1)]))
    dataset = joined.shuffle().repeat(2).skip(2).enumerate().map(second)
    source = IndexedSource(dataset.root)
    ids = source.sample_ids(range(len(source)), seed, epoch)
    values = source._readers.at(range(len(source)), IndexedRun(seed, epoch, context.begin_batch))
    assert [[value] for value in values] == ids


def test_rows_of_pack_have_an_id_for_each_segment():
    texts = Dataset([np.full(length, 7) for length in (3, 2, 9, 1, 4)]).pack(4, strategy="concatenate")
    lane = opened(texts, num_lanes=1)
    rows = rest_of(lane, 10)
    assert [ids for _, ids in rows] == [[0, 1], [1, 2], [2], [2, 3, 4], [4]]
    assert [int(row["segment_ids"].max()) for row, _ in rows] == [len(ids) for _, ids in rows]


def test_batches_of_bucket_have_the_ids_of_their_samples():
    words = Dataset(["a", "bbbb", "c", "dddd"]).bucket(len, [3], [2, 2], collate=list)
    found = rest_of(opened(words, num_lanes=1), 10)
    assert found == [(["a", "c"], [0, 2]), (["bbbb", "dddd"], [1, 3])]


def test_tuples_of_zip_have_the_ids_of_all_parts():
    pairs = Dataset.range(3).shuffle().zip(Dataset(["a", "b", "c"]))
    found = [ids for _, ids in rest_of(opened(pairs.filter(is_kept), num_lanes=1), 3)]
    assert found == IndexedSource(pairs.root).sample_ids(range(3), 0, 0)
    assert found[1][1] == (1, 1)


def test_batches_of_an_indexed_dataset_have_the_ids_of_their_samples():
    source = IndexedSource(Dataset.range(7).skip(1).batch(4).root)
    assert source.sample_ids([1, 0], 0, 0) == [[5, 6], [1, 2, 3, 4]]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2}, {"workers": 2, "backend": "thread"}])
def test_workers_pass_the_same_ids_as_the_calling_process(options, threads):
    web, books = Dataset([f"web {number}" for number in range(40)]), Dataset([f"book {number}" for number in range(30)])
    indexed = Dataset.mix([web.shuffle(), books]).map(pair_of, with_id=True, threads=threads)
    stream = Dataset.mix([web.filter(is_kept).shuffle(buffer=4), books]).map(pair_of, with_id=True, threads=threads)
    for dataset in (indexed, stream):
        with mpqueue.Loader(dataset, seed=0, **options) as loader:
            found = [(sample, tuple(sample_id)) for sample, sample_id in loader]
        assert found == list(dataset)
        for sample, (part, number) in found:
            assert sample == f"{('web', 'book')[part]} {number}"


def test_map_with_id_adds_no_state_and_no_row_of_statistics():
    numbers = Dataset.range(9).filter(is_kept)
    lanes = [opened(dataset) for dataset in (numbers.map(str), numbers.map(pair_of, with_id=True))]
    for lane in lanes:
        lane.next()
    assert lanes[0].save() == lanes[1].save()
    assert [row[1:3] for row in lanes[0].counts()] == [row[1:3] for row in lanes[1].counts()]


def test_error_of_a_map_with_id_names_the_sample():
    def refuse(sample, sample_id):
        raise ValueError(f"{sample} {sample_id}")

    with pytest.raises(ValueError, match="5 5") as caught:
        Dataset.range(9).map(refuse, with_id=True)[5]
    assert "for sample 5 of range" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("dataset", "stage"),
    [
        (Dataset.range(9).batch(2), r"stage 1, batch\(2\),"),
        (Dataset.range(9).batch(2).flat_map(list), r"stage 1, batch\(2\),"),
        (Dataset.range(9).batch(2).batch(2, collate=list), r"stage 1, batch\(2\),"),
        (Dataset([[1], [2, 3]]).pack(4), r"stage 1, pack\(4\),"),
        (Dataset(["a", "bb"]).bucket(len, [2], [1, 1]), r"stage 1, bucket\(.*\),"),
        (Dataset.zip(Dataset.range(3), Dataset.range(3)), r"stage 2, zip\(\),"),
        (Dataset.range(3).concatenate(Dataset.range(9).batch(2)), r"stage 2, batch\(2\),"),
    ],
)
def test_map_with_id_after_a_stage_that_merges_samples_raises(dataset, stage):
    with pytest.raises(ValueError, match=f"map: with_id=True needs elements .* {stage} merges several"):
        dataset.map(pair_of, with_id=True)


def test_function_of_one_argument_cannot_receive_an_id():
    with pytest.raises(TypeError, match="called with an element and the id of its sample, but one_argument"):
        Dataset.range(3).map(one_argument, with_id=True)
    with pytest.raises(TypeError, match="with_id must be True or False, got 1"):
        Dataset.range(3).map(pair_of, with_id=1)


def one_argument(sample):
    return sample
