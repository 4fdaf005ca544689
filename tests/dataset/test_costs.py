"""The cost of a sample in a worker: the number of internal function calls, most of which are per block."""

import sys
from pathlib import Path

import numpy as np
import pytest

import mpqueue
from mpqueue import Dataset

PACKAGE = str(Path(mpqueue.__file__).parent)
SAMPLES, WARM_UP, WATCHED = 60_000, 20_000, 20_000


class Counting:
    """A map function that counts the calls in its worker between two of its own calls."""

    def __init__(self, path):
        self.path, self.num_calls, self.counted = path, 0, 0

    def watch(self, frame, event, _):
        self.counted += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)

    def __call__(self, sample):
        self.num_calls += 1
        if self.num_calls == WARM_UP:
            sys.setprofile(self.watch)
        elif self.num_calls == WARM_UP + WATCHED:
            sys.setprofile(None)
            self.path.write_text(str(self.counted / WATCHED))
        return sample


def keep(_):
    return True


def drawing(sample):
    return sample + mpqueue.rng().bit_generator.state["has_uint32"]


CHAINS = {
    "map, indexed": lambda dataset: dataset,
    "map": lambda dataset: dataset.shuffle(buffer=1),
    "map and filter": lambda dataset: dataset.filter(keep),
    "two maps and a filter": lambda dataset: dataset.filter(keep).map(abs),
    "shuffle": lambda dataset: dataset.filter(keep).shuffle(buffer=1000),
}


@pytest.mark.parametrize("name", CHAINS)
def test_sample_without_random_numbers_costs_few_calls_in_any_stage(name, tmp_path):
    path = tmp_path / "calls"
    dataset = CHAINS[name](Dataset.range(SAMPLES).map(Counting(path))).batch(256)
    with mpqueue.Loader(dataset, workers=1, seed=3) as loader:
        for _ in loader:
            pass
    # A block of 256 makes about 5 calls per stage and 30 for the batch, and the batch makes as many again.
    assert float(path.read_text()) < 0.5


def test_sample_without_random_numbers_costs_no_more_with_torch(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "calls"
    dataset = Dataset.range(SAMPLES).map(torch.is_tensor).map(Counting(path)).filter(keep).batch(256)
    with mpqueue.Loader(dataset, workers=1, seed=3) as loader:
        for _ in loader:
            pass
    assert float(path.read_text()) < 0.5


def test_only_samples_that_draw_pay_for_random_numbers(tmp_path):
    path = tmp_path / "calls"
    dataset = Dataset.range(SAMPLES).map(Counting(path)).map(drawing).batch(256)
    with mpqueue.Loader(dataset, workers=1, seed=3) as loader:
        assert np.concatenate(list(loader)).tolist() == list(range(SAMPLES))
    assert float(path.read_text()) < 12


def test_worker_threads_cost_no_more_calls(tmp_path):
    path = tmp_path / "calls"
    dataset = Dataset.range(SAMPLES).map(Counting(path)).filter(keep).batch(256)
    with mpqueue.Loader(dataset, workers=1, backend="thread", seed=3) as loader:
        for _ in loader:
            pass
    assert float(path.read_text()) < 0.5


def test_calling_process_costs_no_more_calls(tmp_path):
    path = tmp_path / "calls"
    dataset = Dataset.range(SAMPLES).filter(keep).map(Counting(path)).batch(256)
    with mpqueue.Loader(dataset, workers=0, seed=3) as loader:
        for _ in loader:
            pass
    # Seeding per sample and stage takes ten calls. On a busy machine, each batch is timed and followed by a snapshot.
    assert float(path.read_text()) < 2
