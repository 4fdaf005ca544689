"""`model.fit` with mpqueue's workers equals `model.fit` without workers, bit for bit."""

import pytest

pytest.importorskip("keras.utils")

import functools

import keras
import numpy as np
from helpers import fit_datasets
from helpers.keras_fits import BACKEND, as_py_dataset, assert_same, fit, make_model

import mpqueue.keras
from mpqueue.keras import accelerate

CASES = {
    "plain": (fit_datasets.Marked, {}),
    "built": (fit_datasets.Marked, {}),
    "many steps at once": (lambda: fit_datasets.Marked(6), {}),
    "not shuffled": (fit_datasets.Marked, {"shuffle": False}),
    "parts of a pass": (lambda: fit_datasets.Still(6), {"steps_per_epoch": 2, "epochs": 4}),
    "parts that do not fit": (lambda: fit_datasets.Still(7), {"steps_per_epoch": 3}),
    "more steps than batches": (lambda: fit_datasets.Marked(3), {"steps_per_epoch": 5}),
    "weighted": (fit_datasets.Weighted, {}),
    "named": (fit_datasets.Named, {}),
    "classes": (fit_datasets.Classes, {"class_weight": {0: 0.5, 1: 3.0}}),
    "endless": (lambda: fit_datasets.Still(None), {"steps_per_epoch": 4, "shuffle": False}),
}
if BACKEND == "torch":
    del CASES["many steps at once"]  # Keras rejects steps_per_execution there
# Keras handles the content of batches and the number of steps by the same code on all backends.
ON_ANY_BACKEND = {
    "not shuffled", "weighted", "classes", "named", "more steps than batches", "parts that do not fit", "endless", "built",
}  # fmt: skip
ANY_BACKEND = pytest.mark.any_backend
VALIDATIONS = [
    {},
    *(pytest.param({option: 2}, marks=ANY_BACKEND) for option in ("validation_steps", "validation_freq")),
]
pytestmark = pytest.mark.filterwarnings("ignore:.*ran out of data")


@functools.cache
def fit_without_workers(case):
    make, options = CASES[case]
    return fit(as_py_dataset(make()), kind=case, **options)


@pytest.mark.parametrize("case", [pytest.param(case, marks=[ANY_BACKEND] * (case in ON_ANY_BACKEND)) for case in CASES])
def test_worker_processes_result_in_the_weights_of_a_fit_without_workers(case):
    make, options = CASES[case]
    assert_same(fit(accelerate(make(), 2), kind=case, **options), fit_without_workers(case))


@pytest.mark.parametrize(
    "case", ["plain", *(pytest.param(case, marks=ANY_BACKEND) for case in ("parts of a pass", "endless"))]
)
def test_worker_threads_result_in_the_weights_of_a_fit_without_workers(case):
    make, options = CASES[case]
    found = fit(accelerate(make(), 2, use_multiprocessing=False), kind=case, **options)
    assert_same(found, fit_without_workers(case))


@ANY_BACKEND
def test_zero_workers_are_possible():
    assert_same(fit(accelerate(fit_datasets.Marked(), 0)), fit_without_workers("plain"))


@ANY_BACKEND
@pytest.mark.parametrize(("case", "processes"), [("classes", True), ("plain", False)], ids=["processes", "threads"])
def test_installed_fit_results_in_the_weights_of_a_fit_without_workers(case, processes):
    make, options = CASES[case]
    with mpqueue.keras.install():
        found = fit(as_py_dataset(make(), 2, processes), kind=case, **options)
    assert_same(found, fit_without_workers(case))


@pytest.mark.parametrize("options", VALIDATIONS, ids=str)
def test_validation_equals_one_without_workers(options):
    plain, validation = fit_datasets.Marked(), fit_datasets.Marked(3)
    expected = fit(as_py_dataset(plain), validation_data=as_py_dataset(validation), **options)
    plain, validation = fit_datasets.Marked(), fit_datasets.Marked(3)
    found = fit(accelerate(plain, 2), validation_data=accelerate(validation, 1), **options)
    assert "val_loss" in found[1]
    assert_same(found, expected)


@ANY_BACKEND
def test_one_dataset_can_be_used_for_training_and_validation():
    expected = fit(as_py_dataset(both := fit_datasets.Still()), validation_data=as_py_dataset(both))
    both = accelerate(fit_datasets.Still(), 2)
    assert_same(fit(both, validation_data=both), expected)


@ANY_BACKEND
def test_evaluate_and_predict_return_the_results_without_workers():
    model = make_model("built")
    dataset, fast = as_py_dataset(fit_datasets.Still()), accelerate(fit_datasets.Still(), 2)
    assert model.evaluate(fast, verbose=0) == model.evaluate(dataset, verbose=0)
    np.testing.assert_array_equal(model.predict(fast, verbose=0), model.predict(dataset, verbose=0))


@ANY_BACKEND
def test_consecutive_fits_continue_as_without_workers():
    def fits(dataset):
        keras.utils.set_random_seed(4)
        model = make_model("built")
        return [model.fit(dataset, verbose=0).history for _ in range(3)]

    assert fits(accelerate(fit_datasets.Marked(), 2)) == fits(as_py_dataset(fit_datasets.Marked()))
