"""A `Loader` in `fit`, `evaluate` and `predict`: each epoch is one of the loader's, and peeking uses up no epoch."""

import pytest

pytest.importorskip("keras.utils")

import contextlib
import gc

import keras
import numpy as np
from helpers import fit_datasets
from helpers.faults import Numbers
from helpers.injected_exceptions import Struck, each_strike
from helpers.keras_fits import BACKEND, fit, make_model
from helpers.numbered_batches import iter_after
from keras.src.trainers.data_adapters import py_dataset_adapter as adapter

import mpqueue
from mpqueue import Loader
from mpqueue.frameworks.keras.ahead import takes_ahead
from mpqueue.frameworks.keras.loader_passes import LoaderEpochs
from mpqueue.keras import accelerate


def epochs_of(source, num_epochs, **options):
    """Return the marks of the batches in a loop over a loader of this source, for each epoch."""
    with Loader(source, **options) as loader:
        return [
            [tuple(int(number) for number in np.rint(x[0][:3] / fit_datasets.Marked.SCALE)) for x, _ in loader]
            for _ in range(num_epochs)
        ]


def flat(epochs):
    return [mark for epoch in epochs for mark in epoch]


def read_ahead_as_on(device, monkeypatch):
    """Make Keras read batches as on this device. Only with JAX does that depend on the device."""
    if device != "cpu":
        if BACKEND != "jax":
            pytest.skip("only JAX reads ahead")
        monkeypatch.setattr("jax.default_backend", lambda: device)


@pytest.mark.parametrize(
    ("kind", "options", "length", "device"),
    [
        ("plain", {"workers": 2}, 5, "cpu"),
        ("built", {"workers": 2}, 5, "cpu"),
        ("plain", {"workers": 0}, 5, "cpu"),
        ("built", {"workers": 1, "backend": "thread"}, 5, "cpu"),
        *((kind, {"workers": 1}, length, "cpu") for kind in ("plain", "built") for length in (1, 2)),
        *(("plain", {"workers": 1}, length, "gpu") for length in (1, 2, 3)),
    ],
    ids=str,
)
def test_epochs_of_a_fit_equal_a_loop_over_the_loader(delivered, monkeypatch, kind, options, length, device):
    """With an accelerator, Keras on JAX reads one batch more, or the end. A peek uses up no epoch."""
    read_ahead_as_on(device, monkeypatch)
    expected = epochs_of(fit_datasets.Marked(length), 3, shuffle=True, seed=3, **options)
    source = fit_datasets.Marked(length)
    with Loader(source, shuffle=True, seed=3, **options) as loader:
        fit(accelerate(loader), kind=kind)
        assert delivered.take()[-3 * length :] == flat(expected)
        assert (loader.epoch, source.state) == (3, 3)


@pytest.mark.parametrize("kind", ["plain", "built"])
def test_peek_is_detected_through_wrappers_of_the_adapter(delivered, monkeypatch, kind):
    """Examples are a profiler and a library that wraps the hooks."""
    stock = adapter.PyDatasetAdapter.on_epoch_end

    def wrapped(self):
        return stock(self)

    monkeypatch.setattr(adapter.PyDatasetAdapter, "on_epoch_end", wrapped)
    source = fit_datasets.Still(1)
    expected = epochs_of(fit_datasets.Still(1), 3, workers=1, shuffle=True, seed=1)
    with Loader(source, workers=1, shuffle=True, seed=1) as loader:
        fit(accelerate(loader), kind=kind)
        assert delivered.take()[-3:] == flat(expected)
        assert source.state == 3


@pytest.mark.skipif(takes_ahead(), reason="the batches that Keras takes ahead are among those delivered")
def test_partly_read_epoch_is_not_a_peek_after_another_reset(delivered):
    """`fit` resets the data before each validation, and keeps its iterator."""
    model = make_model("built")
    with (
        Loader(fit_datasets.Still(5), workers=1) as loader,
        Loader(fit_datasets.Still(6), workers=1, shuffle=True, seed=1) as held_out,
    ):
        options = {"validation_data": accelerate(held_out), "validation_steps": 2, "shuffle": False}
        model.fit(accelerate(loader), epochs=3, verbose=0, **options)
    marks = [mark[0] for mark in delivered.take()][-21:]
    epochs = epochs_of(fit_datasets.Still(6), 3, workers=1, shuffle=True, seed=1)
    assert [marks[number : number + 2] for number in (5, 12, 19)] == [[a[0], b[0]] for a, b, *_ in epochs]


