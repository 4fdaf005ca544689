"""`worker_init_fn` in the workers of `mpqueue.torch.DataLoader`: its random numbers, its errors."""

import gc
import random
import weakref

import numpy as np
import pytest
import torch
from helpers.torch_batches import Numbers, Stream
from torch.utils import data

import mpqueue.torch
from mpqueue.torch import DataLoader


class Drawn(Numbers):
    """Items are the state that `draw` has left in this worker's dataset."""

    drawn = ()

    def __getitem__(self, index):
        return self.drawn


def draw(_number):
    info = data.get_worker_info()
    assert info.seed == torch.initial_seed()
    info.dataset.drawn = info.id, info.seed, torch.rand(()).item(), random.random(), float(np.random.random())


class DrawnStream(data.IterableDataset):
    """One element per worker: the state that `draw` has left."""

    drawn = ()

    def __iter__(self):
        yield self.drawn


@pytest.mark.parametrize("kind", [Drawn, DrawnStream])
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX, if other tests have imported it
def test_worker_init_fn_draws_the_numbers_of_torchs_own_workers(kind):
    drawn = []
    options = {"batch_size": None, "num_workers": 2, "worker_init_fn": draw, "multiprocessing_context": "fork"}
    for loader_class in (data.DataLoader, DataLoader):
        loader = loader_class(kind(), generator=torch.Generator().manual_seed(7), **options)
        drawn.append({tuple(item) for item in loader})
    assert drawn[0] == drawn[1]
    assert {number for number, *_ in drawn[1]} == {0, 1}


class SharedOrder(data.IterableDataset):
    """The workers divide an order. Each derives the seed of the order from its own seed."""

    def __iter__(self):
        info = data.get_worker_info()
        shared = torch.initial_seed() - info.id
        order = torch.randperm(12, generator=torch.Generator().manual_seed(shared)).tolist()
        yield from order[info.id :: info.num_workers]


class SharedOrderAtOnce(SharedOrder):
    def __iter__(self):
        return iter(list(super().__iter__()))


WAYS = [
    (SharedOrder, "fork", {}), (SharedOrder, "forkserver", {}), (SharedOrder, "spawn", {}),
    (SharedOrderAtOnce, "fork", {"persistent_workers": True}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "method", "options"), WAYS)
def test_workers_share_a_seed_as_in_torch(kind, method, options):
    epochs = []
    for loader_class, used in ((data.DataLoader, "fork"), (DataLoader, method)):
        generator = torch.Generator().manual_seed(7)
        loader = loader_class(kind(), None, num_workers=2, multiprocessing_context=used, generator=generator, **options)
        epochs.append([list(loader), list(loader)])
    assert epochs[0] == epochs[1]
    assert sorted(epochs[0][0]) == list(range(12))


def test_resumed_workers_share_a_seed():
    loaders = [DataLoader(SharedOrder(), batch_size=None, num_workers=count) for count in (3, 2)]
    batches = iter(loaders[0])
    before = [next(batches) for _ in range(5)]
    loaders[1].load_state_dict(loaders[0].state_dict())
    assert list(loaders[1]) == list(batches)
    assert len(before) == 5


def test_workers_of_an_installed_loader_share_a_seed():
    with mpqueue.torch.install():
        loader = data.DataLoader(SharedOrder(), batch_size=None, num_workers=2, multiprocessing_context="fork")
        assert sorted(loader) == list(range(12))


def test_workers_of_a_plain_loader_share_a_seed():
    with mpqueue.Loader(SharedOrder(), workers=2, seed=1, start_method="fork") as loader:
        assert sorted(loader) == list(range(12))


class InitError(Exception):
    pass


def fail(_number):
    raise InitError("no licence")


def _stateful(dataset, **options):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    return stateful.StatefulDataLoader(dataset, batch_size=None, num_workers=2, **options)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
class TestStateful:
    """torchdata's loader raises an error of ``worker_init_fn`` when it is iterated."""

    def test_error_in_worker_init_fn_is_raised_at_iter(self):
        loader = _stateful(Drawn(), worker_init_fn=fail)
        with mpqueue.torch.install(), pytest.raises(InitError, match="no licence"):
            iter(loader)

    def test_error_of_the_first_item_is_raised_at_next_and_counted_then(self):
        class Fails(Drawn):
            def __getitem__(self, index):
                if not index:
                    raise InitError("no item")
                return index

        with mpqueue.torch.install():
            loader = _stateful(Fails(8), worker_init_fn=draw)
            batches = iter(loader)
            assert loader.state_dict()["place"]["position"] == 0
            with pytest.raises(InitError, match="no item"):
                next(batches)
            assert loader.state_dict()["place"]["position"] == 1
            assert list(batches) == list(range(1, 8))
            kept = weakref.ref(iter(loader))
            del batches, loader
            gc.collect()
            assert kept() is None  # which ends the workers

    def test_batches_after_worker_init_fn_are_complete(self):
        with mpqueue.torch.install():
            loader = _stateful(list(range(5)), worker_init_fn=draw_nothing, persistent_workers=True)
            assert [list(loader), list(loader)] == [list(range(5))] * 2

    def test_empty_stream_ends_at_next(self):
        with mpqueue.torch.install():
            loader = _stateful(Stream([]), worker_init_fn=draw_nothing)
            with pytest.warns(UserWarning, match="the stream of Stream is empty"):
                assert list(loader) == []


def draw_nothing(_number):
    pass


def test_error_in_worker_init_fn_of_torchs_loader_is_raised_at_next():
    batches = iter(DataLoader(Drawn(), num_workers=2, worker_init_fn=fail))
    with pytest.raises(InitError, match="no licence") as raised:
        next(batches)
    assert "raised by worker_init_fn" in raised.value.__notes__
