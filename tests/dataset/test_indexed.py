"""Elements of indexed datasets: the result of each stage, in blocks and singly, and error messages."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue import Dataset


class Squares:
    """A map-style dataset that counts its calls."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return index * index


class AtOnce(Squares):
    def __getitems__(self, indices):
        return [index * index for index in indices]


@pytest.mark.parametrize("source", [Squares(), AtOnce(), [x * x for x in range(20)], np.arange(20) ** 2])
def test_any_source_is_read_by_index(source):
    shuffled = Dataset(source).shuffle()
    assert sorted(shuffled) == [x * x for x in range(20)]
    assert shuffled.__getitems__(range(20)) == [shuffled[place] for place in range(20)]


def test_each_shuffled_epoch_is_another_permutation():
    for length in (1, 2, 1000, 70_000):
        shuffled = Dataset.range(length).shuffle().repeat(2)
        first, second = shuffled.__getitems__(range(length)), shuffled.__getitems__(range(length, 2 * length))
        assert sorted(first) == sorted(second) == list(range(length))
        assert length < 1000 or first != second
        assert [shuffled[place] for place in range(0, 2 * length, 997)] == (first + second)[::997]


def test_a_billion_samples_cost_nothing_before_they_are_read():
    parts = [Dataset.range(10**9).shuffle() for _ in range(3)]
    mixed = Dataset.mix(parts, [0.31, 0.27, 0.42], stop="all").shuffle().map(str)
    assert len(mixed) > 3 * 10**9
    assert len({mixed[place] for place in range(0, len(mixed), len(mixed) // 100)}) > 90


def test_epoch_of_a_repeated_dataset_equals_its_single_epochs():
    drawn = Dataset.range(10).shuffle().map(lambda x: (x, mpqueue.rng().integers(1000)))
    options = {"batch_size": 5, "workers": 0, "seed": 3, "collate": list}
    with mpqueue.Loader(drawn, **options) as loader:
        epochs = [batch for _ in range(3) for batch in loader]
    for times in (3, None):
        with mpqueue.Loader(drawn.repeat(times).take(30), **options) as loader:
            assert list(loader) == epochs


STAGES = {
    "map": (lambda d: d.map(lambda x: x + 1), lambda xs: [x + 1 for x in xs]),
    "take": (lambda d: d.take(9), lambda xs: xs[:9]),
    "skip": (lambda d: d.skip(3), lambda xs: xs[3:]),
    "repeat": (lambda d: d.repeat(2), lambda xs: xs * 2),
    "twice": (lambda d: Dataset.concatenate(d, d), lambda xs: xs + xs),
    "pairs": (lambda d: Dataset.zip(d, d).map(sum), lambda xs: [2 * x for x in xs]),
    "places": (lambda d: d.enumerate().map(lambda p: p[0] + p[1]), lambda xs: [n + x for n, x in enumerate(xs)]),
    "sums": (lambda d: d.batch(2, collate=sum), lambda xs: [sum(xs[n : n + 2]) for n in range(0, len(xs), 2)]),
    "full sums": (
        lambda d: d.batch(3, drop_last=True, collate=sum),
        lambda xs: [sum(xs[n : n + 3]) for n in range(0, len(xs) - 2, 3)],
    ),
}


@settings(max_examples=60)
@given(st.integers(1, 30), st.lists(st.sampled_from(sorted(STAGES)), max_size=6), st.data())
def test_any_composition_equals_list_operations(length, names, data):
    dataset, model = Dataset.range(length), list(range(length))
    for name in names:
        dataset, model = STAGES[name][0](dataset), STAGES[name][1](model)
    assert len(dataset) == len(model)
    if not model:
        return
    places = data.draw(st.lists(st.integers(0, len(model) - 1), max_size=12))
    assert dataset.__getitems__(places) == [model[place] for place in places]
    assert dataset.__getitems__(range(len(model))) == model


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


def test_failing_samples_are_skipped_one_by_one():
    dataset = Dataset.range(10).map(fails_at_7).batch(5)
    with mpqueue.Loader(dataset, workers=1, on_error="skip", seed=0) as loader:
        assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3, 4], [5, 6, 8, 9]]
        assert loader.statistics().skipped == 1


def test_getitems_that_returns_too_few_samples_raises():
    class Short(Squares):
        def __getitems__(self, indices):
            return [0]

    with pytest.raises(ValueError, match=r"Short\.__getitems__ must return one sample per index \(2\), got 1"):
        Dataset(Short()).__getitems__([1, 2])


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


def test_map_with_threads_returns_the_same_as_without():
    def draw(x):
        return x, mpqueue.rng().random()

    def batches(threads, **options):
        samples = Dataset.range(40).shuffle().map(draw, threads=threads)
        with mpqueue.Loader(samples.batch(8, collate=list), seed=1, **options) as loader:
            return list(loader)

    expected = batches(1, workers=0)
    for options in ({"workers": 0}, {"workers": 2}, {"workers": 2, "backend": "thread"}):
        assert batches(3, **options) == expected


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
