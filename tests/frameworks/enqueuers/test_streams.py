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


def test_stream_is_equal_for_any_number_of_workers():
    expected = list(STREAM)
    for workers, options in ((0, {}), (2, {"use_multiprocessing": True}), (3, {"backend": "thread"})):
        with GeneratorEnqueuer(STREAM, seed=0, **options) as enqueuer:
            enqueuer.start(workers=workers)
            assert list(enqueuer.get()) == expected


def test_lanes_make_a_generator_function_independent_of_the_number_of_workers():
    def numbers():
        info = mpqueue.worker_info()
        yield from range(info.shard_id, 20, info.num_shards)

    for workers in (1, 3):
        with GeneratorEnqueuer(numbers, use_multiprocessing=True, lanes=4) as enqueuer:
            enqueuer.start(workers=workers)
            assert list(enqueuer.get()) == list(range(20))


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
