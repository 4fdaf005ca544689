"""Samples that are started as a block: each has the same random numbers as when started alone."""

import gc
import weakref

import pytest

from mpqueue.seeding import seeds
from mpqueue.worker.sample_block import SampleBlock

SAMPLES, PLACES = list("abcde"), [10, (3, 4), 12, 13, 14]


def block():
    return SampleBlock(7, 2, list(SAMPLES), PLACES)


def of(number):
    return 7, 2, seeds.place_of(PLACES[number])


def test_block_returns_the_present_sample():
    begun = block()
    asked = dict(zip(SAMPLES, range(5), strict=True))
    assert [begun.of() == of(asked[sample]) for sample in begun.samples] == [True] * 5
    assert begun.of() == of(4)


def test_present_sample_is_one_object():
    begun = block()
    next(begun.samples)
    first, generator = begun.of(), begun.rng()
    assert begun.of() is first
    assert begun.rng() is generator
    expected = seeds.generator(seeds.BatchSeed(*of(0))).random()
    assert generator.random() == expected
    next(begun.samples)
    assert begun.of() is not first
    assert begun.rng().random() == seeds.generator(seeds.BatchSeed(*of(1))).random()


def test_error_keeps_the_results_before_it():
    begun, results = block(), []
    with pytest.raises(KeyError):
        results.extend(map({"a": 1, "b": 2}.__getitem__, begun.samples))
    begun.close()
    assert results == [1, 2]
    assert begun.of() == of(2)


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