def test_two_predictions_of_one_batch_are_two_epochs(delivered):
    expected = epochs_of(fit_datasets.Marked(1), 2, workers=1)
    model = make_model("built")
    with Loader(fit_datasets.Marked(1), workers=1) as loader:
        for _ in range(2):
            model.predict(accelerate(loader), verbose=0)
    assert delivered.take()[-2:] == flat(expected)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow keeps accelerated datasets forever")
def test_keras_with_another_way_to_reset_data_is_rejected(monkeypatch):
    from keras.src.trainers.epoch_iterator import EpochIterator

    stock = EpochIterator.reset
    with Loader(fit_datasets.Marked(1), workers=0) as loader:
        with monkeypatch.context() as patch:
            patch.setattr(EpochIterator, "reset", lambda _, hard: None)
            with pytest.raises(ImportError, match=r"does not support Keras .* has no reset\(\)"):
                accelerate(loader)
        accelerated = accelerate(loader)
        assert EpochIterator.reset is not stock
    del accelerated
    gc.collect()
    assert EpochIterator.reset is stock


def test_parts_of_an_epoch_continue_where_the_last_one_ended(delivered):
    expected = epochs_of(fit_datasets.Still(6), 2, workers=1, shuffle=True, seed=1)
    with Loader(fit_datasets.Still(6), workers=1, shuffle=True, seed=1) as loader:
        fit(accelerate(loader), steps_per_epoch=2, epochs=6)
    assert delivered.take()[-12:] == flat(expected)


def test_predict_with_a_model_that_was_never_built_uses_up_no_epoch():
    source = fit_datasets.Marked(2)
    with Loader(source, workers=1, seed=1, shuffle=True) as loader:
        assert make_model().predict(accelerate(loader), verbose=0).shape == (2 * fit_datasets.BATCH, 1)
        assert source.state == 1


@pytest.mark.filterwarnings("ignore:.*ran out of data")
@pytest.mark.parametrize("kind", ["plain", "built"])
@pytest.mark.parametrize(("workers", "in_callback"), [(0, True), (1, True), (1, False)])
def test_resumed_loader_continues_in_mid_epoch(delivered, workers, in_callback, kind):
    """A callback may restore the model when the training begins, after Keras has peeked at a batch."""
    expected = flat(epochs_of(fit_datasets.Still(6), 2, workers=workers, shuffle=True, seed=1))
    with Loader(fit_datasets.Still(6), workers=workers, shuffle=True, seed=1) as loader:
        _unfinished = iter_after(loader, 4)
        state = loader.state_dict()
    with Loader(fit_datasets.Still(6), workers=2 * workers, shuffle=True) as loader:
        resume = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: loader.load_state_dict(state))
        if not in_callback:
            loader.load_state_dict(state)
        fit(accelerate(loader), kind=kind, epochs=2, callbacks=[resume] if in_callback else [])
    assert delivered.take()[-8:] == expected[4:]


def pairs(length):
    """Return batches of a source without hooks: a state could not restore their effect."""
    return [(np.full((2, 4), number, "float32"), np.ones((2, 1), "float32")) for number in range(length)]


