"""A source that draws from TensorFlow, for tests and for the programs that they start."""

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


def rows_of_two_epochs(**options):
    """Return the numbers of all samples, a row for each."""
    with Loader(Draws(), seed=4, shuffle=True, **options) as loader:
        return np.concatenate([np.atleast_2d(batch) for _ in range(2) for batch in loader])
