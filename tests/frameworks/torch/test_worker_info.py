"""torch's get_worker_info() in workers of every frontend; each element of an iterable dataset is returned once."""

import warnings

import numpy as np
import pytest
import torch
from helpers.computed_source import Computed
from torch.utils.data import IterableDataset, get_worker_info

from mpqueue import GeneratorEnqueuer, Loader
from mpqueue.torch import DataLoader

FORK = {"start_method": "fork"}  # the workers inherit the imported torch
by_backend = pytest.mark.parametrize("options", [FORK, {"backend": "thread"}], ids=["process", "thread"])


class Numbers(IterableDataset):
    """A dataset that divides its numbers among workers as in torch's documentation."""

    def __init__(self, count=20, asks=True):
        self.count, self.asks = count, asks

    def __iter__(self):
        info = get_worker_info() if self.asks else None
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, self.count, step))


def elements(loader):
    with loader, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = sorted(np.ravel([*loader]).tolist())
    return got, [str(warning.message) for warning in caught if warning.category is UserWarning]


@by_backend
@pytest.mark.parametrize("batch_size", [None, 5])
def test_each_element_of_an_iterable_dataset_is_returned_once(options, batch_size):
    assert elements(Loader(Numbers(), workers=2, batch_size=batch_size, **options)) == (list(range(20)), [])


def test_worker_info_is_none_without_workers():
    assert elements(Loader(Numbers(), workers=0)) == (list(range(20)), [])
    assert get_worker_info() is None


@by_backend
def test_dataset_that_ignores_worker_info_warns_with_the_remedy(options):
    got, (text,) = elements(Loader(Numbers(asks=False), workers=2, **options))
    assert got == sorted([*range(20)] * 2)
    assert "Numbers never called torch.utils.data.get_worker_info()" in text
    assert "islice" in text and "mpqueue" not in text


@by_backend
def test_torchs_collation_is_not_a_use_of_worker_info_and_allocates_no_shared_memory(options):
    def collate(samples):
        joined = torch.utils.data.default_collate([torch.tensor(sample) for sample in samples])
        return [int(joined.is_shared()), *joined.tolist()]

    got, texts = elements(Loader(Numbers(asks=False), workers=2, batch_size=5, collate=collate, **options))
    assert len(got) == 2 * (20 + 4) and got[:10] == [0] * 10 and len(texts) == 1


class ReportedInfo:
    """Items with the facts that torch reports in a worker."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        info = torch.utils.data.get_worker_info()
        return [info.id, info.num_workers, info.seed - info.id, info.dataset is self]


@by_backend
def test_worker_info_describes_this_worker_and_its_dataset(options):
    with Loader(ReportedInfo(), workers=2, seed=7, shard=(1, 2), **options) as loader:
        got = list(loader)
    assert {tuple(row[1:]) for row in got} == {(2, 7, True)}  # dividing among ranks is left to the dataset, as in torch
    assert {row[0] for row in got} <= {0, 1}


def numbers():
    info = get_worker_info()
    yield from range(info.id, 10, info.num_workers)


@pytest.mark.parametrize("use_multiprocessing", [False, True])
def test_generators_of_an_enqueuer_can_use_worker_info(use_multiprocessing):
    options = FORK if use_multiprocessing else {}
    with GeneratorEnqueuer(numbers, use_multiprocessing, **options) as enqueuer:
        enqueuer.start(2)
        assert sorted(enqueuer.get()) == list(range(10))


@by_backend
def test_torchs_own_worker_inside_a_worker_has_its_own_number(options):
    def nested(_index):
        inner = torch.utils.data.DataLoader(Numbers(), num_workers=2, batch_size=None, multiprocessing_context="fork")
        return sorted(int(number) for number in inner)

    with Loader(Computed(nested, 1), workers=1, **options) as loader:
        assert [list(batch) for batch in loader] == [list(range(20))]


class DrawnOrder(IterableDataset):
    """A dataset that draws an order from its generator. Each worker yields its part of the order."""

    def __init__(self):
        self.rng = np.random.default_rng(5)
        self.epoch = torch.tensor(0).share_memory_()  # as in Hugging Face's datasets

    def __iter__(self):
        info = get_worker_info()
        return iter((self.rng.permutation(30) + 100 * int(self.epoch)).tolist()[info.id :: info.num_workers])


def test_order_drawn_in_each_worker_is_the_same():
    assert elements(Loader(DrawnOrder(), workers=2, seed=1, **FORK)) == (list(range(30)), [])


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("kind", [torch.utils.data.DataLoader, DataLoader], ids=["torch", "mpqueue"])
def test_a_drawn_order_and_an_epoch_in_shared_memory_are_as_in_torchs_loader(kind, persistent):
    dataset = DrawnOrder()
    loader = kind(
        dataset, num_workers=2, batch_size=None, persistent_workers=persistent, multiprocessing_context="fork"
    )
    order, epochs = np.random.default_rng(5), []
    for epoch in range(3):
        dataset.epoch.fill_(epoch)
        epochs.append([int(element) for element in loader])
    expected = [order.permutation(30) + 100 * epoch for epoch in range(3)]
    if not persistent:  # each iteration uses the original dataset
        expected = [expected[0] + 100 * epoch for epoch in range(3)]
    assert epochs == [one.tolist() for one in expected]
