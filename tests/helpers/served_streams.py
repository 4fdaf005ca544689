"""A stream with buffers and random numbers, for tests of servers, and its batches from a loader."""

import itertools

import numpy as np

import mpqueue


def stream(length):
    """Return a stream of pairs: a number that is not divisible by 4, and a random number."""
    return (
        mpqueue.Dataset.range(length)
        .shuffle()
        .map(lambda x: np.array([x, mpqueue.rng().random()]))
        .filter(lambda pair: pair[0] % 4 != 0)
        .shuffle(buffer=5)
        .batch(2)
    )


def plain(batches):
    return [batch.tolist() for batch in batches]


def some(loop, count):
    """Return the next batches of a loop."""
    return plain(itertools.islice(loop, count))


def loaded(source, num_epochs=1, **options):
    """Return the epochs of a loader."""
    with mpqueue.Loader(source, workers=0, seed=3, **options) as loader:
        return [plain(loader) for _ in range(num_epochs)]
