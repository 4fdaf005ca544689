"""Packing and bucketing between other stages of a lane: each snapshot resumes with the rest of the stream."""

import numpy as np
import pytest
from helpers.lane_inputs import assert_resumes_everywhere, drain, lane_run

from mpqueue import Dataset
from mpqueue.dataset.opening import open_stages

COUNT = 60


def text(number):
    """Return a text of 1 to 23 tokens."""
    return np.full(1 + number * 7 % 23, number)


class Texts:
    """A source that is a stream with a state."""

    def __init__(self):
        self._next = 0

    def __iter__(self):
        while self._next < COUNT:
            self._next += 1
            yield text(self._next - 1)

    def state_dict(self):
        return {"next": self._next}

    def load_state_dict(self, state):
        self._next = state["next"]


SOURCES = {
    "indexed": [text(place) for place in range(COUNT)],
    "stateful": lambda: Texts(),
    "generator": lambda: map(text, range(COUNT)),
}


def before(kind):
    """Return texts of which some are dropped and some are doubled, in another order."""
    texts = Dataset(SOURCES[kind]).filter(lambda tokens: bool(tokens[0] % 5))
    return texts.flat_map(lambda tokens: [tokens] * (1 + int(tokens[0]) % 2)).shuffle(7)


def same(one, other):
    if isinstance(one, dict):
        return all(np.array_equal(one[name], other[name]) for name in one)
    return np.array_equal(one, other)


@pytest.fixture(params=SOURCES)
def kind(request):
    return request.param


def packed(kind, strategy):
    rows = before(kind).pack(16, strategy=strategy, bins=3).map(lambda row: row | {"first": row["tokens"][0]})
    return open_stages(rows.shuffle(4).batch(3).root, lane_run())


def bucketed(kind):
    return open_stages(before(kind).bucket(len, [6, 12], [4, 3, 2]).shuffle(4).root, lane_run())


@pytest.mark.parametrize("strategy", ["best_fit", "concatenate"])
def test_rows_between_other_stages_resume_anywhere(kind, strategy):
    assert_resumes_everywhere(lambda: packed(kind, strategy), same)


def test_buckets_between_other_stages_resume_anywhere(kind):
    assert_resumes_everywhere(lambda: bucketed(kind), same)


def test_rows_are_the_same_for_each_kind_of_source():
    wholes = [drain(packed(kind, "best_fit"))[0] for kind in SOURCES]
    for other in wholes[1:]:
        assert all(same(one, two) for one, two in zip(wholes[0], other, strict=True))


def as_it_is(value):
    return value


SAMPLES = {
    "lists": lambda base: base.map(lambda number: [number + 1] * 3),
    "dicts of lists": lambda base: base.map(lambda number: {"ids": [number + 1] * 3, "mask": [1] * 3}),
    "arrays": lambda base: base.map(lambda number: np.full(3, number + 1)),
}
BATCHES = {
    "batch": lambda samples: samples.batch(2),
    "batch, of one": lambda samples: samples.batch(1, drop_last=True),
    "batch, collate": lambda samples: samples.batch(2, collate=as_it_is),
    "bucket": lambda samples: samples.bucket(len, [4], [2, 2]),
}
BETWEEN = {
    "nothing": as_it_is,
    "map": lambda batches: batches.map(as_it_is),
    "threaded map": lambda batches: batches.map(as_it_is, threads=2),
    "filter": lambda batches: batches.filter(bool),
    "shuffle": lambda batches: batches.shuffle(buffer=2),
    "repeat, take and skip": lambda batches: batches.repeat(2).skip(1).take(3),
    "enumerate": lambda batches: batches.enumerate().map(lambda pair: pair[1]),
    "cache": lambda batches: batches.cache(),
    "concatenate": lambda batches: Dataset([[1]]).concatenate(batches),
    "zip": lambda batches: batches.zip(Dataset.range(3)).map(lambda pair: pair[0]),
    "mix": lambda batches: Dataset([[1]]).mix([batches]),
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("batch", BATCHES)
def test_pack_after_a_batching_stage_raises_with_a_remedy(batch, between):
    for samples in SAMPLES.values():
        batches = BETWEEN[between](BATCHES[batch](samples(Dataset.range(6))))
        with pytest.raises(ValueError, match=rf"stage \d+, {batch.partition(',')[0]}\(.* Pack first: pack\(8\)\.batch"):
            batches.pack(8)


@pytest.mark.parametrize("batch", BATCHES)
def test_pack_accepts_batches_split_by_flat_map(batch):
    samples = Dataset.range(6).map(lambda number: np.full(3, number + 1))
    rows = list(BATCHES[batch](samples).flat_map(list).pack(6, strategy="concatenate").batch(2))
    segments = {(int(number), int(token)) for row in rows for number, token in zip(
        row["segment_ids"].ravel(), row["tokens"].ravel(), strict=True) if number}  # fmt: skip
    assert {token for _, token in segments} == {1, 2, 3, 4, 5, 6}
