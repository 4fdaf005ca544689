"""The cost of a sample in a worker: the number of internal function calls; most of them are made once per block."""

import sys
from pathlib import Path

import pytest

import mpqueue
from mpqueue import Dataset

pytestmark = pytest.mark.sample(2)

PACKAGE = str(Path(mpqueue.__file__).parent)
SAMPLES, WARM_UP, WATCHED = 12_000, 4_000, 4_000


class Counting:
    """A map function that counts the calls in its worker between two calls of itself."""

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
    "shuffle": lambda dataset: dataset.filter(keep).shuffle(buffer=1000),
}


# Options of the loader, and the most calls per sample. A block of 256 makes about 5 calls per stage and 30 for the
# batch, and the batch makes as many again. Seeding per sample and stage would take ten calls. Without workers, each
# batch is timed on a busy machine and followed by a snapshot.
IN_A_WORKER = {"workers": 1}, 0.5
IN_A_THREAD = {"workers": 1, "backend": "thread"}, 0.5
IN_THE_CALLER = {"workers": 0}, 2


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *((name, IN_A_WORKER) for name in CHAINS),
        ("map and filter", IN_A_THREAD),
        ("map and filter", IN_THE_CALLER),
        ("torch", ({"workers": 1, "start_method": "fork"}, 0.5)),  # which inherits the imported torch
        ("drawing", ({"workers": 1}, 12)),
    ],
)
def test_only_samples_that_draw_pay_for_random_numbers(name, place, tmp_path):
    path, (options, most) = tmp_path / "calls", place
    dataset = Dataset.range(SAMPLES)
    if name == "torch":
        dataset = dataset.map(pytest.importorskip("torch").is_tensor).map(Counting(path)).filter(keep)
    elif name == "drawing":
        dataset = dataset.map(Counting(path)).map(drawing)
    else:
        dataset = CHAINS[name](dataset.map(Counting(path)))
    with mpqueue.Loader(dataset.batch(256), seed=3, **options) as loader:
        num_samples = sum(len(batch) for batch in loader)
    assert num_samples == SAMPLES
    assert float(path.read_text()) < most
