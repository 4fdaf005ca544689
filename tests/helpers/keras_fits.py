"""Fits of a small model with the real Keras, and records of the batches that Keras received."""

import keras
import numpy as np
from keras.src.trainers.data_adapters import py_dataset_adapter as adapter
from keras.src.utils import module_utils

from helpers.fit_datasets import Marked

BACKEND = keras.backend.backend()
if BACKEND != "tensorflow":
    module_utils.tensorflow._available = False  # otherwise `set_random_seed` imports it, in several seconds


def as_py_dataset(dataset, workers=1, use_multiprocessing=False, max_queue_size=10):
    """Convert a dataset to a `PyDataset`. With the default arguments, Keras computes its items inline."""

    class Own(type(dataset), keras.utils.PyDataset):
        pass

    own = Own.__new__(Own)
    keras.utils.PyDataset.__init__(own, workers, use_multiprocessing, max_queue_size)
    own.__dict__.update(vars(dataset))
    return own


def make_model(kind="plain"):
    """Create a small regression model. With "built", it is built here, instead of by `fit` from the first batch."""
    layers, options = keras.layers, {}
    hidden, outputs, loss = layers.Dense(5, activation="tanh"), layers.Dense(1), "mse"
    if kind == "classes":
        outputs, loss = layers.Dense(2, activation="softmax"), "sparse_categorical_crossentropy"
    if kind == "named":
        inputs = {"left": keras.Input((1,), name="left"), "right": keras.Input((3,), name="right")}
        model = keras.Model(inputs, outputs(hidden(layers.Concatenate()([inputs["left"], inputs["right"]]))))
    else:
        model = keras.Sequential([hidden, outputs])
    if kind == "built":
        model.build((None, 4))
    if kind == "many steps at once":
        options["steps_per_execution"] = 2
    if BACKEND == "tensorflow":
        options["run_eagerly"] = True  # tracing graphs takes a second of CPU time for each fit
    model.compile(keras.optimizers.Adam(0.05), loss, weighted_metrics=[], **options)
    return model


def fit(dataset, *, kind="plain", seed=1, **options):
    """Train a new model for three epochs with fixed seeds; return its weights and its history."""
    keras.utils.set_random_seed(seed)
    model = make_model(kind)
    history = model.fit(dataset, verbose=0, **{"epochs": 3, **options}).history
    return [np.array(weight) for weight in model.get_weights()], history


def assert_same(one, other):
    """Assert that weights and histories are equal bit by bit."""
    for left, right in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(left, right)
    assert one[1] == other[1]


class Delivered:
    """The marks of the batches that Keras received, in order."""

    def __init__(self, monkeypatch):
        self.batches = []
        standardize = adapter.PyDatasetAdapter._standardize_batch

        def spy(it, batch):
            self.batches.append(np.array(batch[0][0]))
            return standardize(it, batch)

        monkeypatch.setattr(adapter.PyDatasetAdapter, "_standardize_batch", spy)

    def marks(self):
        """Return (index, number of epochs ended, third mark) of each batch."""
        return [tuple(int(number) for number in np.rint(batch[:3] / Marked.SCALE)) for batch in self.batches]

    def take(self):
        """Return the marks since the last call."""
        marks = self.marks()
        self.batches.clear()
        return marks
