"""Samples that are begun together: each has the numbers that it has when it is begun by itself."""

import gc
import weakref

import pytest

from mpqueue.seeding import seeds
from mpqueue.worker.sample_block import CurrentSample, SampleBlock, seed_of

SAMPLES, PLACES = list("abcde"), [10, (3, 4), 12, 13, 14]


def block():
    return SampleBlock(7, 2, list(SAMPLES), PLACES)


def of(number):
    return 7, 2, seeds.place_of(PLACES[number])


def test_whoever_asks_is_told_of_the_sample_at_work():
    begun = block()
    asked = dict(zip(SAMPLES, range(5), strict=True))
    assert [begun.of() == of(asked[sample]) for sample in begun.samples] == [True] * 5
    assert begun.of() == of(4)


def test_it_is_one_object_for_as_long_as_that_is_at_work():
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


@pytest.mark.parametrize("at", range(5))
def test_none_follows_the_one_at_which_it_is_stopped(at):
    begun, results = block(), []

    def call(sample):
        if sample == SAMPLES[at]:
            assert begun.stop() == of(at)
            assert begun.stop() == begun.of() == of(at)
        return sample

    results.extend(map(call, begun.samples))
    assert results == SAMPLES[: at + 1]
    begun.close()
    assert begun.of() == of(at)


def test_an_error_leaves_the_results_of_those_before():
    begun, results = block(), []
    with pytest.raises(KeyError):
        results.extend(map({"a": 1, "b": 2}.__getitem__, begun.samples))
    begun.close()
    assert results == [1, 2]
    assert begun.of() == of(2)


def test_no_sample_is_kept_behind_it():
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


def test_a_current_sample_is_one_or_that_of_a_block():
    current = CurrentSample()
    assert current.alone() is seed_of(current.of) is None
    current.of = 1, 2, 3
    assert current.alone() == seed_of(current.of) == (1, 2, 3)
    current.of = begun = block()
    next(begun.samples)
    next(begun.samples)
    assert seed_of(current.of) == of(1)
    assert next(begun.samples) == "c"
    assert current.alone() == of(2)
    assert list(begun.samples) == []
