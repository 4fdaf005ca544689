"""Datasets of torch, and values that pass through a worker of its loader."""

import torch
from torch.utils import data

import mpqueue.torch
from helpers.computed_source import Computed


class Noisy(data.Dataset):
    """Pairs of an index and a random number of torch."""

    def __init__(self, length=12):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return index, torch.rand(()).item()


def as_it_is(item):
    return item


def loader_of(make, n=1, **options):
    """Return a loader that yields the results of ``make`` in the worker."""
    options = {"num_workers": 1, "batch_size": None, "collate_fn": as_it_is} | options
    return mpqueue.torch.DataLoader(Computed(lambda _: make(), n), **options)


def through(make, **options):
    """Return the trainer's copy of the value that ``make`` returned in a worker."""
    (value,) = loader_of(make, **options)
    return value
