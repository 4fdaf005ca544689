"""Sequences become rows of one length, or batches of similar lengths: the stages, their snapshots and errors."""

import numpy as np
import pytest
from helpers.stage_inputs import Samples, drain, lane_run, saved

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.indexed.readers import SourceNode
from mpqueue.dataset.lanes.stages import counts_of
from mpqueue.dataset.transformations.bucket import BucketNode, BucketStage
from mpqueue.dataset.transformations.pack.bin_packing import BestFit, Piece
from mpqueue.dataset.transformations.pack.pack import PackNode, PackStage
from mpqueue.dataset.transformations.pack.sequences import SequenceReader


def pack(samples, length, *, run=None, **arguments):
    run = run or lane_run()
    samples = samples if isinstance(samples, Samples) else Samples(samples, run)
    node = PackNode.reading([SourceNode(source=samples.samples)], row_length=length, **arguments)
    return PackStage(samples, node, run)


def rows_of(samples, length, blocks=(1,), **arguments):
    return drain(pack(samples, length, **arguments), blocks)[0]


def lists(row):
    return {name: array.tolist() for name, array in row.items()}


def numbered(sizes):
    """Return sequences with tokens that encode the sample and the position."""
    return [1000 * (1 + index) + np.arange(size) for index, size in enumerate(sizes)]


def test_sequences_become_rows_with_segments_and_positions():
    (row,) = rows_of([[5, 6, 7], [8, 9]], 8)
    assert lists(row) == {
        "tokens": [5, 6, 7, 8, 9, 0, 0, 0],
        "segment_ids": [1, 1, 1, 2, 2, 0, 0, 0],
        "positions": [0, 1, 2, 0, 1, 0, 0, 0],
    }
    assert [array.dtype for array in row.values()] == [np.int64, np.int32, np.int32]


def test_fields_of_one_length_are_packed_alike_with_further_axes():
    samples = [{"ids": np.arange(n, dtype=np.uint16), "at": np.ones((n, 2), np.float32)} for n in (2, 3)]
    (row,) = rows_of(samples, 6)
    assert list(row) == ["ids", "at", "segment_ids", "positions"]
    assert (row["ids"].dtype, row["ids"].tolist()) == (np.uint16, [0, 1, 0, 1, 2, 0])
    assert row["at"].dtype == np.float32
    assert row["at"].tolist() == [[1, 1]] * 5 + [[0, 0]]


def test_fields_can_have_another_order():
    (row,) = rows_of([{"a": [1], "b": [2]}, {"b": [4], "a": [3]}], 3)
    assert (row["a"].tolist(), row["b"].tolist()) == ([1, 3, 0], [2, 4, 0])


def test_dtypes_of_one_row_become_their_common_one():
    (row,) = rows_of([np.array([1], np.int32), np.array([0.5], np.float32), [True]], 3)
    assert (row["tokens"].dtype, row["tokens"].tolist()) == (np.float64, [1, 0.5, 1])


def test_arrays_of_other_libraries_are_packed():
    torch = pytest.importorskip("torch")
    (row,) = rows_of([torch.tensor([1, 2]), torch.tensor([3])], 4)
    assert row["tokens"].tolist() == [1, 2, 3, 0]


def test_sample_that_fills_many_rows_is_read_again_once():
    stage = pack([np.arange(1000)], 8)
    stage.pull(1)
    again = Samples([np.arange(1000)])
    pack(again, 8).set_state(iter(saved(stage)))
    assert again.read_again == [0]


def test_source_that_returns_a_shorter_sample_raises():
    samples = Samples([np.arange(5), np.arange(7)])
    other = pack(samples, 8)
    samples.pull(2)
    samples.may_rebuild = {0, 1}
    with pytest.raises(ValueError, match=r"reads sample 1 again and gets length 7, but it had at least 9"):
        other.again([((0, 0, 5), (1, 0, 9))])


def test_input_is_read_only_until_a_row_is_closed():
    samples = Samples([np.arange(8)] * 5)
    pack(samples, 8).pull(1)
    assert samples.at == 1


@pytest.mark.parametrize("strategy", ["best_fit", "concatenate"])
def test_long_sample_raises_in_its_place(strategy):
    error, row = rows_of([[1, 2], np.arange(9), [3]], 8, strategy=strategy, long="error")
    assert isinstance(error, ValueError)
    assert "at most as long as a row (8), got length 9" in str(error)
    assert "stage 1, pack(8, " in error.__notes__[0] and ", for sample 1" in error.__notes__[0]
    assert row["tokens"].tolist() == [1, 2, 3, 0, 0, 0, 0, 0]


