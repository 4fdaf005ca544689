"""An iterable-style dataset that shuffles by the count of its epochs returns the rest of the epoch after a resume."""

import itertools
import pickle
import random
from functools import partial

import pytest
from helpers.torch_batches import continued
from torch.utils import data

from mpqueue.torch import DataLoader


class CountsInIter(data.IterableDataset):
    """Begins another epoch in each ``__iter__``, also after a load."""

    def __init__(self, length):
        self.length, self.epoch, self.at, self.is_resumed = length, 0, 0, False

    def __iter__(self):
        self.epoch += 1
        yield from self.to_end()

    def to_end(self):
        yield from self.rest()
        self.at = 0

    def rest(self):
        order = random.Random(self.epoch).sample(range(self.length), self.length)
        info = data.get_worker_info()
        if info is not None:
            order = order[info.id :: info.num_workers]
        while self.at < len(order):
            self.at += 1
            yield order[self.at - 1]

    def state_dict(self):
        return {"epoch": self.epoch, "at": self.at}

    def load_state_dict(self, state):
        self.epoch, self.at, self.is_resumed = state["epoch"], state["at"], True


class CountsAtOnce(CountsInIter):
    """As before, in an ``__iter__`` that is not a generator."""

    def __iter__(self):
        self.epoch += 1
        return self.to_end()


class CountsAtItsEnd(CountsInIter):
    def __iter__(self):
        yield from self.rest()
        self.epoch, self.at = self.epoch + 1, 0


class CountsIfNotResumed(CountsInIter):
    def __iter__(self):
        if not self.is_resumed:
            self.epoch, self.at = self.epoch + 1, 0
        self.is_resumed = False
        yield from self.rest()


class HasOnlyTheCount(CountsInIter):
    """Its state lacks the place, like the state of a dataset that is only to have another order in each epoch."""

    def state_dict(self):
        return {"epoch": self.epoch}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]


KINDS = [CountsInIter, CountsAtOnce, CountsAtItsEnd, CountsIfNotResumed, HasOnlyTheCount]
WAYS = {
    "inline": {},
    "1": {"num_workers": 1, "multiprocessing_context": "fork"},
    "1 persistent": {"num_workers": 1, "multiprocessing_context": "fork", "persistent_workers": True},
    "2": {"num_workers": 2, "multiprocessing_context": "fork"},
    "2 persistent": {"num_workers": 2, "multiprocessing_context": "fork", "persistent_workers": True},
    "spawn": {"num_workers": 1, "multiprocessing_context": "spawn"},
    "spawn persistent": {"num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": True},
}


def made(kind, length, size, way):
    return DataLoader(kind(length), batch_size=size, **WAYS[way])


def values(batches):
    return [batch if isinstance(batch, int) else batch.tolist() for batch in batches]


def check_resumes(make, resume, positions, num_later=1):
    """Take states within the first two epochs, and compare the rest of the epoch and later ones after a resume."""
    loader, states, epochs = make(), [], []
    for epoch in range(2):
        batches, found = iter(loader), []
        for number in itertools.count():
            if number in positions:
                states.append((epoch, number, pickle.dumps(loader.state_dict())))
            batch = next(batches, None)
            if batch is None:
                break
            found += values([batch])
        epochs.append(found)
    epochs.append(values(loader))
    for epoch, number, state in states:
        resumed = continued(resume(), pickle.loads(state))
        assert values(resumed) == epochs[epoch][number:]
        assert [values(resumed) for _ in range(num_later)] == epochs[epoch + 1 :][:num_later]


CASES = [(kind, way, 20, None) for kind in KINDS for way in WAYS if "spawn" not in way]
CASES += [(kind, way, 400, 2) for kind in KINDS for way in ("inline", "1", "2 persistent")]
CASES += [(CountsInIter, way, length, size) for way in ("inline", "2") for length, size in ((20, 2), (400, None))]


@pytest.mark.parametrize(("kind", "way", "length", "size"), CASES)
def test_resumed_epoch_has_the_rest_of_its_order(kind, way, length, size):
    make = partial(made, kind, length, size, way)
    check_resumes(make, make, {1, 7} if length == 20 else {130})


# For one kind, because each case costs 8 s of CPU time: every worker is an interpreter that imports torch.
@pytest.mark.parametrize("way", ["spawn", "spawn persistent"])
def test_resumed_epoch_has_the_rest_of_its_order_in_spawned_workers(way):
    make = partial(made, CountsInIter, 20, 2, way)
    check_resumes(make, make, {4})


@pytest.mark.parametrize(("before", "after"), [("1", "2"), ("2", "1"), ("inline", "2"), ("1 persistent", "inline")])
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_epoch_has_the_rest_with_another_number_of_workers(kind, before, after):
    is_same = after != "2" or before == "1"
    make, resume = (partial(made, kind, 20, None, way) for way in (before, after))
    check_resumes(make, resume, {7}, num_later=int(is_same))
