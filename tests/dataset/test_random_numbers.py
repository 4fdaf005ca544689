"""Random numbers of stages depend on the seed, the epoch, the stage, and the sample's index before it."""

import random
from functools import partial

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.loader_runs import batches_of

import mpqueue
from mpqueue import Dataset

pytestmark = pytest.mark.sample(1)


def draw(sample):
    return (*sample, random.random(), np.random.rand(), mpqueue.rng().random())


DATASET = Dataset(Computed(lambda index: draw((index,)), 12)).shuffle().map(draw).map(draw)


def epochs(dataset, **options):
    with mpqueue.Loader(dataset, seed=5, **options) as loader:
        return [[sample for batch in loader for sample in batch] for _ in range(2)]


@pytest.mark.parametrize("name", ["Python's", "NumPy's", "Python's, kept", "NumPy's, kept", "torch's"])
def test_calling_process_draws_the_same_as_workers_from_any_sample_on(name):
    draw_one = {
        "Python's": lambda: random.random(),
        "NumPy's": lambda: np.random.rand(),
        "Python's, kept": lambda: random.gauss(0, 1),
        "NumPy's, kept": lambda: np.random.normal(),
        "torch's": lambda: float(pytest.importorskip("torch").rand(1)),
    }[name]
    draw_one()  # skips the test if torch is missing
    before = random.getstate()
    random.gauss(0, 1)  # which stores a second number
    state = random.getstate()
    np.random.seed(0)
    np.random.normal()  # which stores a second number, too
    expected_normal = np.random.RandomState(0).normal(size=2)[1]

    def late(sample):
        return sample, draw_one() if sample > 300 and sample % 3 == 0 else None

    batches = Dataset.range(600).filter(lambda sample: sample % 7 != 0).map(late).batch(10, collate=list)
    start = {"start_method": "fork"} if name == "torch's" else {}  # the worker inherits the imported torch
    expected = epochs(batches, workers=1, **start)
    assert epochs(batches, workers=0) == expected
    assert random.getstate() == state
    assert np.random.normal() == expected_normal
    random.setstate(before)
    assert len({number for _, number in expected[0]}) > 80


def test_generators_of_the_caller_are_restored():
    torch = pytest.importorskip("torch")
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)
    drawn = [DATASET.map(lambda sample: (*sample, torch.rand(1).item()))[3] for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    with pytest.raises(RuntimeError, match="only while a batch is computed in this thread"):
        mpqueue.rng()


@pytest.mark.parametrize("workers", [0, 1])
def test_nested_dataset_access_does_not_change_the_sources_numbers(workers):
    """Source code may read a dataset: its own random numbers continue afterwards."""

    def sample(index, *, asks):
        before = random.random(), mpqueue.rng().random()
        inner = DATASET[index] if asks else None
        return [before, random.random(), np.random.rand(), mpqueue.rng().random(), inner]

    sources = [Computed(partial(sample, asks=asks), 6) for asks in (True, False)]
    asking, plain = (batches_of(source, workers=workers, seed=2) for source in sources)
    assert [item[:4] for item in asking] == [item[:4] for item in plain]
    assert len({item[4][1] for item in asking}) == 6
