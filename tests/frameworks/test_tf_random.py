"""Numbers of `tf.random` depend on seed, epoch and place, in every process that imports TensorFlow."""

import sys

import pytest

pytest.importorskip("tensorflow")

import numpy as np
import tensorflow as tf

from mpqueue import Loader


class Draws:
    """Draws from all random functions of TensorFlow."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        drawn = [
            tf.random.uniform([2]),
            tf.random.uniform([2]),
            tf.random.uniform([2], 5, 5000, tf.int32),
            tf.random.normal([2], 3.0, 0.5, seed=3),
            tf.random.truncated_normal([2]),
            tf.random.gamma([2], [0.5, 2.0]),
            tf.random.poisson([2], [0.5, 90.0]),
            tf.random.categorical([[0.0] * 50] * 2, 3),
            tf.random.shuffle(tf.range(20)),
            tf.image.random_crop(tf.reshape(tf.range(200), [10, 10, 2]), [3, 3, 2]),
            tf.keras.initializers.TruncatedNormal(seed=1)([2]),
        ]
        return np.concatenate([np.asarray(tensor, np.float64).ravel() for tensor in drawn])


def of_two_epochs(**options):
    with Loader(Draws(), seed=4, shuffle=True, **options) as loader:
        return [np.asarray(batch) for _ in range(2) for batch in loader]


IN_PROCESSES = {"workers": 1}  # each worker imports TensorFlow, which takes seconds: once is enough
IN_THREADS = {"workers": 2, "backend": "thread"}
ALONE = {"workers": 0}


@pytest.mark.parametrize(
    ("samples", "others"),
    [({}, [IN_THREADS, ALONE]), ({"batch_size": 2}, [IN_PROCESSES, IN_THREADS, ALONE])],
    ids=["batches", "samples"],
)
def test_all_backends_draw_the_same_numbers(samples, others):
    expected = of_two_epochs(**ALONE, **samples)
    for other in others:
        again = of_two_epochs(**other, **samples)
        assert all(map(np.array_equal, expected, again)), other
    rows = np.concatenate([np.atleast_2d(batch) for batch in expected])
    assert (
        len(np.unique(rows[:, :4])) == rows[:, :4].size == 40
    )  # no number is repeated, within a batch or between batches


def test_each_operation_keeps_its_shape_type_and_distribution():
    class Many:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            tf.debugging.assert_equal(tf.sort(tf.random.shuffle(tf.range(50))), tf.range(50))
            return {
                "uniform": tf.random.uniform([40, 50], 2, 4, tf.float64),
                "whole": tf.random.uniform([2000], 0, 7, tf.int64),
                "normal": tf.random.normal([2000], 3, 1),
                "truncated": tf.random.truncated_normal([2000], 3, 1),
                "gamma": tf.random.gamma([1000], [3.0, 3.0]),
                "poisson": tf.random.poisson([1000], [3.0, 3.0], tf.int32),
                "categorical": tf.random.categorical(tf.math.log([[0.5, 0.25, 0.25]]), 2000),
            }

    with Loader(Many(), workers=0, seed=1) as loader:
        seeded = {name: np.asarray(value) for name, value in next(iter(loader)).items()}
    for name, expected in Many()[0].items():
        value = seeded[name]
        assert value.shape == expected.shape and value.dtype == expected.numpy().dtype, name
        assert abs(value.mean() - expected.numpy().mean()) < 0.3, name
        assert abs(value.std() - expected.numpy().std()) < 0.3, name


def test_numbers_of_the_trainer_do_not_change():
    @tf.function
    def in_function():
        return tf.random.uniform([])

    def trained(source):
        tf.random.set_seed(6)
        again = tf.function(in_function.python_function)
        numbers = []
        with Loader(source, workers=0, seed=1) as loader:
            for _ in loader:
                numbers += [float(tf.random.uniform([])), float(again()), float(tf.random.uniform([], seed=9))]
        return numbers

    assert trained([1, 2, 3, 4, 5]) == trained(Draws())


class SeedsByItself:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            tf.random.set_seed(8)
        return float(tf.random.uniform([]))


def test_seed_set_by_an_item_is_valid_until_its_end():
    tf.random.set_seed(8)
    own = float(tf.random.uniform([]))
    with Loader(SeedsByItself(), workers=0, seed=1) as loader:
        first, second = list(loader), list(loader)
    assert first[2] == second[2] == own
    assert len({*first, *second}) == 7


def test_numbers_without_seed_and_workers_are_the_trainers():
    tf.random.set_seed(8)
    own = [float(tf.random.uniform([])) for _ in range(3)]
    tf.random.set_seed(8)
    with Loader(SeedsByItself(), workers=0) as loader:
        stream = iter(loader)
        assert [next(stream), next(stream)] == own[:2]


class InFunctions:
    def __init__(self):
        self.draw = tf.function(lambda: tf.random.uniform([]))
        self.draw_more = tf.function(lambda: tf.random.uniform([]))

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return float(self.draw()), float(self.draw_more())


def test_tf_function_that_draws_warns_once_and_repeats_no_numbers(caplog, monkeypatch):
    monkeypatch.setattr("mpqueue.worker.tensorflow_rng._has_warned", False)
    tf.random.set_seed(None)
    with Loader(InFunctions(), workers=0, seed=1) as loader:
        assert len(set(list(loader) + list(loader))) == 6
    assert [record.message.count("tf.function") for record in caplog.records] == [1]


def test_unsupported_tensorflow_warns_once(caplog, monkeypatch):
    monkeypatch.setattr("mpqueue.worker.tensorflow_rng._is_followed", False)
    monkeypatch.delattr(sys.modules["tensorflow.python.ops.gen_random_ops"], "random_shuffle")
    with Loader([1, 2], workers=0, seed=1) as loader:
        assert list(loader) == [1, 2]
    assert ["stateless" in record.message for record in caplog.records] == [True]
