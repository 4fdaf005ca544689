"""The order of samples: over the whole source, a function of (seed, epoch), and free of startup cost."""

import time
import tracemalloc

import numpy as np
import pytest
from helpers.computed_source import Computed

import mpqueue
from mpqueue.seeding.permutation import SampleOrder, permuted


@pytest.mark.parametrize("length", [2, 3, 4, 5, 100, 1023, 1024, 1025, 70_000])
def test_network_is_a_permutation(length):
    assert sorted(permuted(1, 2, length, np.arange(length)).tolist()) == list(range(length))


def test_places_are_spread_evenly():
    """By chance, the deviation from equal shares would be larger once in a thousand."""
    found = [int(permuted(seed, 0, 80_000, np.array([3]))[0]) // 8000 for seed in range(4000)]
    shares = np.bincount(found, minlength=10)
    assert ((shares - 400) ** 2 / 400).sum() < 27.9


def test_a_billion_samples_need_no_memory():
    tracemalloc.start()
    first = SampleOrder(1, shuffle=True).indices(0, 10**9, 0, 32)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(first)) == 32
    assert peak_bytes < 1 << 20


@pytest.mark.measures
def test_a_billion_samples_start_as_fast_as_a_thousand():
    def used_s(num_samples):
        started = time.process_time()
        for _ in range(20):
            SampleOrder(1, shuffle=True).indices(0, num_samples, 0, 32)
        return time.process_time() - started

    assert used_s(10**9) < 100 * used_s(1000)


def test_length_counts_batches_of_rank():
    source = range(10)
    assert len(mpqueue.Loader(source, batch_size=4)) == 3
    assert len(mpqueue.Loader(source, batch_size=4, drop_last=True)) == 2
    assert len(mpqueue.Loader(source, batch_size=2, shard=(1, 3))) == 2
    assert len(mpqueue.Loader(source, shard=(1, 4))) == 3
    assert len(mpqueue.Loader(source, batch_size=4, sampler=range(9))) == 3
    assert len(mpqueue.Loader(source, sampler=range(9))) == 9
    assert len(mpqueue.Loader(source, batch_sampler=[[1], [2, 3]])) == 2
    with pytest.raises(TypeError, match="len"):
        len(mpqueue.Loader(source, sampler=iter([1])))


def test_epochs_are_counted_and_close_stops_workers():
    loader = mpqueue.Loader(range(4), batch_size=2, workers=1)
    assert loader.epoch == 0
    for number in range(2):
        for _ in loader:
            assert loader.epoch == number
        assert loader.epoch == number + 1
    stream = iter(loader)
    next(stream)
    assert loader.epoch == 2
    loader.close()
    assert not loader.is_alive()


def test_getitems_with_too_few_samples_raises():
    short = Computed(int, 5)
    short.__getitems__ = lambda indices: [0]
    with mpqueue.Loader(short, batch_size=2, workers=0) as loader:
        with pytest.raises(ValueError, match=r"__getitems__ must return one sample per index \(2\), got 1"):
            next(iter(loader))
