"""Samplers are iterated in the trainer, lazily, and restarted for each epoch; they may return any keys."""

import itertools
import random

import numpy as np
import pytest
from helpers.loader_runs import batches_of
from helpers.numbered_batches import iter_after

import mpqueue

INDICES = range(100)


class Counting:
    """An endless sampler that counts its draws."""

    def __init__(self):
        self.drawn, self.epochs = 0, []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __iter__(self):
        for number in itertools.count():
            self.drawn += 1
            yield number % 100


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2}, {"workers": 2, "ordered": False}], ids=str)
def test_batches_follow_sampler(options):
    with mpqueue.Loader(INDICES, sampler=[7, 7, 3, 9, 1], batch_size=2, **options) as loader:
        found = [[batch.tolist() for batch in loader] for _ in range(3)]
    assert [sorted(epoch) for epoch in found] == [sorted([[7, 7], [3, 9], [1]])] * 3
    if "ordered" not in options:
        assert found[0] == [[7, 7], [3, 9], [1]]


def test_endless_sampler_is_drawn_lazily():
    sampler = Counting()
    with mpqueue.Loader(INDICES, sampler=sampler, batch_size=10, workers=1, max_queue_size=3) as loader:
        iter_after(loader, 5)
        assert sampler.drawn <= 10 * (5 + 3 + 1)
        iter(loader)
        assert sampler.epochs == [0, 1]


def test_keys_can_be_any_objects_and_source_needs_no_length():
    source = {"a": np.ones(3), ("b", 1): np.zeros(3), 2**70: np.ones(3)}
    first, second = batches_of(source, batch_sampler=[["a", ("b", 1)], [2**70]], workers=1)
    assert first == [[1, 1, 1], [0, 0, 0]]
    assert second == [[1, 1, 1]]


def test_source_without_length_works_with_several_workers():
    class Squares:
        def __getitem__(self, index):
            return index**2

    assert batches_of(Squares(), sampler=[3, 1, 2], batch_size=2, workers=2) == [[9, 1], [4]]


def test_long_list_of_indices_is_sent():
    many = list(range(100)) * 200
    assert batches_of(INDICES, batch_sampler=[many, [1]], workers=1) == [many, [1]]


class Failing:
    fails = True

    def __iter__(self):
        yield from (1, 2, 3)
        if self.fails:
            raise OSError("the index file is gone")
        yield from (4, 5)


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_sampler_is_raised_in_place_and_retried(workers):
    sampler = Failing()
    with mpqueue.Loader(INDICES, sampler=sampler, batch_size=2, workers=workers) as loader:
        stream = iter(loader)
        assert next(stream).tolist() == [1, 2]
        with pytest.raises(OSError, match="the index file is gone"):
            next(stream)
        sampler.fails = False
        assert [batch.tolist() for batch in stream] == [[3, 4], [5]]
        assert [batch.tolist() for batch in loader] == [[1, 2], [3, 4], [5]]


def test_empty_sampler_raises():
    with mpqueue.Loader(INDICES, sampler=iter([1, 2]), batch_size=2, workers=0) as loader:
        assert [batch.tolist() for batch in loader] == [[1, 2]]
        with pytest.raises(ValueError, match=r"returned no indices for epoch 1: .* an iterator that is exhausted"):
            list(loader)


class Shuffling:
    """A sampler with its own randomness, and a state."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def __iter__(self):
        order = list(range(12))
        self.random.shuffle(order)
        return iter(order)

    def state_dict(self):
        return self.random.getstate()

    def load_state_dict(self, state):
        self.random.setstate(state)


@pytest.mark.parametrize(("at", "workers"), [(0, 2), (2, 0), (2, 2), (4, 0)])
def test_sampler_with_state_resumes_its_order(at, workers):
    with mpqueue.Loader(INDICES, sampler=Shuffling(1), batch_size=3, workers=workers) as loader:
        list(loader)
        stream = iter_after(loader, at)
        state = loader.state_dict()
        rest = [batch.tolist() for batch in stream]
        following = [batch.tolist() for batch in loader]
    with mpqueue.Loader(INDICES, sampler=Shuffling(2), batch_size=3, workers=workers) as loader:
        loader.load_state_dict(state)
        assert [batch.tolist() for batch in loader] == (rest if at != 4 else following)


class Counted(Shuffling):
    def __len__(self):
        return 12


@pytest.mark.parametrize("kind", [Shuffling, Counted])
def test_state_with_fewer_batches_than_ranks_resumes_with_next_epoch(kind):
    """The rest of the epoch is dropped, as without a sampler."""
    options = {"batch_size": 3, "drop_last": True, "workers": 0}
    with mpqueue.Loader(INDICES, sampler=kind(1), **options) as loader:
        stream = iter_after(loader, 2)
        state = loader.state_dict()
        list(stream)
        following = [batch.tolist() for batch in loader]
    pieces = []
    for rank in range(4):
        with mpqueue.Loader(INDICES, sampler=kind(2), shard=(rank, 4), **options) as loader:
            loader.load_state_dict(state)
            assert loader.epoch == 1
            pieces += [batch.tolist() for batch in loader]
    assert pieces == following
