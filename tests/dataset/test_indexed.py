"""Elements of indexed datasets: the result of each stage, in blocks and singly, and error messages."""

import threading

import numpy as np
import pytest

import mpqueue
from mpqueue import Dataset


def test_a_billion_samples_cost_nothing_before_they_are_read():
    parts = [Dataset.range(10**9).shuffle() for _ in range(3)]
    mixed = Dataset.mix(parts, [0.31, 0.27, 0.42], stop="all").shuffle().map(str)
    assert len(mixed) > 3 * 10**9
    assert len({mixed[position] for position in range(0, len(mixed), len(mixed) // 100)}) > 90


def fails_at_7(x):
    if x == 7:
        raise KeyError("seven")
    return x


@pytest.mark.parametrize("workers", [0, 1])
def test_error_names_stage_place_and_sample(workers):
    base = Dataset.concatenate(Dataset.range(5), Dataset(list(range(5, 10))))
    dataset = base.skip(1).map(fails_at_7).batch(3)
    with mpqueue.Loader(dataset, workers=workers, seed=0) as loader, pytest.raises(KeyError) as caught:
        list(loader)
    notes = "\n".join(caught.value.__notes__)
    assert "stage 4, map(fails_at_7), at place 6 of epoch 0, for sample 2 of list" in notes


def test_getitems_that_returns_too_few_samples_raises():
    class Short(list):
        def __getitems__(self, indices):
            return [0]

    with pytest.raises(ValueError, match=r"Short\.__getitems__ must return one sample per index \(2\), got 1"):
        Dataset(Short([0, 1, 2])).__getitems__([1, 2])


def test_next_epoch_sees_a_source_that_has_grown():
    items = [1, 2, 3]
    dataset = Dataset(items).shuffle()
    assert sorted(dataset) == [1, 2, 3]
    with mpqueue.Loader(dataset, batch_size=10, workers=1) as loader:
        assert sorted(next(iter(loader)).tolist()) == [1, 2, 3]
        items.append(4)
        assert sorted(dataset) == [1, 2, 3, 4]
        assert sorted(next(iter(loader)).tolist()) == [1, 2, 3, 4]


class Ages:
    """A source that changes at the end of an epoch."""

    def __init__(self):
        self.age = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return 10 * self.age + index

    def on_epoch_end(self):
        self.age += 1


@pytest.mark.parametrize("workers", [0, 2])
def test_on_epoch_end_of_a_source_is_called(workers):
    dataset = Dataset.concatenate(Dataset(Ages()), Dataset(Ages())).map(lambda x: x).batch(4)
    with mpqueue.Loader(dataset, workers=workers) as loader:
        epochs = [np.concatenate(list(loader)).tolist() for _ in range(3)]
    assert epochs == [2 * [10 * age + index for index in range(4)] for age in range(3)]


def test_functions_in_threads_run_concurrently():
    meeting = threading.Barrier(4)  # passed only by four threads at the same time
    dataset = Dataset.range(8).map(lambda x: (meeting.wait(timeout=60), x)[1], threads=4)
    assert dataset.__getitems__(range(8)) == list(range(8))


def test_error_in_a_thread_names_its_sample():
    with pytest.raises(KeyError) as caught:
        Dataset.range(10).map(fails_at_7, threads=3).__getitems__(range(10))
    assert "at place 7 of epoch 0, for sample 7 of range" in caught.value.__notes__[0]


def test_function_in_threads_can_read_a_dataset_with_threads():
    inner = Dataset.range(8).map(str, threads=2)
    outer = Dataset.range(8).map(lambda x: inner.__getitems__([x, 7 - x]), threads=2)
    assert outer.__getitems__(range(8)) == [[str(x), str(7 - x)] for x in range(8)]
