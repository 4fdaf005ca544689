"""The stage `bucket`: batches of similar lengths, and errors."""

import numpy as np
import pytest
from helpers.stage_inputs import Samples, drain, lane_run

from mpqueue.dataset.indexed.readers import SourceNode
from mpqueue.dataset.lanes.stages import counts_of
from mpqueue.dataset.transformations.bucket import BucketNode, BucketStage


def bucket(samples, boundaries, batch_sizes=None, *, run=None, length=len, max_tokens=None, **arguments):
    run = run or lane_run()
    samples = samples if isinstance(samples, Samples) else Samples(samples, run)
    arguments |= {"boundaries": boundaries, "batch_sizes": batch_sizes, "max_tokens": max_tokens}
    node = BucketNode.reading([SourceNode(source=samples.samples)], length_of=length, **arguments)
    return BucketStage(samples, node, run)


def batches_of(*args, **kwargs):
    return drain(bucket(*args, **kwargs))[0]


def numbered(sizes):
    return [100 * (1 + index) + np.arange(size) for index, size in enumerate(sizes)]


def test_batches_are_padded_to_their_longest_sample():
    first, second = batches_of([[1], [4, 5, 6, 7], [2, 3], [8, 9, 10, 11, 12]], [4], [2, 2])
    assert first.tolist() == [[1, 0], [2, 3]]
    assert second.tolist() == [[4, 5, 6, 7, 0], [8, 9, 10, 11, 12]]


def test_collate_receives_the_samples():
    assert batches_of(["ab", "cd", "e"], [2], [2, 2], collate="-".join) == ["ab-cd", "e"]


def test_sample_longer_than_max_tokens_raises():
    error, batch = batches_of([[0] * 9, [1]], [4], max_tokens=8)
    assert isinstance(error, ValueError)
    assert "must be at most max_tokens=8, got 9" in str(error)
    assert batch.tolist() == [[1]]


def test_no_sample_is_read_past_the_one_that_fills_a_bucket():
    samples = Samples(numbered([1, 5, 1, 1, 1, 1]))
    bucket(samples, [4], [3, 2]).pull(1)
    assert samples.at == 4


def test_padding_and_dropped_samples_are_counted():
    stage = bucket(numbered([1, 3, 9]), [4], [2, 2], drop_last=True)
    drain(stage)
    name = stage.row_name
    assert name == "1: bucket(len, [4], batch_sizes=[2, 2], drop_last=True)"
    padded, left_out = (f"{name}: places padded", 6, 2), (f"{name}: samples left out", 3, 1)
    assert [row[:3] for row in counts_of(stage)[1:]] == [(name, 3, 1), padded, left_out]


@pytest.mark.parametrize("got", [2.0, "3", None, np.zeros(2)])
def test_length_that_is_not_an_int_raises_and_shows_the_value(got):
    with pytest.raises(TypeError, match=f"must return the length of a sample as an int, got {type(got).__name__}"):
        bucket([[1]], [4], [2, 2], length=lambda sample: got).pull(1)


def test_length_can_be_a_numpy_integer_but_not_negative():
    assert len(batches_of([[1]], [4], [2, 2], length=lambda sample: np.array(3))) == 1
    with pytest.raises(ValueError, match="must be 0 or more, got -1"):
        bucket([[1]], [4], [2, 2], length=lambda sample: -1).pull(1)


def test_error_names_the_samples_of_the_batch():
    def collate(some):
        raise ArithmeticError("no")

    stage = bucket(numbered([1, 2]), [4], [2, 2], collate=collate)
    with pytest.raises(ArithmeticError) as caught:
        stage.pull(1)
    assert f"stage {stage.stage_index}, {stage.line}, for samples 0, 1" in caught.value.__notes__[0]


def test_stop_iteration_in_collate_or_length_does_not_end_the_stream():
    def stop(some):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        bucket([[1]], [4], [1, 1], collate=stop).pull(1)
