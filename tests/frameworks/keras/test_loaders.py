"""A `Loader` in `fit`, `evaluate` and `predict`: its epochs are theirs, in its own order, none used up by a look."""

import pytest

pytest.importorskip("keras.utils")

import contextlib
import gc
import itertools

import keras
import numpy as np
from helpers import marked
from helpers.faults import Numbers
from helpers.fitting import BACKEND, as_py_dataset, assert_same, fit, make_model
from helpers.strikes import Strike, Struck

import mpqueue
import mpqueue.frameworks.keras.resets as keras_resets
from mpqueue import Loader
from mpqueue.frameworks.keras.loader_passes import LoaderEpochs
from mpqueue.keras import accelerate
from mpqueue.system.replacement import Replacement


def epochs_of(source, num_epochs, **options):
    """The marks of the batches that a loop over a loader of this source gives, for each epoch."""
    with Loader(source, **options) as loader:
        return [
            [tuple(int(number) for number in np.rint(x[0][:3] / marked.Marked.SCALE)) for x, _ in loader]
            for _ in range(num_epochs)
        ]


def flat(epochs):
    return [mark for epoch in epochs for mark in epoch]


@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 1, "backend": "thread"}, {"workers": 0}], ids=str)
@pytest.mark.parametrize("kind", ["plain", "built"])
def test_the_epochs_of_a_fit_are_those_of_a_loop_over_the_loader(delivered, kind, options):
    expected = epochs_of(marked.Marked(), 3, shuffle=True, seed=3, **options)
    source = marked.Marked()
    with Loader(source, shuffle=True, seed=3, **options) as loader:
        fit(accelerate(loader), kind=kind)
        assert delivered.take()[-15:] == flat(expected)
        assert (loader.epoch, source.state) == (3, 3)


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("kind", ["plain", "built"])
def test_a_look_uses_up_no_epoch_however_short(delivered, kind, length):
    expected = epochs_of(marked.Marked(length), 3, workers=1, shuffle=True, seed=1)
    source = marked.Marked(length)
    with Loader(source, workers=1, shuffle=True, seed=1) as loader:
        fit(accelerate(loader), kind=kind)
        assert delivered.take()[-3 * length :] == flat(expected)
        assert source.state == 3


def test_two_predictions_of_one_batch_are_two_epochs(delivered):
    expected = epochs_of(marked.Marked(1), 2, workers=1)
    model = make_model("built")
    with Loader(marked.Marked(1), workers=1) as loader:
        for _ in range(2):
            model.predict(accelerate(loader), verbose=0)
    assert delivered.take()[-2:] == flat(expected)


def test_a_keras_that_resets_its_data_in_another_way_is_refused(monkeypatch):
    from keras.src.trainers.epoch_iterator import EpochIterator

    stock = EpochIterator.reset
    fresh = Replacement("", lambda: EpochIterator, "reset", keras_resets._reset, keras_resets._check_fit)
    monkeypatch.setattr(keras_resets, "_replacement", fresh)
    monkeypatch.setattr(EpochIterator, "reset", lambda _, hard: None)
    with Loader(marked.Marked(1), workers=1) as loader:
        with pytest.raises(ImportError, match=r"does not fit Keras .* has no reset\(\)"):
            accelerate(loader)
        monkeypatch.setattr(EpochIterator, "reset", stock)
        accelerated = accelerate(loader)
        assert EpochIterator.reset is keras_resets._reset
    del accelerated
    gc.collect()
    if BACKEND != "tensorflow":  # which keeps accelerated datasets for good
        assert EpochIterator.reset is stock


def test_the_weights_are_those_of_a_fit_without_workers():
    expected = fit(as_py_dataset(marked.Still()), shuffle=False)
    with Loader(marked.Still(), workers=2) as loader:
        assert_same(fit(accelerate(loader), shuffle=False), expected)