def test_padding_cut_and_dropped_samples_are_counted():
    stage = pack([np.arange(11), [], [1, 2], np.arange(7)], 8)
    rows, _ = drain(stage)
    assert len(rows) == 3
    counts = {name: (a, b) for name, a, b, *_ in counts_of(stage)}
    assert counts == {
        "0: list, 4": (0, 0),
        "1: pack(8)": (4, 3),
        "1: pack(8): places padded": (24, 4),
        "1: pack(8): samples cut": (4, 1),
        "1: pack(8): samples left out": (4, 1),
    }


def test_rows_before_an_error_are_returned_first():
    """For any block size; and a later sample goes into the row that was open."""
    samples = [*numbered([8, 3]), "text", *numbered([5])]
    for blocks in ((1,), (4,)):
        first, error, second = rows_of(samples, 8, blocks)
        assert first["tokens"][0] == 1000
        assert isinstance(error, TypeError)
        assert second["segment_ids"].tolist() == [1, 1, 1, 2, 2, 2, 2, 2]


def test_sample_with_an_error_is_skipped_with_on_error_skip():
    skipped = []
    samples = [*numbered([3]), "text", *numbered([5])]
    (row,) = rows_of(samples, 8, (4,), run=lane_run(skipped.append))
    assert row["segment_ids"].tolist() == [1, 1, 1, 2, 2, 2, 2, 2]
    assert [entry.indices for entry in skipped] == [(1,)]


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("sample", "kind", "words"),
    [
        (np.ma.ones(3), TypeError, r"a sample is masked, and rows have no masks: call filled\(\) in the source"),
        ("some text", TypeError, "a str, which is not a sequence of numbers.*that converts text to token numbers"),
        (b"bytes", TypeError, "is a bytes.*np.frombuffer"),
        (7, TypeError, "a sample is an int, which is not a sequence"),
        (None, TypeError, "a sample is None"),
        (np.float32(1), TypeError, "is a float32"),
        (np.array(3), TypeError, "an array of shape \\(\\)"),
        ((1, 2), TypeError, "a tuple.*that names each part"),
        ({1, 2}, TypeError, "a set"),
        (["a", "b"], TypeError, "a list of dtype <U1"),
        ([[1], [2, 3]], ValueError, "a list that cannot be converted to an array"),
        ([None, 1], TypeError, "a list of dtype object"),
        (iter([1]), TypeError, "a list_iterator, which is not a sequence"),
        ({}, ValueError, "a dict without fields"),
        ({"a": [1, 2], "b": 3}, TypeError, "field 'b' of a sample is an int"),
        ({"a": [1, 2], "b": [3]}, ValueError, "different lengths: 'a': 2, 'b': 1"),
        ({"a": [1], "positions": [1]}, ValueError, "the field 'positions', which is reserved"),
    ],
)
def test_sample_that_is_not_a_sequence_raises_with_a_remedy(sample, kind, words):
    with pytest.raises(kind, match=words):
        pack([sample], 8).pull(1)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([1], {"a": [1]}, "like the first one \\('tokens' of shape \\(n,\\)\\), got 'a' of shape \\(n,\\)"),
        ({"a": [1], "b": [1]}, {"a": [1]}, "like the first one"),
        ({"a": [1]}, {"a": [1], "b": [1]}, "like the first one"),
        ([1], [[1, 2]], "'tokens' of shape \\(n, 2\\)"),
    ],
)
def test_sample_that_differs_from_the_first_raises(first, second, words):
    error, row = rows_of([first, second], 8)
    assert isinstance(error, ValueError)
    with pytest.raises(ValueError, match=words):
        raise error
    assert row["segment_ids"].sum() == 1


def test_resumed_pack_checks_samples_against_the_first():
    stage = pack([[1] * 8, {"a": [1]}], 8)
    stage.pull(1)
    other = pack([[1] * 8, {"a": [1]}], 8)
    other.set_state(iter(saved(stage)))
    with pytest.raises(ValueError, match="like the first one"):
        other.pull(1)


# -- Fields of whole documents


def documents(sizes):
    return [
        {"tokens": [index] * size, "image": np.full((index % 3, 2), index, np.float32), "name": f"d{index}", "n": index}
        for index, size in enumerate(sizes)
    ]


WHOLE = ("image", "name", "n")


