"""Samples become batches of similar lengths: the stage, its snapshots and its errors."""

from bisect import bisect_right

import numpy as np
import pytest
from helpers.lane_inputs import Samples, assert_resumes_everywhere, drain, lane_run
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqueue.dataset.buckets import BucketStage
from mpqueue.dataset.nodes import BucketNode, SourceNode


def bucket(samples, boundaries, batch_sizes=None, *, run=None, length=len, max_tokens=None, **arguments):
    run = run or lane_run()
    arguments |= {"boundaries": boundaries, "batch_sizes": batch_sizes, "max_tokens": max_tokens}
    node = BucketNode.reading([SourceNode(source=samples)], length_of=length, **arguments)
    return BucketStage(Samples(samples, run), node, run)


def batches_of(*args, **kwargs):
    return drain(bucket(*args, **kwargs))[0]


def numbered(sizes):
    return [100 * (1 + number) + np.arange(size) for number, size in enumerate(sizes)]


LENGTHS = st.lists(st.integers(0, 12), max_size=25)
SHAPES = st.sampled_from([([4, 8], [3, 2, 1]), ([], [4]), ([1, 2, 3], [2, 2, 2, 2]), ([5], [1, 7])])


def model(lengths, boundaries, sizes, drop_last):
    """Numbers of samples in each batch."""
    open_, made = [[] for _ in sizes], []
    for number, length in enumerate(lengths):
        at = bisect_right(boundaries, length)
        open_[at].append(number)
        if len(open_[at]) == sizes[at]:
            made.append(open_[at])
            open_[at] = []
    return made if drop_last else made + [batch for batch in open_ if batch]


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, shape=SHAPES, drop_last=st.booleans())
def test_a_full_bucket_becomes_a_batch_and_the_rest_follows_in_their_order(lengths, shape, drop_last):
    stage = bucket(numbered(lengths), *shape, drop_last=drop_last, collate=list)
    batches, tokens = drain(stage)
    expected = model(lengths, *shape, drop_last)
    assert [list(token) for token in tokens] == expected
    assert [[len(sample) for sample in batch] for batch in batches] == [[lengths[n] for n in some] for some in expected]


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, shape=SHAPES, drop_last=st.booleans())
def test_a_snapshot_behind_any_batch_gives_the_rest(lengths, shape, drop_last):
    assert_resumes_everywhere(lambda: bucket(numbered(lengths), *shape, drop_last=drop_last), np.array_equal)


def test_a_snapshot_behind_any_batch_or_error_gives_the_rest():
    samples = [*numbered([3, 5]), ValueError("of the source"), 7, *numbered([4, 0, 9])]
    assert_resumes_everywhere(lambda: bucket(samples, [4], [2, 2]), np.array_equal)

    def collate(some):
        if len(some[0]) == 5:
            raise ArithmeticError("of the collation")
        return np.concatenate(some)

    assert_resumes_everywhere(
        lambda: bucket(numbered([5, 1, 4, 1, 3, 4]), [4], [2, 2], collate=collate), np.array_equal
    )


def test_batches_are_padded_to_their_longest_sample():
    first, second = batches_of([[1], [4, 5, 6, 7], [2, 3], [8, 9, 10, 11, 12]], [4], [2, 2])
    assert first.tolist() == [[1, 0], [2, 3]]
    assert second.tolist() == [[4, 5, 6, 7, 0], [8, 9, 10, 11, 12]]


def test_collate_gets_the_samples():
    assert batches_of(["ab", "cd", "e"], [2], [2, 2], collate="-".join) == ["ab-cd", "e"]


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 64), max_size=60))
def test_max_tokens_bounds_each_batch_and_is_used(lengths):
    """A bucket has as many samples as have room if all are as long as they may be; of the last one, as they are."""
    stage = bucket(numbered(lengths), [4, 8, 16], max_tokens=64)
    batches, _ = drain(stage)
    assert sum(map(len, batches)) == len(lengths)
    assert max([batch.size for batch in batches], default=0) <= 64
    left = [0, 0, 0, 0]
    for batch in batches:
        number = bisect_right([4, 8, 16], batch.shape[1])
        if number < 3:
            left[number] += len(batch) != [16, 8, 4][number]
    assert max(left) <= 1  # short batches, at the end


def test_a_sample_for_which_a_batch_has_no_room_any_more_begins_the_next_one():
    batches = batches_of(numbered([16, 17, 18, 33, 20, 30]), [16], max_tokens=64)
    assert [batch.shape for batch in batches] == [(3, 18), (1, 33), (2, 30)]


def test_a_snapshot_under_max_tokens_gives_the_rest():
    lengths = [16, 3, 17, 18, 33, 20, 1, 30, 30]
    assert_resumes_everywhere(lambda: bucket(numbered(lengths), [4, 16], max_tokens=64), np.array_equal)


def test_a_sample_that_has_more_than_max_tokens_is_an_error():
    error, batch = batches_of([[0] * 9, [1]], [4], max_tokens=8)
    assert isinstance(error, ValueError)
    assert "must be at most max_tokens=8, got 9" in str(error)
    assert batch.tolist() == [[1]]


def test_no_sample_is_taken_behind_the_one_that_fills_a_bucket():
    stage = bucket(numbered([1, 5, 1, 1, 1, 1]), [4], [3, 2])
    stage.pull(1)
    assert stage._input.at == 4


def test_what_is_padded_and_left_out_is_counted():
    stage = bucket(numbered([1, 3, 9]), [4], [2, 2], drop_last=True)
    drain(stage)
    name = stage.row_name
    assert name == "1: bucket(len, [4], batch_sizes=[2, 2], drop_last=True)"
    assert [row[:3] for row in stage.counts()[1:]] == [
        (name, 3, 1),
        (f"{name}: places padded", 6, 2),
        (f"{name}: samples left out", 3, 1),
    ]


@pytest.mark.parametrize("got", [2.0, "3", None, np.zeros(2)])
def test_a_length_that_is_no_int_is_an_error_with_what_was_returned(got):
    with pytest.raises(TypeError, match=f"must return the length of a sample as an int, got {type(got).__name__}"):
        bucket([[1]], [4], [2, 2], length=lambda sample: got).pull(1)


def test_a_length_may_be_an_integer_of_numpy_but_not_negative():
    assert len(batches_of([[1]], [4], [2, 2], length=lambda sample: np.array(3))) == 1
    with pytest.raises(ValueError, match="must be 0 or more, got -1"):
        bucket([[1]], [4], [2, 2], length=lambda sample: -1).pull(1)


def test_an_error_names_the_samples_of_the_batch():
    def collate(some):
        raise ArithmeticError("no")

    stage = bucket(numbered([1, 2]), [4], [2, 2], collate=collate)
    with pytest.raises(ArithmeticError) as caught:
        stage.pull(1)
    assert f"stage {stage.number}, {stage.line}, for samples 0, 1" in caught.value.__notes__[0]


def test_what_raises_is_left_out_where_errors_are_skipped():
    skipped = []

    def collate(some):
        if len(some) == 2:
            raise ArithmeticError("no")
        return some

    batches = batches_of(
        ["a", 7, "b", "c"],
        [4],
        [2, 2],
        collate=collate,
        run=lane_run(skipped.append),
        length=lambda sample: len(sample),
    )
    assert batches == [["c"]]
    assert [entry.indices for entry in skipped] == [(1,), (0, 2)]


def test_collate_and_length_may_not_stop_the_stream_in_secret():
    def stop(some):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        bucket([[1]], [4], [1, 1], collate=stop).pull(1)