def steps_by(state, length):
    """Return the number of batches that a state counts."""
    return state["epoch"] * length + state["position"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize(("kind", "length"), [("plain", 1), ("built", 1), ("plain", 2), ("built", 6)])
@pytest.mark.skipif(BACKEND != "jax", reason="only JAX reads ahead")
def test_state_in_a_fit_counts_finished_steps_if_keras_reads_ahead(monkeypatch, device, kind, length):
    read_ahead_as_on(device, monkeypatch)
    with Loader(pairs(length), workers=1, shuffle=True, seed=1) as loader:
        counts = []

        def count(*_, **__):
            counts.append(steps_by(loader.state_dict(), length))

        callback = keras.callbacks.LambdaCallback(
            on_train_begin=count, on_train_batch_begin=count, on_train_batch_end=count, on_epoch_end=count
        )
        fit(accelerate(loader), kind=kind, callbacks=[callback])
        count()
    expected = [0]
    for step in range(3 * length):
        ends = [step + 1] * (2 if (step + 1) % length == 0 else 1)
        expected += [step, *ends]
    assert counts == [*expected, 3 * length]


@pytest.mark.parametrize("kind", ["plain", "built"])
@pytest.mark.parametrize("workers", [0, 1])
def test_last_in_a_fit_is_the_batch_of_the_latest_step(workers, kind):
    length, positions = 4, []
    with Loader(pairs(length), workers=workers, shuffle=True, seed=1) as loader:

        def note(*_, **__):
            info = loader.last
            positions.append(info and (info.epoch, info.batch, info.step))
            assert (-1 if info is None else info.step) == steps_by(loader.state_dict(), length) - 1

        callback = keras.callbacks.LambdaCallback(on_train_begin=note, on_train_batch_end=note)
        fit(accelerate(loader), kind=kind, callbacks=[callback])
    assert positions == [
        None,
        *((epoch, batch, epoch * length + batch) for epoch in range(3) for batch in range(length)),
    ]


@pytest.mark.parametrize("steps", [1, 2])
def test_state_of_a_stopped_fit_is_after_its_last_step(monkeypatch, steps):
    read_ahead_as_on("gpu", monkeypatch)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch + 1 == steps

    with Loader(pairs(6), workers=1) as loader:
        fit(accelerate(loader), callbacks=[Stop()])
        assert steps_by(loader.state_dict(), 6) == steps


def test_a_generator_is_fitted_by_steps(delivered):
    with Loader(fit_datasets.elements, workers=2) as loader:
        dataset = accelerate(loader)
        assert dataset.num_batches is None
        fit(dataset, steps_per_epoch=3, epochs=2, shuffle=False)
    assert [mark[0] for mark in delivered.take()[-6:]] == [0, 1, 2, 3, 4, 5]


def test_fit_raises_the_error_of_an_item():
    with (
        Loader(fit_datasets.Raising(), workers=1) as loader,
        pytest.raises(Exception, match="item 3 is damaged") as caught,
    ):
        fit(accelerate(loader))
    assert caught.type is LookupError or BACKEND == "tensorflow"


@pytest.mark.parametrize("kind", ["plain", "built"])
@pytest.mark.skipif(BACKEND == "tensorflow", reason="there, the missing batch is an IndexError")
def test_fit_of_a_stream_without_batches_names_the_loader(kind):
    with Loader(lambda: iter(()), workers=0) as loader, pytest.warns(UserWarning, match="it returned no elements"):
        with pytest.raises(ValueError, match=r"epoch of <Loader .* none"):
            fit(accelerate(loader), kind=kind, shuffle=False)


@pytest.mark.filterwarnings("ignore:.*ran out of data")
def test_epochs_of_a_stream_after_a_resumed_one_are_whole():
    """Keras would end them after as many batches as the resumed one had left."""
    (pair,) = pairs(1)
    stream = mpqueue.Dataset.range(12).filter(bool).map(lambda _: pair)
    steps = []
    with Loader(stream, workers=0) as loader:
        _unfinished = iter_after(loader, 8)
        loader.load_state_dict(loader.state_dict())
        record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
        fit(accelerate(loader), shuffle=False, callbacks=[record])
        assert loader.epoch == 3
    assert steps == [*range(3), *range(11), *range(11)]


def test_workers_remain_after_a_fit_and_statistics_equal_the_loaders(delivered):
    with Loader(fit_datasets.FromProcesses(), workers=1) as loader:
        dataset = accelerate(loader)
        fit(dataset)
        fit(dataset)
        assert len({mark[2] for mark in delivered.take()}) == 1
        assert repr(adapter.PyDatasetAdapter(dataset).enqueuer) == f"<LoaderEnqueuer of {loader!r}, stopped>"
        assert dataset.statistics().batches == loader.statistics().batches >= 30
    assert dataset.source is loader


def test_dataset_of_batches_is_accepted_and_a_stream_is_rejected():
    batches = mpqueue.Dataset.range(12).map(lambda x: (np.float32([x]), np.float32([2 * x]))).batch(4)
    accelerated = accelerate(batches, workers=1)
    assert len(accelerated) == 3
    assert accelerated[1][0].ravel().tolist() == [4, 5, 6, 7]
    with pytest.raises(TypeError, match="stage 3, filter"):
        accelerate(batches.filter(bool))


@pytest.mark.parametrize(
    "options", [{"workers": 2}, {"use_multiprocessing": False}, {"max_queue_size": 3}, {"seed": 1}, {"copy": True}]
)
def test_options_together_with_a_loader_are_rejected(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"a Loader has its own options: pass {name} to the Loader"):
        accelerate(Loader(fit_datasets.Marked()), **options)


# -- Peeking


@pytest.mark.parametrize("num_taken", range(8))
def test_epoch_cannot_be_taken_back_after_its_fifth_batch(num_taken):
    expected = epochs_of(fit_datasets.Still(6), 2, workers=1, shuffle=True, seed=1)
    with Loader(fit_datasets.Still(6), workers=1, shuffle=True, seed=1) as loader:
        epochs = LoaderEpochs(loader)
        trial = epochs.begin(on_trial=True)
        assert len([*zip(range(num_taken), trial, strict=False)]) == min(num_taken, 6)
        epochs.take_back(trial)
        marks = [int(np.rint(x[0, 0] / fit_datasets.Marked.SCALE)) for x, _ in epochs.begin()]
        assert marks == [mark[0] for mark in expected[0 if num_taken <= 4 else 1]]
        if num_taken == 5:  # too long for a peek, and the next epoch has read its last batch
            with pytest.raises(RuntimeError, match="invalidated by a later iterator"):
                list(trial)
        else:
            assert list(trial) == []


def test_peeked_batches_are_private_copies():
    with Loader(fit_datasets.Marked(6), workers=1) as loader:
        epochs = LoaderEpochs(loader)
        epochs.peek(1)[0][:] = -1
        trial = epochs.begin(on_trial=True)
        next(trial)[0][:] = -1
        epochs.take_back(trial)
        assert [int(np.rint(x[0, 0] / fit_datasets.Marked.SCALE)) for x, _ in epochs.begin()] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("index", "text"), [(3, "batch 3 does not exist: the epoch has 3"), (4, "only the first 4"), (-1, "batch -1")]
)
def test_peek_at_a_missing_batch_raises_index_error(index, text):
    with Loader(fit_datasets.Marked(3), workers=1) as loader, pytest.raises(IndexError, match=text):
        accelerate(loader)[index]


