"""Streams in lanes in a `Loader`, in the frontends that accept one: JAX, Keras and tf.data."""

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
def test_state_of_device_batches_resumes_with_other_workers(options):
    pytest.importorskip("jax")
    import mpqueue.jax

    (whole,) = expected(**options)
    with mpqueue.Loader(STREAM, workers=2, seed=0, **options) as loader:
        batches = mpqueue.jax.device_iterator(loader, prefetch=3)
        taken = plain(next(batches) for _ in range(7))
        state = batches.state_dict()
    assert state["position"] == 7
    with mpqueue.Loader(STREAM, workers=0, **options) as loader:
        batches = mpqueue.jax.device_iterator(loader)
        batches.load_state_dict(state)
        assert taken + plain(batches) == whole


@pytest.mark.parametrize("options", [{}, {"epoch_batches": 20}])
def test_tf_data_returns_epochs_of_a_stream(options):
    pytest.importorskip("tensorflow")
    import mpqueue.tf

    with mpqueue.Loader(STREAM, workers=1, seed=0, **options) as loader:
        dataset = mpqueue.tf.dataset(loader)
        assert [plain(dataset) for _ in range(2)] == expected(2, **options)
        assert int(dataset.cardinality()) == options.get("epoch_batches", -2)
        assert loader.state_dict()["epoch"] == 2


def test_fit_on_a_stream_uses_epoch_batches():
    keras = pytest.importorskip("keras")
    import mpqueue.keras

    seen = []

    class Seen(keras.layers.Layer):
        def call(self, x):
            seen.append(np.asarray(x).ravel().tolist())
            return x

    model = keras.Sequential([keras.Input((1,)), Seen(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    with mpqueue.Loader(STREAM, workers=1, seed=0, epoch_batches=20) as loader:
        seen.clear()
        history = model.fit(mpqueue.keras.accelerate(loader), epochs=2, verbose=0)
        assert len(history.history["loss"]) == 2
        assert seen[-40:] == [batch for epoch in expected(2, epoch_batches=20) for batch in epoch]
        state = loader.state_dict()
        assert (state["epoch"], state["position"]) == (2, 0)


@pytest.mark.parametrize(
    ("options", "before"), [({}, (0, 36)), ({"epoch_batches": 20}, (1, 0))], ids=["to its end", "epochs of 20"]
)
@pytest.mark.parametrize("workers", [0, 1])
def test_end_of_stream_is_known_on_request_and_end_of_counted_epoch_immediately(workers, options, before):
    with mpqueue.Loader(STREAM, seed=0, workers=workers, **options) as loader:
        batches, states = iter(loader), []
        for _ in range(options.get("epoch_batches", 36)):
            next(batches)
        for _ in range(2):
            states.append(loader.state_dict())
            assert next(batches, None) is None
    assert [(state["epoch"], state["position"]) for state in states] == [before, (1, 0)]
    with mpqueue.Loader(STREAM, workers=workers, **options) as loader:
        loader.load_state_dict(states[0])
        assert options or plain(loader) == [], "the rest of the epoch"
        assert plain(loader) == expected(2, **options)[1]


@pytest.mark.parametrize("options", [{}, {"epoch_batches": 20}])
def test_end_of_stream_is_known_with_its_last_device_batch(options):
    """JAX takes batches ahead, and so has requested the end."""
    pytest.importorskip("jax")
    from mpqueue.jax import device_iterator

    with mpqueue.Loader(STREAM, seed=0, workers=0, **options) as loader:
        batches = device_iterator(loader)
        for _ in range(options.get("epoch_batches", 36)):
            next(batches)
        assert (batches.state_dict()["epoch"], batches.state_dict()["position"]) == (1, 0)