def test_parts_of_an_epoch_go_on_where_the_last_one_ended(delivered):
    expected = epochs_of(marked.Still(6), 2, workers=1, shuffle=True, seed=1)
    with Loader(marked.Still(6), workers=1, shuffle=True, seed=1) as loader:
        fit(accelerate(loader), steps_per_epoch=2, epochs=6)
    assert delivered.take()[-12:] == flat(expected)


def test_evaluate_and_predict_take_one_epoch_each():
    model, source = make_model("built"), marked.Still()
    plain = as_py_dataset(marked.Still())
    with Loader(source, workers=2) as loader:
        fast = accelerate(loader)
        assert model.evaluate(fast, verbose=0) == model.evaluate(plain, verbose=0)
        np.testing.assert_array_equal(model.predict(fast, verbose=0), model.predict(plain, verbose=0))
        assert source.state == 2


@pytest.mark.filterwarnings("ignore:.*ran out of data")
def test_a_loader_that_was_resumed_goes_on_in_mid_epoch(delivered):
    expected = flat(epochs_of(marked.Still(6), 2, workers=1, shuffle=True, seed=1))
    with Loader(marked.Still(6), workers=1, shuffle=True, seed=1) as loader:
        batches = iter(loader)
        for _ in range(4):
            next(batches)
        state = loader.state_dict()
    with Loader(marked.Still(6), workers=2, shuffle=True) as loader:
        loader.load_state_dict(state)
        fit(accelerate(loader), epochs=2)
    assert delivered.take()[-8:] == expected[4:]