# -- The arguments that a `Sequence` specifies


class Own(mpqueue.Sequence):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return fit_datasets.Marked(2)[index]


@pytest.mark.parametrize(
    ("own", "arguments", "found"),
    [
        ({}, {}, (mpqueue.loader.loader.num_cpus(), True, 10)),
        ({"workers": 3, "use_multiprocessing": False, "max_queue_size": 4}, {}, (3, False, 4)),
        ({"workers": 3, "use_multiprocessing": False}, {"workers": 2, "use_multiprocessing": True}, (2, True, 10)),
    ],
)
def test_arguments_of_a_sequence_are_defaults(own, arguments, found):
    fast = accelerate(Own(**own), **arguments)
    assert (fast.workers, fast.use_multiprocessing, fast.max_queue_size) == found


def test_sequence_may_also_be_a_py_dataset():
    # Without `Own`: the workers would import this module and Keras.
    class Both(mpqueue.Sequence, keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return fit_datasets.Marked(2)[index]

    both = Both(workers=2, use_multiprocessing=True)
    assert (both.workers, both.use_multiprocessing, both.max_queue_size) == (2, True, 10)
    assert len(fit(accelerate(both), epochs=1)[1]["loss"]) == 1


@pytest.mark.parametrize("on_trial", [True, False])
def test_epoch_for_keras_returns_each_batch_once_after_signals(on_trial):
    for after, strike in each_strike(5):
        with Loader(Numbers(6), workers=0) as loader:
            epochs = LoaderEpochs(loader)
            assert int(epochs.peek(0)[0]) == 0
            epoch, found = epochs.begin(on_trial=on_trial), []
            with strike:
                while len(found) < 6:
                    with contextlib.suppress(Struck):
                        found.append(epoch.__next__())
            assert [int(batch[0]) for batch in found] == [0, 1, 2, 3, 4, 5], after
            assert epoch.num_taken == 6


def rest_of(loader):
    """Return the batches of a new loader that resumes from the state of this loader."""
    with Loader(Numbers(4), workers=0) as other:
        other.load_state_dict(loader.state_dict())
        return [int(batch[0]) for batch in other]


@pytest.mark.parametrize("workers", [0, 1])
def test_state_and_last_do_not_count_peeked_batches(workers):
    with Loader(Numbers(4), workers=workers) as loader:
        epochs = LoaderEpochs(loader)
        epochs.peek(1)
        assert rest_of(loader) == [0, 1, 2, 3]
        assert loader.last is None
        trial = epochs.begin(on_trial=True)
        next(trial)
        assert rest_of(loader) == [1, 2, 3]
        assert loader.last.samples == (0,)
        epochs.take_back(trial)
        assert rest_of(loader) == [0, 1, 2, 3]
        assert loader.last is None
        epoch = epochs.begin()
        for number in range(1, 4):
            next(epoch)
            assert rest_of(loader) == [0, 1, 2, 3][number:]
            assert loader.last.samples == (number - 1,)
        epochs.peek(0)
        state = loader.state_dict()
        assert (state["epoch"], state["position"]) == (1, 0)
        next(iter(loader))  # a separate loop: peeked batches are dropped
        assert rest_of(loader) == [1, 2, 3]


@pytest.mark.parametrize("on_trial", [True, False])
@pytest.mark.parametrize("num_peeked", [0, 2])
def test_state_and_last_do_not_count_a_batch_held_ahead_of_use(on_trial, num_peeked):
    with Loader(Numbers(4), workers=0) as loader:
        epochs = LoaderEpochs(loader, takes_ahead=lambda: True)
        for number in range(num_peeked):
            epochs.peek(number)
        epoch = epochs.begin(on_trial=on_trial)
        for number in range(4):
            next(epoch)
            assert rest_of(loader) == [0, 1, 2, 3][number:]
            assert (() if loader.last is None else loader.last.samples) == ((number - 1,) if number else ())
        assert list(epoch) == []
        assert loader.last.samples == (3,)
        state = loader.state_dict()
        assert (state["epoch"], state["position"]) in {(0, 4), (1, 0)}
        next(epochs.begin())
        assert rest_of(loader) == [0, 1, 2, 3]


@pytest.mark.parametrize("on_trial", [True, False])
def test_epoch_and_state_are_correct_after_a_signal_at_any_moment(on_trial):
    """As after Ctrl-C in a fit: an epoch without a returned batch begins again, and a started one is abandoned."""
    for after, strike in each_strike(5):
        with Loader(Numbers(4), workers=0) as loader:
            epochs, found = LoaderEpochs(loader), []
            with contextlib.suppress(Struck), strike:
                epochs.peek(0)
                epoch = epochs.begin(on_trial=on_trial)
                while len(found) < 3:
                    found.append(int(epoch.__next__()[0]))
            assert found == [0, 1, 2][: len(found)], after
            assert rest_of(loader) == [0, 1, 2, 3][len(found) :], after
            epoch = epochs.begin()
            assert [int(batch[0]) for batch in epoch] == [0, 1, 2, 3], after
            assert loader.epoch == (2 if found else 1), after


def test_loader_of_steps_is_refused():
    with Loader(range(8), batch_size=4, workers=0, balance=mpqueue.Balance(np.ones(8), max_cost=2)) as loader:
        words = r"a batch is a list of micro-batches, .* use Balance\(cost, accumulate=n\)"
        with pytest.raises(ValueError, match=words):
            accelerate(loader)
        with pytest.raises(ValueError, match="a batch is a list of micro-batches"):
            LoaderEpochs(loader)  # also of `mpqueue.tf.dataset`
