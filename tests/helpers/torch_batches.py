"""Datasets of torch, and values that pass through a worker of its loader."""

import torch
from torch.utils import data

import mpqueue.torch


class Noisy(data.Dataset):
    """Pairs of an index and a random number of torch."""

    def __init__(self, length=12):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return index, torch.rand(()).item()


class Made:
    """A dataset with one item, which a function creates in the worker."""

    def __init__(self, make, n=1):
        self.make, self.n = make, n

    def __len__(self):
        return self.n

    def __getitem__(self, _index):
        return self.make()


def as_it_is(item):
    return item


def loader_of(make, n=1, **options):
    """Return a loader that yields the results of ``make`` in the worker."""
    options = {"num_workers": 1, "batch_size": None, "collate_fn": as_it_is} | options
    return mpqueue.torch.DataLoader(Made(make, n), **options)


def through(make, **options):
    """Return the trainer's copy of the value that ``make`` returned in a worker."""
    (value,) = loader_of(make, **options)
    return value
