"""Datasets of torch, and values that pass through a worker of its loader."""

import pickle

import torch
from torch.utils import data

import mpqueue.torch
from helpers.computed_source import Computed


class Numbers(data.Dataset):
    """The numbers from 0 to below a length."""

    def __init__(self, length=12):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return index


class Noisy(Numbers):
    """Pairs of an index and a random number of torch."""

    def __getitem__(self, index):
        return index, torch.rand(()).item()


class Stream(data.IterableDataset):
    """The given elements, as an iterable-style dataset."""

    def __init__(self, elements):
        self.elements = elements

    def __iter__(self):
        return iter(self.elements)


class HasPosition:
    """A base class of datasets and iterators whose state is their position ``at``."""

    at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def continued(loader, state):
    """Load a copy of a state into a loader; return the loader."""
    loader.load_state_dict(pickle.loads(pickle.dumps(state)))
    return loader


def lists(batches):
    """Return the batches as lists."""
    return [batch.tolist() for batch in batches]


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
