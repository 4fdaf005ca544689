"""Loaders of Accelerate that skip batches: the rest of the epoch equals the uninterrupted run, bit for bit."""

import logging
import types

import pytest
import torch
from helpers.torch_batches import Noisy, Stream
from torch.utils import data

import mpqueue.torch
from mpqueue.frameworks.torch.order import accelerate as skipping

accelerate = pytest.importorskip("accelerate.data_loader")


def _random_order():
    return accelerate.SeedableRandomSampler(Noisy(16), data_seed=3)


def _epochs(sampler, numbers, workers=1):
    """Return the batches of epochs of a restarted program's loader: the default generator has another state then."""
    random = getattr(sampler, "batch_sampler", sampler)
    random = getattr(random, "batch_sampler", random).sampler
    loader = mpqueue.torch.DataLoader(Noisy(16), batch_sampler=sampler, num_workers=workers)
    found = []
    for number in numbers:
        torch.rand(3)
        random.epoch = number
        found.append([(indices.tolist(), noise.tolist()) for indices, noise in loader])
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_rest_of_an_epoch_equals_the_uninterrupted_run(workers):
    def batches():
        return data.BatchSampler(_random_order(), 3, drop_last=False)

    whole = _epochs(batches(), [0, 1])
    assert whole[0] != whole[1]
    assert _epochs(accelerate.SkipBatchSampler(batches(), 2), [1], workers) == [whole[1][2:]]


def test_random_numbers_of_the_trainer_continue_in_mid_epoch():
    batches = data.BatchSampler(_random_order(), 3, drop_last=False)
    before = torch.get_rng_state()
    list(mpqueue.torch.DataLoader(Noisy(16), batch_sampler=accelerate.SkipBatchSampler(batches, 2), num_workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_have_different_random_numbers():
    def share(rank):
        batches = data.BatchSampler(_random_order(), 2, drop_last=False)
        return accelerate.BatchSamplerShard(batches, 2, rank)

    (first,), (second,) = _epochs(share(0), [0]), _epochs(share(1), [0])
    assert sorted(index for indices, _ in first + second for index in indices) == list(range(16))
    assert not {number for _, noise in first for number in noise} & {number for _, noise in second for number in noise}
    skipping_one = accelerate.SkipBatchSampler(share(1), 1)
    assert skipping.sampler_facts(types.SimpleNamespace(batch_sampler=skipping_one)).first == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_skipping_without_a_seed_warns_once(workers, monkeypatch, caplog):
    batches = data.BatchSampler(data.SequentialSampler(Noisy(16)), 4, drop_last=False)
    sampler = accelerate.SkipBatchSampler(batches, 1)
    stream = accelerate.DataLoaderShard(Stream(range(6)), skip_batches=2, num_workers=workers)
    monkeypatch.setattr(skipping, "_has_warned", False)
    with mpqueue.torch.install(), caplog.at_level(logging.WARNING, "mpqueue"):
        assert len(list(mpqueue.torch.DataLoader(Noisy(16), batch_sampler=batches, num_workers=workers))) == 4
        assert not caplog.records
        assert [batch.tolist() for batch in stream] == [[2], [3], [4], [5]]
        assert len(list(mpqueue.torch.DataLoader(Noisy(16), batch_sampler=sampler, num_workers=workers))) == 3
    (record,) = caplog.records
    assert "skipping its first 2 batches" in record.getMessage()
    assert "ignore_data_skip=True" in record.getMessage()


class Nested(data.IterableDataset):
    """Reads its elements from another loader."""

    def __iter__(self):
        yield from mpqueue.torch.DataLoader(range(6), batch_size=None)


def test_loader_in_the_dataset_of_one_that_skips_does_not_warn(monkeypatch, caplog):
    monkeypatch.setattr(skipping, "_has_warned", False)
    with caplog.at_level(logging.WARNING, "mpqueue"):
        found = [batch.tolist() for batch in accelerate.DataLoaderShard(Nested(), skip_batches=2)]
    assert found == [[2], [3], [4], [5]]
    assert not caplog.records


def test_resumed_loader_does_not_warn(monkeypatch, caplog):
    monkeypatch.setattr(skipping, "_has_warned", False)
    stream = accelerate.DataLoaderShard(Stream(range(6)), skip_batches=2, num_workers=1)
    with mpqueue.torch.install(), caplog.at_level(logging.WARNING, "mpqueue"):
        loader = stream.base_dataloader
        next(iter(loader))
        loader.load_state_dict(loader.state_dict())
        assert len(list(stream)) == 3
    assert not caplog.records
