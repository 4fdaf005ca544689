"""The stage `bucket`: batches of similar lengths, snapshots and errors."""

from bisect import bisect_right

import numpy as np
import pytest
from helpers.lane_inputs import Samples, assert_resumes_everywhere, drain, lane_run
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqueue.dataset.buckets import BucketNode, BucketStage
from mpqueue.dataset.indexed import SourceNode


def bucket(samples, boundaries, batch_sizes=None, *, run=None, length=len, max_tokens=None, **arguments):
    run = run or lane_run()
    samples = samples if isinstance(samples, Samples) else Samples(samples, run)
    arguments |= {"boundaries": boundaries, "batch_sizes": batch_sizes, "max_tokens": max_tokens}
    node = BucketNode.reading([SourceNode(source=samples.samples)], length_of=length, **arguments)
    return BucketStage(samples, node, run)


def batches_of(*args, **kwargs):
    return drain(bucket(*args, **kwargs))[0]


def numbered(sizes):
    return [100 * (1 + number) + np.arange(size) for number, size in enumerate(sizes)]


def test_snapshot_after_any_batch_or_error_resumes_with_the_rest():
    samples = [*numbered([3, 5]), ValueError("of the source"), 7, *numbered([4, 0, 9])]
    assert_resumes_everywhere(lambda: bucket(samples, [4], [2, 2]), np.array_equal)

    def collate(some):
        if len(some[0]) == 5:
            raise ArithmeticError("of the collation")
        return np.concatenate(some)

    samples = numbered([5, 1, 4, 1, 3, 4])
    assert_resumes_everywhere(lambda: bucket(samples, [4], [2, 2], collate=collate), np.array_equal)


def test_batches_are_padded_to_their_longest_sample():
    first, second = batches_of([[1], [4, 5, 6, 7], [2, 3], [8, 9, 10, 11, 12]], [4], [2, 2])
    assert first.tolist() == [[1, 0], [2, 3]]
    assert second.tolist() == [[4, 5, 6, 7, 0], [8, 9, 10, 11, 12]]


def test_collate_receives_the_samples():
    assert batches_of(["ab", "cd", "e"], [2], [2, 2], collate="-".join) == ["ab-cd", "e"]


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 64), max_size=60))
def test_max_tokens_bounds_each_batch_and_is_used(lengths):
    """A full bucket has room for samples of its maximum length; the last bucket counts the actual lengths."""
    stage = bucket(numbered(lengths), [4, 8, 16], max_tokens=64)
    batches, _ = drain(stage)
    assert sum(map(len, batches)) == len(lengths)
    assert max([batch.size for batch in batches], default=0) <= 64
    left = [0, 0, 0, 0]
    for batch in batches:
        number = bisect_right([4, 8, 16], batch.shape[1])
        if number < 3:
            left[number] += len(batch) != [16, 8, 4][number]
    assert max(left) <= 1  # incomplete batches, at the end


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
    assert [row[:3] for row in stage.counts()[1:]] == [(name, 3, 1), padded, left_out]


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
    assert f"stage {stage.number}, {stage.line}, for samples 0, 1" in caught.value.__notes__[0]


def test_failing_samples_are_skipped_with_on_error_skip():
    skipped = []

    def collate(some):
        if len(some) == 2:
            raise ArithmeticError("no")
        return some

    batches = batches_of(["a", 7, "b", "c"], [4], [2, 2], collate=collate, run=lane_run(skipped.append))
    assert batches == [["c"]]
    assert [entry.indices for entry in skipped] == [(1,), (0, 2)]


def test_stop_iteration_in_collate_or_length_does_not_end_the_stream():
    def stop(some):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        bucket([[1]], [4], [1, 1], collate=stop).pull(1)
