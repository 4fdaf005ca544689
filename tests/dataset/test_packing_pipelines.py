"""Packing and bucketing amid other stages of a lane: each snapshot gives the rest of the stream."""

import numpy as np
import pytest
from helpers.lane_inputs import assert_resumes_everywhere, drain, lane_run

from mpqueue.dataset.batching import BatchStage
from mpqueue.dataset.buckets import BucketStage
from mpqueue.dataset.buffers import ShuffleStage
from mpqueue.dataset.flattening import FlatMapStage
from mpqueue.dataset.packing import PackStage
from mpqueue.dataset.roots import IndexedRoot, StreamRoot
from mpqueue.dataset.stages import FilterStage, MapStage

COUNT = 60


def text(number):
    """A text of 1 to 23 tokens."""
    return np.full(1 + number * 7 % 23, number)


class Texts:
    """A source that is a stream, and tells where it is."""

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


def root(kind, run):
    if kind == "indexed":
        return IndexedRoot(lambda places: [text(place) for place in places], COUNT, run, 0, "texts")
    return StreamRoot(Texts if kind == "stateful" else lambda: map(text, range(COUNT)), run, 0, "texts")


def before(kind, run):
    """Texts of which some are left out and some are doubled, in another order."""
    stage = FilterStage(root(kind, run), lambda tokens: bool(tokens[0] % 5), run, 1, "filter")
    stage = FlatMapStage(stage, lambda tokens: [tokens] * (1 + int(tokens[0]) % 2), run, 2, "flat_map")
    return ShuffleStage(stage, 7, run, 3, "shuffle(7)")


def same(one, other):
    if isinstance(one, dict):
        return all(np.array_equal(one[name], other[name]) for name in one)
    return np.array_equal(one, other)


@pytest.fixture(params=["indexed", "stateful", "generator"])
def kind(request):
    return request.param


def packed(kind, strategy):
    run = lane_run()
    stage = PackStage(before(kind, run), run, 4, "pack(16)", length=16, strategy=strategy, bins=3)
    stage = MapStage(stage, lambda row: row | {"first": row["tokens"][0]}, run, 5, "map")
    stage = ShuffleStage(stage, 4, run, 6, "shuffle(4)")
    return BatchStage(stage, 3, run, 7, "batch(3)")


def bucketed(kind, strategy):
    run = lane_run()
    stage = BucketStage(before(kind, run), len, run, 4, "bucket", boundaries=[6, 12], batch_sizes=[4, 3, 2])
    return ShuffleStage(stage, 4, run, 5, "shuffle(4)")


@pytest.mark.parametrize("strategy", ["best_fit", "concatenate"])
def test_rows_amid_other_stages_are_resumed_everywhere(kind, strategy):
    assert_resumes_everywhere(lambda: packed(kind, strategy), same)


def test_buckets_amid_other_stages_are_resumed_everywhere(kind):
    assert_resumes_everywhere(lambda: bucketed(kind, None), same)


def test_rows_are_the_same_from_each_kind_of_source():
    wholes = [drain(packed(kind, "best_fit"))[0] for kind in ("indexed", "stateful", "generator")]
    for other in wholes[1:]:
        assert all(same(one, two) for one, two in zip(wholes[0], other, strict=True))
