"""Random numbers of torch are equal for any number of workers, in every frontend, after a crash and after a resume."""

import os
import random
import signal

import numpy as np
import pytest
import torch
from helpers.torch_batches import Numbers

import mpqueue
import mpqueue.torch

SEED = 11


class Draws:
    """Items with a random number of torch; optionally crashes once in the middle."""

    def __init__(self, length=12, mark=None):
        self.length, self.mark = length, mark

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if self.mark and index == 7 and not os.path.exists(self.mark):
            with open(self.mark, "w"):
                os.kill(os.getpid(), signal.SIGKILL)
        return np.array([index, float(torch.rand(())), float(torch.randn(()))])


class DrawsAtTimes(Draws):
    """Draws for few items, but not for the first ones."""

    def __getitem__(self, index):
        return np.array([index, float(torch.rand(()))]) if index in {5, 6, 10} else np.array([index, 0.0])


class DrawsByOtherNumbers(Draws):
    """Python's generator decides whether torch's is used."""

    def __getitem__(self, index):
        return np.array([index, float(torch.rand(())) if random.random() < 0.3 else 0.0])


class DrawsInBatches(Draws):
    def __getitems__(self, indices):
        return [np.array([index, float(torch.rand(()))]) for index in indices]


def joined(samples):
    return np.stack([*samples, np.full(len(samples[0]), float(torch.rand(())))])


def numbers():
    info = mpqueue.worker_info()
    for index in range(info.shard_id, 12, info.num_shards):
        yield np.array([index, float(torch.rand(()))])


SOURCES = [Draws(), DrawsAtTimes(), DrawsByOtherNumbers(), DrawsInBatches()]
by_kind = pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)


def Loader(source, **options):
    """Return a loader with workers that inherit the imported torch: importing it takes a second or more."""
    return mpqueue.Loader(source, start_method="fork", **options)


def rows_of(loader, epochs=2):
    with loader:
        return [batch.tolist() for _ in range(epochs) for batch in loader]


def drawn_by(rows):
    return [number for row in rows for number in np.ravel(row).tolist() if 0 < number < 1]


@by_kind
@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"batch_size": 2, "collate": joined}], ids=" ".join)
def test_items_draw_the_same_for_any_number_of_workers(source, options):
    alone, others = [rows_of(Loader(source, workers=workers, seed=SEED, shuffle=True, **options)) for workers in (0, 2)]
    assert others == alone
    assert options or len(set(drawn_by(alone))) == len(drawn_by(alone)) > 0


@pytest.mark.parametrize("source", [Draws(), DrawsAtTimes(), DrawsByOtherNumbers()], ids=lambda it: type(it).__name__)
def test_samples_draw_the_same_for_any_batch_size(source):
    def samples(**options):
        return [sample for batch in rows_of(Loader(source, seed=SEED, **options)) for sample in batch]

    assert samples(workers=2, batch_size=5) == samples(workers=1, batch_size=2)


def test_samples_that_raise_do_not_change_numbers_of_others():
    class Broken(DrawsAtTimes):
        def __getitem__(self, index):
            if index == 6 and float(torch.rand(())) >= 0:
                raise ValueError("broken")
            return super().__getitem__(index)

    options = {"seed": SEED, "batch_size": 3, "on_error": "skip"}
    alone, many = [rows_of(Loader(Broken(), workers=workers, **options)) for workers in (0, 2)]
    assert alone == many


def test_workers_of_the_fork_server_draw_the_same():
    expected = rows_of(Loader(Draws(), workers=0, seed=SEED), epochs=1)
    assert rows_of(mpqueue.Loader(Draws(), workers=1, seed=SEED), epochs=1) == expected


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}], ids=str)
def test_a_stream_draws_the_same_for_any_number_of_workers_and_after_a_resume(options):
    def loader(workers):
        return Loader(numbers, workers=workers, seed=SEED, **options)

    assert rows_of(loader(1)) == rows_of(loader(0))
    with loader(2) as first:
        whole = [batch.tolist() for _ in range(2) for batch in first]
    with loader(2) as first:
        seen = [batch.tolist() for _, batch in zip(range(3), first, strict=False)]
        state = first.state_dict()
    with loader(2) as second:
        second.load_state_dict(state)
        assert seen + [batch.tolist() for _ in range(2) for batch in second] == whole


