"""Hooks, items and batches of a fit: their number and order, compared with a fit without workers."""

import pytest

pytest.importorskip("keras.utils")

import gc

import keras
from helpers import fit_datasets
from helpers.keras_fits import BACKEND, as_py_dataset, fit

import mpqueue.keras
from mpqueue.frameworks.keras.ahead import takes_ahead
from mpqueue.keras import accelerate

# A model that is not built is built from a first batch, which Keras reads in another way on each backend.
KINDS = pytest.mark.parametrize("kind", ["plain", pytest.param("built", marks=pytest.mark.any_backend)])


def notes_of(tmp_path, way, *, length=5, **options):
    """Return the notes of the dataset in a fit: its hooks and items, from all processes."""
    path = tmp_path / f"notes-{len(list(tmp_path.iterdir()))}"
    path.touch()
    fit(way(fit_datasets.Still(length, str(path))), **options)
    return path.read_text().splitlines()


@pytest.mark.skipif(takes_ahead(), reason="Keras stops its workers while they compute batches ahead")
@KINDS
def test_hooks_and_items_run_equally_often_and_in_the_same_order(tmp_path, kind):
    expected = notes_of(tmp_path, as_py_dataset, kind=kind)
    assert notes_of(tmp_path, lambda dataset: accelerate(dataset, 1), kind=kind) == expected
    begins, ends = expected.count("begin"), expected.count("end")
    assert (begins, ends) in [(3, 4), (4, 4)]  # Keras may read a batch before the first epoch


@pytest.mark.any_backend
def test_hooks_run_alone_with_two_workers(tmp_path):
    """The items of an epoch are computed between its begin and end hooks."""
    notes = notes_of(tmp_path, lambda dataset: accelerate(dataset, 2), kind="built")
    text = " ".join(notes).split("begin")
    for one in text[-3:]:
        *items, end = one.replace("item ", "item").split()
        assert (sorted(items), end) == ([f"item{index}" for index in range(5)], "end")


@pytest.mark.any_backend
def test_hooks_of_parts_of_a_pass_run_equally_often(tmp_path):
    def hooks(way):
        notes = notes_of(tmp_path, way, length=6, steps_per_epoch=2, epochs=4)
        return [note for note in notes if not note.startswith("item")]

    assert hooks(lambda dataset: accelerate(dataset, 2)) == hooks(as_py_dataset)


@pytest.mark.parametrize(
    "processes", [True, pytest.param(False, marks=pytest.mark.any_backend)], ids=["processes", "threads"]
)
@KINDS
def test_epoch_has_no_batches_computed_before_the_hook_of_the_last_epoch(delivered, processes, kind):
    """Keras's own enqueuer returns batches in the first epoch that it read ahead while the model was built."""
    fit(as_py_dataset(fit_datasets.Marked()), kind=kind)
    expected = delivered.take()
    fit(accelerate(fit_datasets.Marked(), 2, use_multiprocessing=processes), kind=kind)
    found = delivered.take()
    assert found == expected
    states = [state for _, state, _ in found]
    assert [states.count(state) for state in sorted(set(states))[-3:]] == [5, 5, 5]


@pytest.mark.skipif(BACKEND == "tensorflow", reason="without workers TensorFlow reads ahead over the end of an epoch")
@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_parts_of_a_pass_see_the_dataset_as_the_hooks_left_it(delivered, processes):
    fit(as_py_dataset(fit_datasets.Marked(6)), steps_per_epoch=2, epochs=4)
    expected = delivered.take()
    fit(accelerate(fit_datasets.Marked(6), 2, use_multiprocessing=processes), steps_per_epoch=2, epochs=4)
    assert delivered.take() == expected


@pytest.mark.any_backend
def test_a_change_made_by_a_callback_reaches_the_workers(delivered):
    def advance(epoch, logs):
        dataset.state = 100 * (epoch + 1)

    class Unhooked(fit_datasets.Marked):
        def on_epoch_end(self):
            pass

    dataset = Unhooked(3)
    advancing = keras.callbacks.LambdaCallback(on_epoch_end=advance)
    fit(accelerate(dataset, 2), callbacks=[advancing], kind="built", shuffle=False)
    assert [mark[:2] for mark in delivered.take()[-6:]] == [(i, state) for state in (100, 200) for i in range(3)]


@pytest.mark.any_backend
def test_a_change_made_by_on_epoch_begin_reaches_all_items_of_the_epoch(delivered):
    class Beginning(fit_datasets.Marked):
        def on_epoch_begin(self):
            self.state += 10

    fit(as_py_dataset(Beginning(3)), shuffle=False)
    expected = delivered.take()
    fit(accelerate(Beginning(3), 2), shuffle=False)
    assert delivered.take() == expected


class Stopping(keras.callbacks.Callback):
    """Stops the training in the second epoch, after a batch."""

    def __init__(self, batch):
        super().__init__()
        self.batch, self.epoch = batch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, self.batch):
            self.model.stop_training = True


@pytest.mark.parametrize("batch", [1, 4], ids=["middle", "end"])
def test_early_stop_equals_a_fit_without_workers(tmp_path, delivered, batch):
    plain = as_py_dataset(fit_datasets.Marked())
    expected = fit(plain, callbacks=[Stopping(batch)], shuffle=False)
    batches = delivered.take()
    dataset = fit_datasets.Marked()
    found = fit(accelerate(dataset, 2), callbacks=[Stopping(batch)], shuffle=False)
    assert len(found[1]["loss"]) == 2
    assert found[1] == expected[1]
    assert dataset.state == plain.state
    if BACKEND != "tensorflow":  # TensorFlow reads ahead of the model
        assert delivered.take() == batches


@pytest.mark.any_backend
def test_adapter_used_directly_runs_in_workers_of_mpqueue():
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    with mpqueue.keras.install():
        adapter = PyDatasetAdapter(as_py_dataset(fit_datasets.Marked(3), 2, True), shuffle=False)
    for state in range(2):
        adapter.on_epoch_begin()
        batches = list(adapter.get_numpy_iterator())
        adapter.on_epoch_end()
        assert [round(float(batch[0][0, 1] / fit_datasets.Marked.SCALE)) for batch in batches] == [state] * 3
    del adapter
    gc.collect()
