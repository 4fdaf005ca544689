"""Producers: queues of the rows of arrays, epoch after epoch."""

import pathlib
import time
from functools import partial

import numpy as np
import pytest
from tf1.helpers.input_ends import all_until_the_end

import mpqueue
from mpqueue import errors, train

DEADLOCK_S = 60


@pytest.fixture(autouse=True)
def runners():
    """Return a function that starts the queue runners; they stop at the end of the test."""
    coord = mpqueue.Coordinator()

    def start():
        mpqueue.start_queue_runners(coord=coord)
        return coord

    yield start
    coord.request_stop()
    coord.join(stop_grace_period_secs=DEADLOCK_S)


def drain(queue):
    return all_until_the_end(partial(queue.dequeue, timeout=DEADLOCK_S))


def test_each_epoch_is_a_permutation_and_reproducible_with_a_seed(runners):
    # TensorFlow accepts a negative seed, NumPy does not.
    queues = [train.range_input_producer(50, num_epochs=3, seed=seed) for seed in (-4, -4, 4)]
    runners()
    first, again, other = [[int(row) for row in drain(queue)] for queue in queues]
    epochs = [first[start : start + 50] for start in (0, 50, 100)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(50))] * 3
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != list(range(50))
    assert first == again != other


def test_source_of_rows_is_called_for_each_epoch(runners):
    epoch = iter([np.array([[1, 2]]), np.array([[3, 4], [5, 6]])])
    queue = train.input_producer(mpqueue.Source(lambda: next(epoch), "int64"), [2], 2, shuffle=False)
    runners()
    assert [row.tolist() for row in drain(queue)] == [[1, 2], [3, 4], [5, 6]]


def test_row_shape_is_merged_with_element_shape():
    source = mpqueue.Source(lambda: None, "float32", [(None, 3, None)])
    assert train.input_producer(source, [None, 5]).shapes == [(3, 5)]
    with pytest.raises(ValueError, match="element_shape must match"):
        train.input_producer(source, [4, 5])
    with pytest.raises(ValueError, match="pass element_shape"):
        train.input_producer(source)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: train.input_producer(None), ValueError, "None"),
        (lambda: train.input_producer([[1], [2, 3]]), ValueError, "inhomogeneous"),
        (lambda: train.input_producer({"a": 1}), TypeError, "must be numeric or a string"),
        (lambda: train.input_producer([1], num_epochs=-1), ValueError, "num_epochs"),
        (lambda: train.input_producer([1], num_epochs=1.5), TypeError, "float"),
        (lambda: train.input_producer([1], element_shape=[3]), ValueError, "element_shape"),
        (lambda: train.input_producer(mpqueue.Source(lambda: [1])), ValueError, "dtype of input_tensor is unknown"),
        (lambda: train.input_producer(mpqueue.Source(int, ["int32"] * 2)), ValueError, "must be one array"),
        (lambda: train.range_input_producer(-1), ValueError, "limit must be from 0"),
        (lambda: train.range_input_producer(2**31), ValueError, "limit must be from 0"),
        (lambda: train.range_input_producer(20, seed=1.5), TypeError, "seed must be an integer"),
    ],
)
def test_invalid_arguments_raise_before_a_runner_is_added(make, error, words):
    with pytest.raises(error, match=words):
        make()
    assert mpqueue.get_queue_runners() == []


def test_names_can_be_paths_str_and_bytes(runners):
    names = ["a", b"b\xff", pathlib.Path("c") / "d", "é"]
    queue = train.string_input_producer(names, num_epochs=1, shuffle=False)
    runners()
    assert drain(queue) == [b"a", b"b\xff", b"c/d", "é".encode()]


def test_a_pattern_without_matches_is_reported_by_the_coordinator(tmp_path, runners):
    queue = train.string_input_producer(train.match_filenames_once(tmp_path / "*.none"))
    coord = runners()
    with pytest.raises(errors.OutOfRangeError):
        queue.dequeue(timeout=DEADLOCK_S)
    with pytest.raises(errors.InvalidArgumentError, match="got no strings from"):
        coord.join(stop_grace_period_secs=DEADLOCK_S)
    coord.clear_stop()


