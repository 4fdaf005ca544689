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


def behind_the_last_batch(batches, state_dict, count):
    """Take all batches; return the (epoch, position) before and after the end is requested."""

    def place():
        state = state_dict()
        return state["epoch"], state["position"]

    for _ in range(count):
        next(batches)
    before = place()
    assert next(batches, None) is None
    return before, place()


@pytest.mark.parametrize(
    ("options", "before"), [({}, (0, 36)), ({"epoch_batches": 20}, (1, 0))], ids=["to its end", "epochs of 20"]
)
@pytest.mark.parametrize("backend", ["process", "thread", "no workers", "jax"])
def test_end_of_stream_is_known_on_request_and_end_of_counted_epoch_immediately(backend, options, before):
    count = options.get("epoch_batches", 36)
    if backend == "jax":  # JAX takes batches ahead, and so has requested the end
        before = (1, 0)
    of_loader = {"process": {"workers": 1}, "thread": {"workers": 1, "backend": "thread"}}.get(backend, {"workers": 0})
    with mpqueue.Loader(STREAM, seed=0, **of_loader, **options) as loader:
        batches = iter(loader)
        if backend == "jax":
            pytest.importorskip("jax")
            from mpqueue.jax import device_iterator

            batches = device_iterator(loader)
        found = behind_the_last_batch(batches, getattr(batches, "state_dict", loader.state_dict), count)
    assert found == (before, (1, 0))


def test_state_after_the_last_batch_of_a_stream_has_no_rest():
    first, second = expected(2)
    with mpqueue.Loader(STREAM, workers=1, seed=0) as loader:
        batches = iter(loader)
        assert plain(next(batches) for _ in range(len(first))) == first
        state = loader.state_dict()
    with mpqueue.Loader(STREAM, workers=1) as loader:
        loader.load_state_dict(state)
        assert [plain(loader), plain(loader)] == [[], second]