@pytest.mark.parametrize("batch_size", [None, 2])
def test_killed_worker_and_resume_do_not_change_numbers(tmp_path, batch_size):
    options = {"seed": SEED, "shuffle": True, "batch_size": batch_size}
    whole = rows_of(Loader(Draws(), workers=0, **options))
    with Loader(Draws(mark=str(tmp_path / "died")), workers=2, **options) as first:
        seen = [batch.tolist() for batch in first]
        seen += [batch.tolist() for _, batch in zip(range(3), first, strict=False)]
        state = first.state_dict()
    assert (tmp_path / "died").exists()
    with Loader(Draws(), workers=3, **options) as second:
        second.load_state_dict(state)
        assert seen + [batch.tolist() for batch in second] == whole


def test_numbers_of_the_trainer_do_not_change():
    torch.manual_seed(3)
    expected = torch.rand(3).tolist()
    torch.manual_seed(3)
    got = []
    with Loader(Draws(), workers=0, seed=SEED) as loader:
        for _, _batch in zip(range(3), loader, strict=False):
            got.append(float(torch.rand(())))
    assert got == expected


class DrawsByRng(Numbers):
    def __getitem__(self, index):
        return index, mpqueue.rng().random()


class DrawsByRngInBatches(DrawsByRng):
    def __getitems__(self, indices):
        return [(index, mpqueue.rng().random()) for index in indices]


class DrawsByRngInCoroutines(DrawsByRng):
    async def __getitem__(self, index):
        return index, mpqueue.rng().random()


class DrawsByRngInCoroutinesOfBatches(DrawsByRngInCoroutines):
    async def __getitems__(self, indices):
        return [(index, mpqueue.rng().random()) for index in indices]


class DrawsByRngInStream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return ((index, mpqueue.rng().random()) for index in range(10))


def with_number(samples):
    return samples, mpqueue.rng().random()


KINDS = [DrawsByRng, DrawsByRngInBatches, DrawsByRngInCoroutines, DrawsByRngInCoroutinesOfBatches, DrawsByRngInStream]


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_rng_without_torch_workers_has_the_numbers_of_one_worker(kind, size):
    def make(workers):
        options = {} if kind is DrawsByRngInStream or size is None else {"shuffle": True, "collate_fn": with_number}
        options |= {"num_workers": 1, "multiprocessing_context": "fork"} if workers else {}
        return mpqueue.torch.DataLoader(kind(), size, generator=torch.Generator().manual_seed(7), **options)

    def found(loader):
        return [repr(batch) for batch in loader]

    loaders = [make(0), make(1)]
    expected = [found(loader) for loader in loaders]
    assert expected[0] == expected[1]
    assert found(loaders[0]) == found(loaders[1]) != expected[0]
    # After a resume, with and without workers.
    loader = make(0)
    batches = iter(loader)
    next(batches)
    for resumed in (make(0), make(1)):
        resumed.load_state_dict(loader.state_dict())
        assert found(resumed) == expected[0][1:]
    with pytest.raises(RuntimeError, match="only while a batch is computed"):
        mpqueue.rng()


def test_rng_without_torch_workers_after_an_exclusion():
    made = []
    for workers in (0, 1):
        loader = mpqueue.torch.DataLoader(DrawsByRng(), 3, num_workers=workers, generator=torch.Generator())
        loader.exclude([1, 4])
        made.append([repr(batch) for batch in loader])
        assert repr(loader.compute(0, 1)) == made[-1][1]
    assert made[0] == made[1]
