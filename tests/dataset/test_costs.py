"""What a sample costs in a worker: calls of the package's functions, of which there are few for a whole block."""

import sys
from pathlib import Path

import numpy as np
import pytest

import mpqueue
from mpqueue import Dataset

PACKAGE = str(Path(mpqueue.__file__).parent)
SAMPLES, WARM_UP, WATCHED = 60_000, 20_000, 20_000


class Counting:
    """A function of a map that counts what is called in its worker from one of its calls to another."""

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
def test_a_sample_that_draws_nothing_costs_few_calls_in_any_stage(name, tmp_path):
    path = tmp_path / "calls"
    dataset = CHAINS[name](Dataset.range(SAMPLES).map(Counting(path))).batch(256)
    with mpqueue.Loader(dataset, workers=1, seed=3) as loader:
        for _ in loader:
            pass
    # A block of 256 passes some 5 functions in each stage and 30 for the batch, and the batch as many again.
    assert float(path.read_text()) < 0.5


def test_a_sample_that_draws_nothing_costs_no_more_where_torch_is_imported(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "calls"
    dataset = Dataset.range(SAMPLES).map(torch.is_tensor).map(Counting(path)).filter(keep).batch(256)
    with mpqueue.Loader(dataset, workers=1, seed=3) as loader:
        for _ in loader:
            pass
    assert float(path.read_text()) < 0.5


def test_random_numbers_of_a_sample_cost_those_who_draw_them(tmp_path):
    path = tmp_path / "calls"
    dataset = Dataset.range(SAMPLES).map(Counting(path)).map(drawing).batch(256)
    with mpqueue.Loader(dataset, workers=1, seed=3) as loader:
        assert np.concatenate(list(loader)).tolist() == list(range(SAMPLES))
    assert float(path.read_text()) < 12


def test_worker_threads_pay_no_more(tmp_path):
    path = tmp_path / "calls"
    dataset = Dataset.range(SAMPLES).map(Counting(path)).filter(keep).batch(256)
    with mpqueue.Loader(dataset, workers=1, backend="thread", seed=3) as loader:
        for _ in loader:
            pass
    assert float(path.read_text()) < 0.5


def test_the_caller_pays_no_more(tmp_path):
    path = tmp_path / "calls"
    dataset = Dataset.range(SAMPLES).filter(keep).map(Counting(path)).batch(256)
    with mpqueue.Loader(dataset, workers=0, seed=3) as loader:
        for _ in loader:
            pass
    # To begin each sample in each stage takes ten; on a busy machine each batch is timed and followed by a snapshot.
    assert float(path.read_text()) < 2
