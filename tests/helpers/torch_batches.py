"""Values on their way through a worker."""

import mpqueue.torch


class Gives:
    """A dataset with one item, which a function makes in the worker."""

    def __init__(self, make, n=1):
        self.make, self.n = make, n

    def __len__(self):
        return self.n

    def __getitem__(self, _index):
        return self.make()


def as_it_is(item):
    return item


def loader_of(make, n=1, **options):
    """A loader whose batches are what ``make`` returns in the worker."""
    options = {"num_workers": 1, "batch_size": None, "collate_fn": as_it_is} | options
    return mpqueue.torch.DataLoader(Gives(make, n), **options)


def through(make, **options):
    """What the trainer gets of the one that ``make`` returned in a worker."""
    (value,) = loader_of(make, **options)
    return value