def test_documents_without_a_value_have_an_array_without_elements():
    samples = [{"tokens": [1], "image": [], "name": ""}, {"tokens": [2], "image": [3, 4], "name": "x"}]
    (row,) = rows_of(samples, 4, whole=["image", "name"])
    assert [each.tolist() for each in row["image"].to_list()] == [[], [3, 4]]
    assert row["image"].values.dtype == np.int64
    assert row["name"] == ["", "x"]


@pytest.mark.parametrize(
    ("sample", "kind", "message"),
    [
        ({"tokens": [1], "name": "x"}, TypeError, r"without 'image', or with None in it; it has the fields \['tokens', 'name'\]"),
        ({"tokens": [1], "image": None, "name": "x"}, TypeError, "without 'image', or with None in it.*array of length 0"),
        ([1, 2], TypeError, "without 'image', or with None in it; it is a list"),
        ({"image": [1], "name": "x"}, ValueError, "pack got a dict without fields"),
        ({"tokens": [1], "image": np.ones((1, 3)), "name": "x"}, ValueError,
         r"expected 'image' like in the samples before, with the inner shape and the dtype \(\) and int64, got \(3,\) and float64"),
        ({"tokens": [1], "image": np.ones(2), "name": "x"}, ValueError, r"the dtype \(\) and int64, got \(\) and float64"),
        ({"tokens": [1], "image": "x", "name": "x"}, ValueError, r"expected 'image' .* and int64, got of no array"),
    ],
    ids=str,
)  # fmt: skip
def test_samples_with_other_whole_fields_raise(sample, kind, message):
    reader = SequenceReader(4, ("image", "name"))
    reader.read({"tokens": [1], "image": np.arange(2), "name": "x"})
    with pytest.raises(kind, match=message):
        reader.read(sample)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_rows_join_whole_fields(workers):
    """The player of the model compares single rows, also after a resume."""
    dataset = Dataset(documents([3, 4, 2, 5, 1, 2] * 5)).pack(8, whole=WHOLE, bins=3)

    def check(batch):
        segments = batch["segment_ids"].max(axis=1)
        assert segments.sum() == len(batch["name"]) == len(batch["n"].values) == len(batch["image"].offsets) - 1
        assert type(batch["name"]) is list
        assert batch["name"] == [f"d{number}" for number in batch["n"].values]
        tokens = [np.unique(row[ids > 0]) for row, ids in zip(batch["tokens"], batch["segment_ids"], strict=True)]
        ends = np.cumsum(segments)[:-1]
        assert [set(part) for part in np.split(batch["n"].values, ends)] == list(map(set, tokens))
        return batch["name"]

    with mpqueue.Loader(dataset, batch_size=2, workers=workers, lanes=2, seed=1) as loader:
        names = [name for batch in loader for name in check(batch)]
    assert sorted(names) == sorted(f"d{number}" for number in range(30))


# -- Assignment of sequences to rows


def fill(filler, sizes):
    """Add sequences of these sizes; return all rows."""
    rows = []
    for token, size in enumerate(sizes):
        rest = Piece(token, 0, size, (np.arange(size),))
        while rest is not None:
            row, rest = filler.add(rest)
            if row is not None:
                rows.append(row)
    return rows + filler.finish()


@pytest.mark.parametrize(("sigma", "most"), [(0.5, 2.0), (1.0, 0.8), (1.5, 0.3)])
def test_best_fit_pads_at_most_two_percent_for_text_lengths(sigma, most):
    """Log-normal with median 400, rows of 2,048, 64 open rows."""
    sizes = np.maximum(1, 400 * np.exp(sigma * np.random.default_rng(0).standard_normal(8_000))).astype(int).tolist()
    rows = fill(BestFit(2048, 64), sizes)
    assert 100 * (1 - sum(sizes) / (2048 * len(rows))) <= most


def test_end_of_a_short_stream_has_little_padding():
    sizes = np.maximum(1, 400 * np.exp(np.random.default_rng(1).standard_normal(600))).astype(int).tolist()
    rows = fill(BestFit(2048, 64), sizes)
    assert 1 - sum(sizes) / (2048 * len(rows)) <= 0.02


# -- The stage `bucket`


def bucket(samples, boundaries, batch_sizes=None, *, run=None, length=len, max_tokens=None, **arguments):
    run = run or lane_run()
    samples = samples if isinstance(samples, Samples) else Samples(samples, run)
    arguments |= {"boundaries": boundaries, "batch_sizes": batch_sizes, "max_tokens": max_tokens}
    node = BucketNode.reading([SourceNode(source=samples.samples)], length_of=length, **arguments)
    return BucketStage(samples, node, run)


def batches_of(*args, **kwargs):
    return drain(bucket(*args, **kwargs))[0]


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
