"""The workers of a fit: their lifetime, crashes, random numbers and errors."""

import pytest

pytest.importorskip("keras.utils")

import gc
import os
import threading

import keras
import numpy as np
import psutil
from helpers import fit_datasets
from helpers.coroutines import end_out_of_order
from helpers.keras_fits import BACKEND, as_py_dataset, assert_same, fit, make_model

import mpqueue.keras
from mpqueue.errors import WorkerDied
from mpqueue.keras import accelerate


def pids(marks):
    """Return the ids of the worker processes that computed batches. TensorFlow also computes some in the trainer."""
    return {mark[2] for mark in marks} - {os.getpid()}


def test_workers_are_kept_across_epochs_and_validations(delivered):
    class WorkersByPass(keras.callbacks.Callback):
        """Records the worker processes of the training and of the validation."""

        def __init__(self):
            super().__init__()
            self.training, self.validation = set(), set()

        def on_test_begin(self, logs=None):
            self.training |= pids(delivered.take())

        def on_test_end(self, logs=None):
            self.validation |= pids(delivered.take())

    seen = WorkersByPass()
    training, validation = accelerate(fit_datasets.FromProcesses(8), 2), accelerate(fit_datasets.FromProcesses(3), 1)
    fit(training, validation_data=validation, callbacks=[seen])
    assert len(seen.training) in (1, 2)
    assert len(seen.validation) == 1
    assert not seen.training & seen.validation


def test_killed_worker_loses_no_batch_and_causes_no_hang(tmp_path):
    expected = fit(as_py_dataset(fit_datasets.Marked()))
    assert_same(fit(accelerate(fit_datasets.Killing(str(tmp_path)), 2)), expected)
    assert not psutil.pid_exists(int((tmp_path / "killed").read_text()))


def raised_by_fit(dataset, **options):
    """Return the type and text of the error of a fit. TensorFlow raises its own type, with the same text."""
    with pytest.raises(Exception) as caught:
        fit(dataset, **options)
    error = caught.value
    return type(error), "\n".join([str(error), *getattr(error, "__notes__", [])])


def test_item_that_crashes_every_worker_ends_the_fit_with_an_error():
    kind, text = raised_by_fit(accelerate(fit_datasets.Deadly(), 2, restarts=1))
    assert kind is WorkerDied or BACKEND == "tensorflow"
    assert "index 3" in text
    assert "It was tried 2 times" in text


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_fit_raises_the_error_of_an_item(processes):
    expected_kind, _ = raised_by_fit(as_py_dataset(fit_datasets.Raising()))
    kind, text = raised_by_fit(accelerate(fit_datasets.Raising(), 2, use_multiprocessing=processes))
    assert kind is expected_kind
    assert "item 3 is damaged" in text
    if BACKEND != "tensorflow":
        assert kind is LookupError
        assert "in worker" in text


def draws(delivered, program_seed=1, **options):
    """Return the numbers of each batch of 3 epochs of a fit, from `random`, NumPy and `mpqueue.rng`."""
    delivered.batches.clear()
    fit(accelerate(fit_datasets.Drawing(), 2, **options), kind="built", seed=program_seed)
    return [tuple(batch[1:].tolist()) for batch in delivered.batches][-15:]


def test_batches_draw_different_numbers_that_the_seed_of_keras_reproduces(delivered):
    first = draws(delivered)
    for numbers in zip(*first, strict=True):
        assert len(set(numbers)) == 15
    assert draws(delivered) == first
    assert not set(draws(delivered, program_seed=2)) & set(first)


def test_option_seed_makes_draws_independent_of_the_program(delivered):
    first = draws(delivered, seed=3)  # another program has another order
    assert sorted(draws(delivered, program_seed=2, seed=3)) == sorted(first)
    assert not set(draws(delivered, seed=4)) & set(first)


class Locked(fit_datasets.FromProcesses):
    """A dataset that cannot be pickled."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def test_a_dataset_that_cannot_be_pickled_is_inherited_by_fork_with_a_warning(delivered):
    with pytest.warns(RuntimeWarning, match=r"source\.lock cannot be pickled.*forked from this process"):
        fit(accelerate(Locked(), 2), epochs=2, kind="built", shuffle=False)
    marks = delivered.take()[-10:]
    assert [mark[0] for mark in marks] == [0, 1, 2, 3, 4] * 2
    assert pids(marks)


def test_unpicklable_dataset_is_rejected_with_an_explicit_start_method():
    with pytest.raises(Exception, match=r"source\.lock cannot be pickled"):
        fit(accelerate(Locked(), 2, start_method="spawn"), kind="built")


def living_workers():
    return [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]


def test_shutdown_leaves_no_process_of_a_finished_fit():
    before = {child.pid for child in living_workers()}
    fit(accelerate(fit_datasets.Marked(), 2), validation_data=accelerate(fit_datasets.Marked(), 1))
    mpqueue.shutdown()
    left = {child.pid: child.cmdline() for child in living_workers() if child.pid not in before}
    assert [command for command in left.values() if "resource_tracker" not in " ".join(command)] == []


def test_shutdown_in_the_middle_of_a_fit_loses_no_batch():
    shutting_down = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: mpqueue.shutdown())
    expected = fit(as_py_dataset(fit_datasets.Marked()))
    assert_same(fit(accelerate(fit_datasets.Marked(), 2), callbacks=[shutting_down]), expected)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow keeps the datasets that it has iterated over")
def test_workers_exit_after_the_fit(delivered):
    fit(accelerate(fit_datasets.FromProcesses(), 2), kind="built")
    workers = pids(delivered.take())
    gc.collect()
    assert workers
    assert not any(psutil.pid_exists(pid) for pid in workers)


def test_statistics_are_kept_after_the_fit():
    dataset = accelerate(fit_datasets.Marked(), 2)
    assert dataset.statistics().batches == 0
    fit(dataset)
    gc.collect()
    statistics = dataset.statistics()
    assert statistics.batches >= 15
    assert len(statistics.workers) == 2
    assert statistics.elapsed_s == dataset.statistics().elapsed_s > 0 or BACKEND == "tensorflow"


def test_batches_are_kept_while_a_model_needs_them():
    """Views of shared memory reach the model; its predictions from them do not change."""
    model = make_model("built")
    found = model.predict(accelerate(fit_datasets.Still(40), 2, max_queue_size=2), verbose=0)
    np.testing.assert_array_equal(found, model.predict(as_py_dataset(fit_datasets.Still(40)), verbose=0))


@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 2, "use_multiprocessing": False}, {"workers": 0}])
def test_fit_awaits_the_batches_of_coroutines(options):
    class Awaited(fit_datasets.Marked):
        async def __getitem__(self, index):
            await end_out_of_order(index)
            return super().__getitem__(index)

    awaited = accelerate(Awaited(), **options)
    assert awaited[3][1].tolist() == fit_datasets.Marked()[3][1].tolist()
    assert_same(fit(awaited), fit(as_py_dataset(fit_datasets.Marked())))
