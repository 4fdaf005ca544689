"""on_error="skip" skips samples and batches that raise: counted, logged, bounded."""

import logging
from functools import partial

import numpy as np
import pytest
from helpers.computed_source import AtOnce, Computed
from helpers.forked_calls import exit_at_once
from helpers.loader_runs import batches_of

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import TooManyErrors

pytestmark = pytest.mark.sample(2)

BACKENDS = [(0, "process"), (2, "process"), (2, "thread")]
backends = pytest.mark.parametrize(("workers", "backend"), BACKENDS)


def broken(index):
    """Raise for every fourth sample, and for two in a row."""
    if index % 4 == 1 or index in (6, 7):
        raise ValueError(f"sample {index} is broken")
    return index, np.full(2000, index)


BROKEN, BROKEN_AT_ONCE = Computed(broken, 10), AtOnce(broken, 10)


@pytest.mark.parametrize(
    ("workers", "backend", "source"),
    [(0, "process", BROKEN), (2, "process", BROKEN), (2, "process", BROKEN_AT_ONCE), (2, "thread", BROKEN_AT_ONCE)],
)
def test_broken_samples_are_skipped(source, workers, backend, caplog):
    with mpqueue.Loader(source, batch_size=2, on_error="skip", workers=workers, backend=backend) as loader:
        for number in (1, 2):
            batches = list(loader)
            assert [batch[0].tolist() for batch in batches] == [[0], [2, 3], [4], [8]]
            assert all((batch[1] == batch[0][:, None]).all() for batch in batches)
            assert loader.statistics().skipped == 5 * number
    assert loader.statistics().skipped == 10
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sum("skipped index 9 of epoch 0" in text and "sample 9 is broken" in text for text in logged) == 1
    with_traceback = [text for text in logged if "raised:\nTraceback (most recent call last):\n  File " in text]
    assert len(with_traceback) == 1, "each error of the same line is printed in full"
    assert "skipped index 1 of epoch 0" in with_traceback[0]
    again = "because the source raised the error of this line again (2 times so far): ValueError: sample 5 is broken"
    assert f"skipped index 5 of epoch 0 {again}" in logged


def test_error_of_each_line_is_logged_with_its_traceback(caplog):
    def raises(index):
        if index % 2:
            raise ValueError("one")
        raise ValueError("two")

    assert batches_of(Computed(raises, 6), batch_size=3, on_error="skip", workers=0) == []
    logged = [record.getMessage() for record in caplog.records]
    assert ["Traceback" in text for text in logged] == [True, True, False, False, False, False]


@backends
def test_more_than_max_errors_raise(workers, backend):
    options = {"batch_size": 2, "on_error": "skip", "workers": workers, "backend": backend}
    with mpqueue.Loader(BROKEN, max_errors=5, **options) as loader:
        assert [len(list(loader)) for _ in range(2)] == [4, 4]
    with mpqueue.Loader(BROKEN, max_errors=2, **options) as loader:
        stream = iter(loader)
        assert [next(stream)[0].tolist() for _ in range(3)] == [[0], [2, 3], [4]]
        with pytest.raises(TooManyErrors, match="max_errors=2") as caught:
            next(stream)
    assert (caught.value.count, caught.value.max_errors, caught.value.epoch) == (3, 2, 0)
    assert "sample 6 is broken" in caught.value.latest


def test_undelivered_errors_are_not_counted():
    with mpqueue.Loader(BROKEN, batch_size=2, on_error="skip", workers=1) as loader:
        next(iter(loader))
        assert loader.statistics().skipped == 1


def test_batch_that_cannot_be_collated_is_skipped():
    unlike = Computed(lambda index: np.ones(3 if index == 5 else 2), 10)
    with mpqueue.Loader(unlike, batch_size=2, on_error="skip", workers=1) as loader:
        assert len(list(loader)) == 4
        assert loader.statistics().skipped == 2


@pytest.mark.parametrize("kind", [MemoryError, StopIteration])
def test_all_exceptions_of_source_are_skipped(kind):
    def raises(index):
        if index == 3:
            raise kind("no")
        return index

    assert batches_of(Computed(raises, 10), batch_size=5, on_error="skip", workers=1) == [[0, 1, 2, 4], [5, 6, 7, 8, 9]]


def raising(make):
    """Return a function that raises for 5."""

    def compute(number):
        if number == 5:
            raise make()
        return number

    return compute


class Asynchronous(Computed):
    async def __getitem__(self, index):
        return self.function(index)


def is_true(_):
    return True


# For a function of a number: a source of the numbers from 0 to 11, and options of its loader.
SOURCES = {
    "samples": lambda f: (Computed(f, 12), {}),
    "samples at once": lambda f: (AtOnce(f, 12), {}),
    "samples in threads": lambda f: (Computed(f, 12), {"threads": 2}),
    "coroutines": lambda f: (Asynchronous(f, 12), {}),
    "generator": lambda f: (partial(map, f, range(12)), {"lanes": 1}),
    "dataset": lambda f: (Dataset.range(12).map(f).batch(4), {"batch_size": None}),
    "stream": lambda f: (Dataset.range(12).map(f).filter(is_true).batch(4), {"batch_size": None, "lanes": 1}),
    "stream in threads": lambda f: (
        Dataset.range(12).filter(is_true).map(f, threads=2).batch(4),
        {"batch_size": None, "lanes": 1},
    ),
}


@pytest.mark.sample(7)
@backends
@pytest.mark.parametrize("name", SOURCES)
def test_sample_that_exits_is_left_out_alone(name, workers, backend):
    source, options = SOURCES[name](raising(partial(SystemExit, "a library gave up")))
    options = {"batch_size": 4, "on_error": "skip", "workers": min(workers, 1), "backend": backend} | options
    with mpqueue.Loader(source, **options) as loader:
        found = [number for batch in loader for number in np.ravel(batch).tolist()]
        assert found == [0, 1, 2, 3, 4, *range(6, 12)]
        assert loader.statistics().skipped == 1


@backends
def test_error_of_sample_replaces_its_batch(workers, backend):
    with mpqueue.Loader(BROKEN, batch_size=4, workers=workers, backend=backend, drop_last=True) as loader:
        stream = iter(loader)
        for index, batch in ((1, 0), (5, 1)):
            with pytest.raises(ValueError, match=f"sample {index} is broken") as caught:
                next(stream)
            assert f"the sample of index {index}, at place {index} of the epoch" in caught.value.__notes__
            assert any(note.startswith(f"raised for batch {batch} of epoch 0") for note in caught.value.__notes__)
        assert list(stream) == []


def test_worker_crash_is_not_skipped():
    dies = Computed(lambda index: index if index != 3 else exit_at_once(7), 10)
    with mpqueue.Loader(dies, batch_size=2, on_error="skip", workers=1, restarts=0) as loader:
        stream = iter(loader)
        next(stream)
        with pytest.raises(mpqueue.errors.WorkerDied, match="exit code 7"):
            next(stream)
        assert next(stream).tolist() == [4, 5]
