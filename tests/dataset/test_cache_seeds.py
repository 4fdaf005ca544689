"""Random numbers of stages: in a cache, they depend on the dataset alone; else on seed, epoch, stage and sample."""

import pathlib
import random
from functools import partial

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.loader_runs import batches_of

import mpqueue
from mpqueue import Dataset

pytestmark = pytest.mark.sample(1)


class Creating:
    """A function that creates its generator at the first call."""

    generator = None

    def __call__(self, number):
        if self.generator is None:
            self.generator = np.random.default_rng(0)
        return number, self.generator.random()


def draw_late(number):
    """Draw only after the first batches of a worker, which then have shown no draw."""
    if number < 24:
        return number, None
    return number, random.random(), np.random.normal(), mpqueue.rng().random()


def generated():
    info = mpqueue.worker_info()
    own = random.Random(random.random())  # seeded when the generator starts
    for number in range(info.shard_id, 48, info.num_shards):
        yield number, own.random(), random.random()


def is_kept(_):
    return True


def draws_late():
    return Dataset.range(48).map(draw_late)


CASES = {
    "drawn late": draws_late,
    "created": lambda: Dataset.range(48).map(Creating()),
    "generated": lambda: Dataset(generated),
}


def elements(dataset, num_epochs=2, **options):
    """Return the elements of the last epoch, in the order of their first items."""
    with mpqueue.Loader(dataset.batch(4, collate=list), **options) as loader:
        found = [sorted(element for batch in loader for element in batch) for _ in range(num_epochs)]
    assert found == found[:1] * num_epochs
    return found[0]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("options", [{"workers": 0, "seed": 1}, {"workers": 2, "start_method": "spawn"}], ids=str)
def test_elements_are_the_same_for_any_workers_and_seed(name, options):
    """Also of a generator that the first element creates. The model has generators that a function holds."""
    expected = sorted(CASES[name]().cache())
    assert elements(CASES[name]().cache(), **options) == expected


def draw_some(number):
    return number, random.random() if number % 16 == 15 else None


def draw_none(number):
    return number, mpqueue.rng().random()


THREADED = [({"workers": 2, "backend": "thread"}, 1), ({"workers": 1}, 3), ({"workers": 0}, 3)]


@pytest.mark.parametrize(("options", "threads"), THREADED, ids=str)
@pytest.mark.parametrize("is_stream", [False, True])
def test_threads_store_only_elements_that_draw_from_no_shared_generator(
    is_stream, options, threads, tmp_path, caplog, capfd
):
    source = Dataset.range(48).filter(is_kept) if is_stream else Dataset.range(48)
    plain = source.map(draw_none, threads=threads).cache(tmp_path, name="plain")
    expected = sorted(source.map(draw_none))
    assert elements(plain, **options) == expected
    assert "not stored" not in caplog.text + capfd.readouterr().err  # a worker process writes to standard error

    drawing = source.map(draw_some, threads=threads).cache(tmp_path, name="drawing")
    with mpqueue.Loader(drawing.batch(4, collate=list), **options) as loader:
        for _ in range(2):
            assert sorted(number for batch in loader for number, _ in batch) == list(range(48))
    assert "some elements are not stored" in caplog.text + capfd.readouterr().err
    # Without threads, the missing elements are seeded; all elements are stored.
    assert sorted(source.map(draw_some).cache(tmp_path, name="drawing")) == sorted(source.map(draw_some))


def generators_of_caller():
    torch = pytest.importorskip("torch")
    return random.random(), np.random.normal(), np.random.random(), float(torch.rand(()))


@pytest.mark.parametrize("options", [None, {"workers": 0}, {"workers": 0, "seed": 1}], ids=str)
def test_generators_of_the_caller_continue(options):
    torch = pytest.importorskip("torch")
    held = np.random.default_rng(2)
    dataset = Dataset.range(6).map(draw_late).map(lambda pair: (pair[0], held.random())).cache()

    def restart():
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        np.random.normal()  # a second number is cached

    restart()
    expected = generators_of_caller(), np.random.default_rng(2).random()
    restart()
    elements(dataset, **options) if options is not None else list(dataset)
    assert (generators_of_caller(), held.random()) == expected


# -- Questions about a run


def num_stored(folder):
    """Return the number of elements in a folder."""
    (index,) = pathlib.Path(folder).glob("*.index")
    content = index.read_bytes()
    return sum(content[at : at + 32] != bytes(32) for at in range(0, len(content), 32))


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_loader_computes_without_storing(workers, tmp_path):
    pytest.importorskip("torch")
    from mpqueue.torch import DataLoader

    expected, dataset = list(draws_late().cache()), draws_late().cache(tmp_path)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, collate_fn=list, shuffle=False)
    iterator = iter(loader)
    next(iterator)
    before = num_stored(tmp_path)
    assert loader.compute(0, 11) == expected[44:]
    assert workers or num_stored(tmp_path) == before == 4
    assert [element for batch in iterator for element in batch] == expected[4:]


@pytest.mark.parametrize(
    "stages", [lambda of: of.shuffle(), lambda of: of.filter(is_kept).shuffle(buffer=4)], ids=["indexed", "stream"]
)
def test_parts_of_a_dataset_share_the_elements_of_a_cache(stages):
    alone, shared = (stages(Dataset.range(12)).map(lambda number: (number, mpqueue.rng().random())) for _ in range(2))
    expected, shared = list(alone.cache()), shared.cache()
    part = Dataset.zip(Dataset.range(12).map(abs).map(abs), shared).take(5)
    assert [row for _, row in part] == expected[:5]
    assert list(shared) == expected  # the first five were stored by the part


# -- Random numbers of stages depend on the seed, the epoch, the stage, and the sample's index before it


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
