"""Datasets that are streams, and lanes, in enqueuers."""

import pytest

import mpqueue
from mpqueue import GeneratorEnqueuer, OrderedEnqueuer

STREAM = (
    mpqueue.Dataset.range(200)
    .shuffle()
    .map(lambda x: (x, mpqueue.rng().random()))
    .filter(lambda pair: pair[0] % 3 != 0)
    .shuffle(buffer=5)
)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: OrderedEnqueuer(STREAM), TypeError, "stage 3, filter.*GeneratorEnqueuer, .*mpqueue.keras.accelerate"),
        (lambda: GeneratorEnqueuer(mpqueue.Dataset.range(4)), TypeError, "by index.*OrderedEnqueuer"),
        (lambda: GeneratorEnqueuer(STREAM, lanes=0), ValueError, "lanes must be 1 or more"),
        (lambda: GeneratorEnqueuer(iter([1]), lanes=2), ValueError, "an iterator"),
    ],
)
def test_unsupported_source_is_rejected_before_a_process_starts(make, error, text):
    with pytest.raises(error, match=text):
        make()
