"""Samples that are started as a block: each has the same random numbers as when started alone."""

import gc
import weakref

import pytest

from mpqueue.seeding import seeds
from mpqueue.worker.sample_block import SampleBlock

SAMPLES, PLACES = list("abcde"), [10, (3, 4), 12, 13, 14]


def block():
    return SampleBlock(7, 2, list(SAMPLES), PLACES)


def test_error_keeps_the_results_before_it():
    begun, results = block(), []
    with pytest.raises(KeyError):
        results.extend(map({"a": 1, "b": 2}.__getitem__, begun.samples))
    begun.close()
    assert results == [1, 2]
    assert begun.of() == (7, 2, seeds.place_of(PLACES[2]))


def test_closed_block_keeps_no_sample():
    class Sample:
        pass

    samples = [Sample(), Sample()]
    kept = weakref.ref(samples[1])
    begun = SampleBlock(0, 0, samples, [0, 1])
    next(begun.samples)
    begun.close()
    del samples
    gc.collect()
    assert kept() is None
