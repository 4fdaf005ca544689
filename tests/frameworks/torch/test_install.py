"""`mpqueue.torch.install`: every loader of the program uses mpqueue's workers."""

import contextlib
import copy
import operator
import pickle
import re

import pytest
import torch
from helpers.docstrings import OF_TORCH, undescribed
from helpers.torch_batches import continued
from torch.utils import data
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

import mpqueue.torch
from mpqueue.frameworks.torch.iterator import PassIterator


def _loader(**options):
    return data.DataLoader(range(6), batch_size=2, **{"num_workers": 1} | options)


def test_every_loader_uses_our_workers_exactly_while_installed():
    made_before, stock = _loader(), dict(vars(data.DataLoader))
    with mpqueue.torch.install():
        for loader in (made_before, _loader(persistent_workers=True)):
            iterator = iter(loader)
            assert type(iterator) is PassIterator
            assert [batch.tolist() for batch in iterator] == [[0, 1], [2, 3], [4, 5]]
    assert dict(vars(data.DataLoader)) == stock


def test_loaders_without_workers_use_torchs_loop():
    with mpqueue.torch.install():
        assert isinstance(iter(_loader(num_workers=0)), _SingleProcessDataLoaderIter)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_loader_has_a_state_while_installed(workers):
    """Including a loader made before, and one of a subclass."""

    class Own(data.DataLoader):
        def _get_iterator(self):
            return super()._get_iterator()

    made_before = _loader(num_workers=workers)
    with mpqueue.torch.install():
        iterator = iter(made_before)
        assert next(iterator).tolist() == [0, 1]
        state = made_before.state_dict()
        other = continued(Own(range(6), batch_size=2, num_workers=workers), state)
        assert [batch.tolist() for batch in other] == [[2, 3], [4, 5]]
        assert other.statistics().batches == (2 if workers else 0)
    assert [batch.tolist() for batch in iterator] == [[2, 3], [4, 5]]


def test_loader_with_its_own_state_keeps_that_state():
    class Own(data.DataLoader):
        def state_dict(self):
            return {"own": True}

    with mpqueue.torch.install():
        loader = Own(range(4), num_workers=1)
        list(loader)
        assert loader.state_dict() == {"own": True}


def test_iterators_and_persistent_workers_outlive_the_installation():
    loader = _loader(persistent_workers=True)
    with mpqueue.torch.install():
        iterator = iter(_loader())
        list(loader)
    assert len(list(iterator)) == 3
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
@pytest.mark.parametrize("options", [{"num_workers": 0}, {"persistent_workers": True}], ids=str)
def test_copy_of_a_used_loader_starts_again(options, copy_of):
    with mpqueue.torch.install():
        loader = _loader(**options)
        next(iter(loader))
        copied = copy_of(loader)
        assert [batch.tolist() for batch in copied] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_sampler_is_as_far_as_without_install_when_an_error_is_raised(workers):
    if workers and not hasattr(torch, "accelerator"):
        pytest.skip("after an error, the DataLoader of torch before 2.6 does not wait for its workers")

    def run():
        sampler, found = iter(range(12)), []
        batches = iter(data.DataLoader({0: 0, 1: 1, 4: 4}, sampler=sampler, num_workers=workers))
        for _ in range(6):
            with contextlib.suppress(KeyError):
                next(batches)
            found.append(operator.length_hint(sampler))
        return found

    stock = run()
    with mpqueue.torch.install():
        assert run() == stock


def test_unsupported_torch_is_rejected(monkeypatch):
    monkeypatch.delattr(data.DataLoader, "_get_iterator")
    with pytest.raises(ImportError, match=f"does not support torch {re.escape(torch.__version__)}: .* no method"):
        mpqueue.torch.install()
    assert not hasattr(data.DataLoader, "_get_iterator")


def test_every_argument_of_a_public_name_is_described():
    assert undescribed(OF_TORCH) == ([], [])
