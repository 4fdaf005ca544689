"""Arguments and errors of the batching functions."""

import threading

import numpy as np
import pytest

import mpqueue
from mpqueue import errors, train

DEADLOCK_S = 60


def counter(dtype="int32", shape=(), stop=10, **options):
    """Return a source of 0, 1, 2, ..., each filling the shape."""
    numbers = iter(range(stop))
    return mpqueue.Source(lambda: np.full(shape, next(numbers), dtype), dtype, [shape], **options)


def test_arrays_are_the_same_in_every_example():
    batches = train.batch([counter(stop=2), "label", [1.5, 2.5]], 2)
    assert batches.dtypes[1:] == ["string", np.dtype("float32")]
    ((numbers, labels, pairs),) = batches
    assert (numbers.tolist(), labels.tolist(), pairs.tolist()) == ([0, 1], [b"label"] * 2, [[1.5, 2.5]] * 2)


def test_sources_mapped_from_one_source_get_the_same_example():
    """Two maps of one reader's source return the image and label of the same record."""
    example = mpqueue.Source(iter(range(6)).__next__)
    double = example.map(lambda n: n * 2, dtypes="int64", shapes=[()])
    negative = double.map(lambda n: -n, dtypes="int64", shapes=[()])
    batches = [(one.tolist(), two.tolist()) for one, two in train.batch([double, negative], 3)]
    assert batches == [([0, 2, 4], [0, -2, -4]), ([6, 8, 10], [-6, -8, -10])]


def test_stop_iteration_in_map_ends_the_input():
    letters, example = iter("ab"), mpqueue.Source(iter(range(6)).__next__)
    one = example.map(int, dtypes="int64", shapes=[()])
    other = example.map(lambda n: next(letters), dtypes="string", shapes=[()])
    batches = [[part.tolist() for part in batch] for batch in train.batch([one, other], 1)]
    assert batches == [[[0], [b"a"]], [[1], [b"b"]]]


def test_shuffle_batch_with_seed_is_reproducible_from_a_full_queue():
    def shuffled(seed):
        batches = train.shuffle_batch([counter(stop=100)], 10, 200, 50, seed=seed)
        mpqueue.start_queue_runners(coord=(coord := mpqueue.Coordinator()))
        while not batches.queue.is_closed():
            coord.wait_for_stop(0.01)
        got = [number for _ in range(10) for number in batches().tolist()]
        coord.request_stop()
        coord.join()
        mpqueue.reset_default_graph()
        return got

    first = shuffled(3)
    assert sorted(first) == list(range(100)) != first
    assert shuffled(3) == first != shuffled(4)


def test_joined_inputs_with_other_key_order_and_compatible_shapes():
    one = mpqueue.Source(iter([{"a": 1, "b": [1.0]}]).__next__, ["int32", "float32"], [(), (None,)], ["a", "b"])
    other = mpqueue.Source(iter([{"b": [2.0], "a": 2}]).__next__, ["float32", "int32"], [(1,), ()], ["b", "a"])
    batches = train.batch_join([one, other], 2)
    assert batches.shapes == [(2,), (2, 1)]
    (batch,) = batches
    assert sorted(zip(batch["a"].tolist(), batch["b"].ravel().tolist(), strict=True)) == [(1, 1.0), (2, 2.0)]


def test_batch_timeout_loses_no_examples():
    gate = threading.Event()

    def slow():
        gate.wait(DEADLOCK_S)
        raise StopIteration

    examples = iter([lambda: 1, slow])
    batches = train.batch([mpqueue.Source(lambda: next(examples)(), "int32", [()])], 2, allow_smaller_final_batch=True)
    coord = mpqueue.Coordinator()
    mpqueue.start_queue_runners(coord=coord)
    with pytest.raises(errors.DeadlineExceededError):
        batches(timeout=0.01)
    gate.set()
    assert batches(timeout=DEADLOCK_S).tolist() == [1]
    coord.request_stop()
    coord.join()


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("tensors", "options", "error", "words"),
    [
        (counter(), {}, TypeError, r"pass it in a list, as in batch\(\[source\]"),
        (np.arange(3), {}, TypeError, "list or dict of Sources or arrays, got ndarray"),
        ("text", {}, TypeError, "got str"),
        (lambda: 1, {}, TypeError, "got function"),
        ({}, {}, ValueError, "at least one"),
        ([mpqueue.Source(lambda: 1)], {}, ValueError, "dtypes of .* are unknown"),
        (mpqueue.Source(lambda: [1, 2]), {}, ValueError, "dtypes of .* are unknown"),
        ([mpqueue.Source(lambda: [1, 2], ["int32"] * 2)], {}, ValueError, "returns several: pass that source"),
        ([mpqueue.Source(lambda: 1, "int32", [(None,)])], {}, ValueError, "dynamic_pad=True"),
        ([counter()], {"shapes": [(), ()]}, ValueError, "Expected 1 shapes, one for each dtype, got 2"),
        ([counter()], {"shapes": [(3,)]}, ValueError, "shape"),
        ([counter()], {"enqueue_many": True}, ValueError, "first dimension counts examples"),
        ([counter()], {"batch_size": -1}, ValueError, "batch_size must be 0 or more, got -1"),
        ([counter()], {"batch_size": 1.5}, TypeError, "batch_size must be an integer, got 1.5"),
        ([counter()], {"num_threads": 0}, ValueError, "num_threads must be 1 or more, got 0"),
    ],
)
def test_invalid_arguments_raise_before_a_runner_is_added(tensors, options, error, words):
    with pytest.raises(error, match=words):
        train.batch(tensors, **{"batch_size": 2} | options)
    assert mpqueue.get_queue_runners() == []


@pytest.mark.parametrize(
    ("tensors_list", "error", "words"),
    [
        (counter(), TypeError, "one entry per input"),
        ([[counter()], [counter(), counter()]], ValueError, "same keys, or the same number"),
        ([[counter()], {"a": counter()}], ValueError, "same keys, or the same number"),
        ([[counter(shape=(2,))], [counter(shape=(3,))]], ValueError, "shapes"),
    ],
)
@pytest.mark.parametrize("join", [train.batch_join, lambda *args: train.shuffle_batch_join(*args, 10, 5)])
def test_incompatible_inputs_raise(join, tensors_list, error, words):
    with pytest.raises(error, match=words):
        join(tensors_list, 2)
    assert mpqueue.get_queue_runners() == []


def test_example_of_another_shape_ends_the_input_with_an_error():
    examples = iter([np.zeros(2), np.zeros(3)])
    batches = train.batch([mpqueue.Source(examples.__next__, "float64")], 1, shapes=[(2,)])
    got = []
    with pytest.raises(errors.InvalidArgumentError, match=r"shape \[3\]"):
        got.extend(batches)
    assert len(got) == 1
