"""Cached elements depend on the dataset alone: not on the process, the thread or the loader that computed them."""

import pathlib
import random

import numpy as np
import pytest

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