@pytest.mark.filterwarnings("ignore:.*ran out of data")
@pytest.mark.parametrize("kind", ["plain", "built"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_callback_resumes_a_loader_when_the_training_begins(delivered, workers, kind):
    """As one that restores the model does then: Keras has looked at a batch by that time."""
    expected = flat(epochs_of(marked.Still(6), 2, workers=workers, shuffle=True, seed=1))
    with Loader(marked.Still(6), workers=workers, shuffle=True, seed=1) as loader:
        batches = iter(loader)
        for _ in range(4):
            next(batches)
        state = loader.state_dict()

    with Loader(marked.Still(6), workers=workers, shuffle=True) as loader:
        resume = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: loader.load_state_dict(state))
        fit(accelerate(loader), kind=kind, epochs=2, callbacks=[resume])
    assert delivered.take()[-8:] == expected[4:]


def pairs(length):
    """Batches, without a hook whose effect a state could not bring back."""
    return [(np.full((2, 4), number, "float32"), np.ones((2, 1), "float32")) for number in range(length)]


def steps_by(state, length):
    """How many batches a state counts."""
    return state["epoch"] * length + state["position"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("kind", ["plain", "built"])
@pytest.mark.parametrize("length", [1, 2, 6])
@pytest.mark.skipif(BACKEND != "jax", reason="the others do not read ahead")
def test_a_state_in_a_fit_counts_the_batches_of_steps_also_where_keras_is_ahead(monkeypatch, device, kind, length):
    import jax

    monkeypatch.setattr(jax, "default_backend", lambda: device)
    with Loader(pairs(length), workers=1, shuffle=True, seed=1) as loader:
        counts = []

        def count(*_, **__):
            counts.append(steps_by(loader.state_dict(), length))

        told = keras.callbacks.LambdaCallback(
            on_train_begin=count, on_train_batch_begin=count, on_train_batch_end=count, on_epoch_end=count
        )
        fit(accelerate(loader), kind=kind, callbacks=[told])
        count()
    expected = [0]
    for step in range(3 * length):
        ends = [step + 1] * (2 if (step + 1) % length == 0 else 1)
        expected += [step, *ends]
    assert counts == [*expected, 3 * length]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.skipif(BACKEND != "jax", reason="the others do not read ahead")
def test_a_fit_that_a_callback_stops_leaves_a_state_behind_its_last_step(monkeypatch, steps):
    import jax

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch + 1 == steps

    with Loader(pairs(6), workers=1) as loader:
        fit(accelerate(loader), callbacks=[Stop()])
        assert steps_by(loader.state_dict(), 6) == steps


def test_a_generator_is_fitted_by_steps(delivered):
    with Loader(marked.elements, workers=2) as loader:
        dataset = accelerate(loader)
        assert dataset.num_batches is None
        fit(dataset, steps_per_epoch=3, epochs=2, shuffle=False)
    assert [mark[0] for mark in delivered.take()[-6:]] == [0, 1, 2, 3, 4, 5]


def test_what_an_item_raises_the_fit_raises():
    with Loader(marked.Raising(), workers=1) as loader, pytest.raises(Exception, match="item 3 has gone bad") as caught:
        fit(accelerate(loader))
    assert caught.type is LookupError or BACKEND == "tensorflow"


def test_the_workers_live_on_after_a_fit_and_statistics_are_the_loaders(delivered):
    with Loader(marked.FromProcesses(), workers=1) as loader:
        dataset = accelerate(loader)
        fit(dataset)
        fit(dataset)
        assert len({mark[2] for mark in delivered.take()}) == 1
        assert dataset.statistics().batches == loader.statistics().batches >= 30
    assert dataset.source is loader
    assert repr(dataset) == "<Loader, accelerated by mpqueue>"


@pytest.mark.parametrize(
    "options", [{"workers": 2}, {"use_multiprocessing": False}, {"max_queue_size": 3}, {"seed": 1}, {"copy": True}]
)
def test_options_beside_a_loader_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"a Loader has options of its own: pass {name} to the Loader"):
        accelerate(Loader(marked.Marked()), **options)


# -- The looks themselves


# -- What a `Sequence` says of itself


def test_a_sequence_may_be_a_py_dataset_too():
    class Both(mpqueue.Sequence, keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return marked.Marked(2)[index]

    both = Both(workers=2, use_multiprocessing=True)
    assert (both.workers, both.use_multiprocessing, both.max_queue_size) == (2, True, 10)
    assert len(fit(accelerate(both), epochs=1)[1]["loss"]) == 1


@pytest.mark.parametrize("on_trial", [True, False])
def test_wherever_a_signal_strikes_an_epoch_for_keras_gives_each_batch_once(on_trial):
    for after in itertools.count(1, 2):
        with Loader(Numbers(6), workers=0) as loader:
            epochs = LoaderEpochs(loader)
            assert int(epochs.peek(0)[0]) == 0
            epoch, found = epochs.begin(on_trial=on_trial), []
            with Strike(after) as strike:
                while len(found) < 6:
                    with contextlib.suppress(Struck):
                        found.append(epoch.__next__())
            assert [int(batch[0]) for batch in found] == [0, 1, 2, 3, 4, 5], after
            assert epoch.num_taken == 6
        if strike.left > 0:
            break
    assert after > 50


def rest_of(loader):
    """The batches that a loader gives which goes on from the state of this one."""
    with Loader(Numbers(4), workers=0) as other:
        other.load_state_dict(loader.state_dict())
        return [int(batch[0]) for batch in other]


@pytest.mark.parametrize("on_trial", [True, False])
def test_wherever_a_signal_ends_an_epoch_the_next_one_and_a_state_are_right(on_trial):
    """As Ctrl-C ends a fit: an epoch of which nothing has come begins again, any other is left."""
    for after in itertools.count(1, 2):
        with Loader(Numbers(4), workers=0) as loader:
            epochs, found = LoaderEpochs(loader), []
            with contextlib.suppress(Struck), Strike(after) as strike:
                epochs.peek(0)
                epoch = epochs.begin(on_trial=on_trial)
                while len(found) < 3:
                    found.append(int(epoch.__next__()[0]))
            assert found == [0, 1, 2][: len(found)], after
            assert rest_of(loader) == [0, 1, 2, 3][len(found) :], after
            epoch = epochs.begin()
            assert [int(batch[0]) for batch in epoch] == [0, 1, 2, 3], after
            assert loader.epoch == (2 if found else 1), after
        if strike.left > 0:
            break
    assert after > 50