@pytest.mark.measures
def test_endless_producer_without_rows_blocks_without_using_cpu(runners):
    queue = train.range_input_producer(0)
    coord = runners()
    with pytest.raises(errors.DeadlineExceededError):
        queue.dequeue(timeout=0.05)
    before = time.process_time()
    coord.wait_for_stop(0.3)
    waiting_s, until = time.process_time() - before, time.monotonic() + 0.3
    before = time.process_time()
    while time.monotonic() < until:
        pass
    assert waiting_s < (time.process_time() - before) / 3


def test_custom_cancel_op_is_called_on_stop(runners):
    called = []
    queue = train.string_input_producer(["a"], cancel_op=lambda: called.append(queue.close(True)))
    coord = runners()
    queue.dequeue(timeout=DEADLOCK_S)
    coord.request_stop()
    coord.join(stop_grace_period_secs=DEADLOCK_S)
    assert called == [None]


def test_slices_belong_together_and_are_copies(runners):
    images = np.arange(12).reshape(4, 3)
    source = train.slice_input_producer([images, ["a", "b", "c", "d"]], num_epochs=2, seed=1)
    assert source.dtypes == [np.dtype("int64"), "string"] and source.shapes == [(3,), ()]
    runners()
    taken = all_until_the_end(source)
    expected = [([0, 1, 2], b"a"), ([3, 4, 5], b"b"), ([6, 7, 8], b"c"), ([9, 10, 11], b"d")]
    assert sorted((image.tolist(), label) for image, label in taken) == sorted(expected * 2)
    taken[0][0][:] = -1
    assert images.min() == 0


def test_a_second_array_may_be_longer_and_a_missing_slice_raises(runners):
    source = train.slice_input_producer([[1, 2, 3], [10, 30], [4, 5, 6, 7]], num_epochs=2, shuffle=False)
    runners()
    assert source() == [1, 10, 4] and source() == [2, 30, 5]
    with pytest.raises(errors.InvalidArgumentError, match=r"tensor_list\[1\] must have a row 2.* has 2 rows"):
        source()
    assert source() == [1, 10, 4]


def test_initializer_resets_the_count_of_limit_epochs():
    source = train.limit_epochs([1, 2], 2)
    assert source.dtypes == [np.dtype("int32")] and source.shapes == [(2,)] and source.is_bare
    for _ in range(2):
        source()[0] = 7
        assert source().tolist() == [1, 2]
        for _ in range(2):
            with pytest.raises(errors.OutOfRangeError, match="All 2 epochs have ended"):
                source()
        mpqueue.local_variables_initializer()


def test_limit_epochs_calls_a_source_once_per_epoch():
    numbers = iter(range(10))
    source = mpqueue.Source(lambda: [next(numbers)], ["int32"], [()], ["n"])
    limited = train.limit_epochs(source, 3)
    assert limited.names == ["n"] and limited.shapes == [()]
    assert [limited() for _ in range(3)] == [[0], [1], [2]]
    with pytest.raises(errors.OutOfRangeError):
        limited()
    assert train.limit_epochs(source) is source
    bare = train.limit_epochs(mpqueue.Source(iter([1]).__next__, "int32", [()]), 5)
    assert bare.is_bare and bare() == 1


def test_matches_are_kept_until_the_initializer_runs(tmp_path):
    (tmp_path / "a").touch()
    matches = train.match_filenames_once(tmp_path / "*")
    (tmp_path / "b").touch()
    assert matches().tolist() == [bytes(tmp_path / "a")]
    matches()[0] = b"changed"
    mpqueue.local_variables_initializer()
    assert matches().tolist() == [bytes(tmp_path / "a"), bytes(tmp_path / "b")]


def test_producers_with_the_same_shared_name_share_the_queue(runners):
    one, other = (train.range_input_producer(3, 1, shuffle=False, shared_name="shared") for _ in range(2))
    assert one.queue_ref is other.queue_ref
    assert one.name == "input_producer" and train.range_input_producer(1, name="mine").name == "mine"
