"""`model.fit` on mpqueue's workers is `model.fit` without workers, to the bit."""

import pytest

pytest.importorskip("keras.utils")

import marked
from fitting import as_py_dataset, assert_same, fit

import mpqueue
import mpqueue.keras
from mpqueue.keras import accelerate


def on_processes(dataset):
    return accelerate(dataset, workers=2)


def on_threads(dataset):
    return accelerate(dataset, workers=2, use_multiprocessing=False)


def installed(dataset):
    return as_py_dataset(dataset, 2, True)


WAYS = [on_processes, on_threads, installed]
DATASETS = {
    "plain": (marked.Marked, {}),
    "not shuffled": (marked.Marked, {"shuffle": False}),
    "built": (marked.Marked, {}),
    "steps_per_epoch": (lambda: marked.Still(7), {"steps_per_epoch": 3}),
    "more steps than batches": (lambda: marked.Marked(3), {"steps_per_epoch": 5}),
    "steps_per_execution": (lambda: marked.Marked(6), {}),
    "weighted": (marked.Weighted, {}),
    "named": (marked.Named, {}),
    "classes": (marked.Classes, {"class_weight": {0: 0.5, 1: 3.0}}),
    "endless": (lambda: marked.Still(None), {"steps_per_epoch": 4}),
}


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def way(request):
    """How the dataset is given to `fit`."""
    if request.param is installed:
        with mpqueue.keras.install():
            yield installed
    else:
        yield request.param


@pytest.mark.parametrize("case", DATASETS)
@pytest.mark.filterwarnings("ignore:.*ran out of data")
def test_weights_and_history_equal_those_without_workers(case, way):
    make, options = DATASETS[case]
    kind = case if case in ("named", "classes") else "plain"
    expected = fit(as_py_dataset(make()), kind=kind, **options)
    assert_same(fit(way(make()), kind=kind, **options), expected)
