"""Packing next to other stages: batches must be split first."""

import numpy as np
import pytest

from mpqueue import Dataset


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
