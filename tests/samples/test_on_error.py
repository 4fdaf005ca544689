"""on_error="skip" skips samples and batches that raise: counted, logged, bounded."""

import logging
import os

import numpy as np
import pytest
from helpers.computed import Computed

import mpqueue
from mpqueue.errors import TooManyErrors

BACKENDS = [(0, "process"), (2, "process"), (2, "thread")]
backends = pytest.mark.parametrize(("workers", "backend"), BACKENDS)


class Broken:
    """A source with every fourth sample broken, and two in a row."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index % 4 == 1 or index in (6, 7):
            raise ValueError(f"sample {index} is broken")
        return index, np.full(2000, index)


class BrokenAtOnce(Broken):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


@pytest.mark.parametrize(
    ("workers", "backend", "source"),
    [(0, "process", Broken()), (2, "process", Broken()), (2, "process", BrokenAtOnce()), (2, "thread", BrokenAtOnce())],
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
    assert all("raised:\nTraceback (most recent call last):\n  File " in text for text in logged)


@backends
def test_more_than_max_errors_raise(workers, backend):
    options = {"batch_size": 2, "on_error": "skip", "workers": workers, "backend": backend}
    with mpqueue.Loader(Broken(), max_errors=5, **options) as loader:
        assert [len(list(loader)) for _ in range(2)] == [4, 4]
    with mpqueue.Loader(Broken(), max_errors=2, **options) as loader:
        stream = iter(loader)
        assert [next(stream)[0].tolist() for _ in range(3)] == [[0], [2, 3], [4]]
        with pytest.raises(TooManyErrors, match="max_errors=2") as caught:
            next(stream)
    assert (caught.value.count, caught.value.max_errors, caught.value.epoch) == (3, 2, 0)
    assert "sample 6 is broken" in caught.value.latest


def test_undelivered_errors_are_not_counted():
    with mpqueue.Loader(Broken(), batch_size=2, on_error="skip", workers=1) as loader:
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

    with mpqueue.Loader(Computed(raises, 10), batch_size=5, on_error="skip", workers=1) as loader:
        assert [batch.tolist() for batch in loader] == [[0, 1, 2, 4], [5, 6, 7, 8, 9]]


@backends
def test_error_of_sample_replaces_its_batch(workers, backend):
    with mpqueue.Loader(Broken(), batch_size=4, workers=workers, backend=backend, drop_last=True) as loader:
        stream = iter(loader)
        for broken, batch in ((1, 0), (5, 1)):
            with pytest.raises(ValueError, match=f"sample {broken} is broken") as caught:
                next(stream)
            assert f"the sample of index {broken}, at place {broken} of the epoch" in caught.value.__notes__
            assert any(note.startswith(f"raised for batch {batch} of epoch 0") for note in caught.value.__notes__)
        assert list(stream) == []


def test_worker_crash_is_not_skipped():
    dies = Computed(lambda index: index if index != 3 else os._exit(7), 10)
    with mpqueue.Loader(dies, batch_size=2, on_error="skip", workers=1, restarts=0) as loader:
        stream = iter(loader)
        next(stream)
        with pytest.raises(mpqueue.errors.WorkerDied, match="exit code 7"):
            next(stream)
        assert next(stream).tolist() == [4, 5]
