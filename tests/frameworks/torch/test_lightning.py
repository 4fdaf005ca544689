"""States saved by Lightning's trainer: exact within an epoch; at its last batch, the beginning of the next epoch.

A stand-in saves like Lightning 2.6, from a method and module of the same names; Lightning itself is not needed.
"""

import sys
import types

import pytest
import torch
from helpers.torch_batches import Noisy, continued
from torch.utils import data

import mpqueue.torch

_FIT_LOOP = """
class _FitLoop:
    def __init__(self, loader):
        self.loader, self.seen = loader, []
        self.epoch_loop = types.SimpleNamespace(batch_progress=types.SimpleNamespace(is_last_batch=False))
    def setup_data(self):
        "Begin the first pass of a run, before the epoch of the sampler is set."
        self.iterator = iter(self.loader)
    def run_epoch(self, limit):
        "Take all batches of an epoch, without another call of `next`."
        iterator = iter(self.loader)
        for position in range(limit):
            batch = next(iterator)
            self.epoch_loop.batch_progress.is_last_batch = position == limit - 1
            self.seen.append(batch.tolist())
            yield
    def on_save_checkpoint(self):
        return [loader.state_dict() for loader in [self.loader]]
"""


@pytest.fixture(name="fit_loop", params=["lightning.pytorch"])
def _fit_loop(request, monkeypatch):
    module = types.ModuleType(f"{request.param}.loops.fit_loop")
    module.types = types
    exec(_FIT_LOOP, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module._FitLoop


def _loader(**options):
    generator = torch.Generator().manual_seed(5)
    return mpqueue.torch.DataLoader(range(12), batch_size=2, shuffle=True, generator=generator, **options)


def lists(batches):
    return [[part.tolist() for part in batch] for batch in batches]


OPTIONS = [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=["inline", "workers", "persistent"])
@pytest.mark.parametrize("limit", [6, 4], ids=["all", "limited"])
@pytest.mark.parametrize("saved_at", ["middle", "last"])
def test_resumed_run_gets_the_batches_of_the_uninterrupted_run(fit_loop, options, limit, saved_at):
    first = fit_loop(_loader(**options))
    for index, _ in enumerate(first.run_epoch(limit)):
        if index == (limit - 1 if saved_at == "last" else 1):
            saved = first.on_save_checkpoint()
    list(first.run_epoch(limit))
    other = fit_loop(_loader(**options))
    other.loader.load_state_dict(saved[0])
    if saved_at == "middle":
        list(other.run_epoch(limit - 2))
    list(other.run_epoch(limit))
    assert other.seen == first.seen[2 if saved_at == "middle" else limit :]


def test_own_loop_resumed_at_the_last_batch_gets_no_more_batches(fit_loop):
    """Even if Lightning is imported: the program continues the interrupted epoch."""
    loader = _loader(num_workers=1)
    for _ in loader:
        state = loader.state_dict()
    rest = list(loader)
    other = continued(_loader(num_workers=1), state)
    assert list(other) == []
    assert torch.equal(torch.stack(list(other)), torch.stack(rest))


def test_generator_of_the_process_does_not_change(fit_loop):
    loop = fit_loop(mpqueue.torch.DataLoader(range(4), batch_size=2, shuffle=True))
    list(loop.run_epoch(2))
    (saved,) = loop.on_save_checkpoint()
    before = torch.random.get_rng_state()
    other = continued(mpqueue.torch.DataLoader(range(4), batch_size=2, shuffle=True), saved)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert sorted(torch.cat(list(other)).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("fit_loop", ["lightning.pytorch", "pytorch_lightning"], indirect=True)
def test_loaders_of_torch_save_the_same_states(fit_loop):
    with mpqueue.torch.install():
        loop = fit_loop(data.DataLoader(range(4), batch_size=2, num_workers=1))
        list(loop.run_epoch(2))
        (saved,) = loop.on_save_checkpoint()
        other = continued(data.DataLoader(range(4), batch_size=2, num_workers=1), saved)
        assert [batch.tolist() for batch in other] == [[0, 1], [2, 3]]


@pytest.mark.parametrize("options", OPTIONS, ids=["inline", "workers", "persistent"])
def test_epoch_set_after_iter_is_used(fit_loop, options):
    """A run that is resumed at the end of an epoch must not repeat the order of the first epoch."""

    def run(epoch, is_set_before):
        torch.manual_seed(5)
        sampler = data.distributed.DistributedSampler(Noisy(), 2, 1, seed=3)
        loop = fit_loop(mpqueue.torch.DataLoader(Noisy(), batch_size=2, sampler=sampler, **options))
        sampler.set_epoch(epoch if is_set_before else 0)
        loop.setup_data()
        sampler.set_epoch(epoch)
        return [lists(batches) for batches in (loop.iterator, loop.loader)]

    assert run(2, is_set_before=False) == run(2, is_set_before=True) != run(0, is_set_before=True)


def test_epoch_of_a_state_in_mid_epoch_takes_precedence(fit_loop):
    """The state contains its epoch."""

    def make():
        sampler = data.distributed.DistributedSampler(Noisy(), 2, 1, seed=3)
        return mpqueue.torch.DataLoader(Noisy(), batch_size=2, sampler=sampler, num_workers=1)

    first = make()
    first.sampler.set_epoch(2)
    batches = iter(first)
    next(batches)
    loop = fit_loop(make())
    loop.loader.load_state_dict(first.state_dict())
    loop.setup_data()
    loop.loader.sampler.set_epoch(3)
    assert lists(loop.iterator) == lists(batches)
