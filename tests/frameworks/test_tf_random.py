"""Numbers of `tf.random` depend on seed, epoch and place, in every process that imports TensorFlow."""

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

import numpy as np
import tensorflow as tf
from helpers.computed_source import Computed
from helpers.tensorflow_draws import Draws, rows_of_two_epochs

from mpqueue import Loader
from mpqueue.worker.random_state import tensorflow_rng

IN_THREADS = {"workers": 2, "backend": "thread"}


@pytest.fixture(scope="module")
def in_a_worker(with_tensorflow, tmp_path_factory):
    """Return the numbers of a worker process, which inherits the imported TensorFlow: importing takes seconds."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "program.py").write_text(f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import numpy as np
from helpers.tensorflow_draws import rows_of_two_epochs
np.save("rows.npy", rows_of_two_epochs(batch_size=2, workers=1, start_method="fork"))
""")
    status, _, errors = with_tensorflow.run([folder / "program.py"], folder, os.environ, timeout=280)
    assert status == 0, errors[-3000:]
    return np.load(folder / "rows.npy")


@pytest.mark.parametrize("samples", [{}, {"batch_size": 2}], ids=["batches", "samples"])
def test_all_backends_draw_the_same_numbers(samples, in_a_worker):
    rows = rows_of_two_epochs(workers=0, **samples)
    assert np.array_equal(rows_of_two_epochs(**IN_THREADS, **samples), rows)
    if samples:
        assert np.array_equal(in_a_worker, rows)
    # No number is repeated, within a batch or between batches.
    assert len(np.unique(rows[:, :4])) == rows[:, :4].size == 40


def test_each_operation_keeps_its_shape_type_and_distribution():
    def many(_index):
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

    with Loader(Computed(many, 1), workers=0, seed=1) as loader:
        seeded = {name: np.asarray(value) for name, value in next(iter(loader)).items()}
    for name, expected in many(0).items():
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


def drawn_or_seeded(index):
    if index == 2:
        tf.random.set_seed(8)
    return float(tf.random.uniform([]))


def test_seed_set_by_an_item_is_valid_until_its_end():
    tf.random.set_seed(8)
    own = float(tf.random.uniform([]))
    with Loader(Computed(drawn_or_seeded, 4), workers=0, seed=1) as loader:
        first, second = list(loader), list(loader)
    assert first[2] == second[2] == own
    assert len({*first, *second}) == 7


def test_numbers_without_seed_and_workers_are_the_trainers():
    tf.random.set_seed(8)
    own = [float(tf.random.uniform([])) for _ in range(3)]
    tf.random.set_seed(8)
    with Loader(Computed(drawn_or_seeded, 4), workers=0) as loader:
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
    monkeypatch.setattr(tensorflow_rng, "_has_warned", False)
    tf.random.set_seed(None)
    with Loader(InFunctions(), workers=0, seed=1) as loader:
        assert len(set(list(loader) + list(loader))) == 6
    assert [record.message.count("tf.function") for record in caplog.records] == [1]


def test_unsupported_tensorflow_warns_once(caplog, monkeypatch):
    monkeypatch.setattr(tensorflow_rng, "_is_followed", False)
    monkeypatch.delattr(sys.modules["tensorflow.python.ops.gen_random_ops"], "random_shuffle")
    with Loader([1, 2], workers=0, seed=1) as loader:
        assert list(loader) == [1, 2]
    assert ["stateless" in record.message for record in caplog.records] == [True]
