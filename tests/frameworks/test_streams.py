"""Streams in lanes in a `Loader`, in tf.data. The player plays on the streams of JAX and Keras."""

import numpy as np
import pytest

import mpqueue

STREAM = (
    mpqueue.Dataset.range(200)
    .shuffle()
    .map(np.float32)
    .filter(lambda x: bool(x % 4))
    .shuffle(buffer=10)
    .batch(5)
    .map(lambda x: (x[:, None], 2 * x[:, None]))
)


def plain(batches):
    return [np.asarray(x).ravel().tolist() for x, _ in batches]


def expected(num_epochs=1, **options):
    with mpqueue.Loader(STREAM, workers=0, seed=0, **options) as loader:
        return [plain(loader) for _ in range(num_epochs)]


@pytest.mark.parametrize("options", [{}, {"epoch_batches": 20}])
def test_tf_data_returns_epochs_of_a_stream(options):
    pytest.importorskip("tensorflow")
    import mpqueue.tf

    with mpqueue.Loader(STREAM, workers=1, seed=0, **options) as loader:
        dataset = mpqueue.tf.dataset(loader)
        assert [plain(dataset) for _ in range(2)] == expected(2, **options)
        assert int(dataset.cardinality()) == options.get("epoch_batches", -2)
        assert loader.state_dict()["epoch"] == 2
