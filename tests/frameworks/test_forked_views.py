"""A child that user code forks keeps the batch that it was forked with, in each frontend that returns views.

The player forks children of a `mpqueue.Loader`.
"""

import contextlib
import itertools

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.reading_children import fork_reading  # noqa: F401

import mpqueue
from mpqueue.memory import forked_views

LENGTH, NUM_FORKED = 40, 3
SMALL = {"workers": 1, "max_queue_size": 2}


# Item i is an array of the number i, large enough for a view.
NUMBERS = Computed(lambda index: np.full((4, 8192), index, np.float32), LENGTH)


def number_of(batch):
    """Return the number that all values of a batch are, or -1."""
    first = np.asarray(batch)
    return int(first.flat[0]) if (first == first.flat[0]).all() else -1


@contextlib.contextmanager
def torch_loader():
    pytest.importorskip("torch")
    from mpqueue.torch import DataLoader

    yield DataLoader(NUMBERS, batch_size=None, num_workers=2)


@contextlib.contextmanager
def enqueuer():
    with mpqueue.OrderedEnqueuer(NUMBERS, use_multiprocessing=True) as made:
        made.start(1, 2)
        yield itertools.islice(made.get(), LENGTH)


@contextlib.contextmanager
def consumer(tmp_path, **options):
    with (
        mpqueue.Server(str(tmp_path / "directory"), NUMBERS, mode="broadcast", **SMALL),
        mpqueue.attach(str(tmp_path / "directory"), **options) as made,
    ):
        yield made


@pytest.mark.parametrize("make", [torch_loader, enqueuer])
def test_forked_child_keeps_its_batch(make, fork_reading):  # noqa: F811
    check(make(), fork_reading)


@pytest.mark.parametrize("writable", [False, "copy"])
def test_child_of_a_consumer_keeps_its_batch(writable, tmp_path, fork_reading):  # noqa: F811
    check(consumer(tmp_path, writable=writable), fork_reading)


def check(opened, fork_reading):  # noqa: F811
    children = []
    with opened as batches:
        for index, batch in enumerate(batches):
            if index < NUM_FORKED:
                children.append(fork_reading(lambda: number_of(batch) == index))  # noqa: B023
    assert index == LENGTH - 1
    assert [child.end() for child in children] == [True] * NUM_FORKED
    forked_views.collect()  # the memory of a server remains mapped until then


def test_child_keeps_the_batch_of_a_closed_consumer(tmp_path, fork_reading):  # noqa: F811
    with consumer(tmp_path) as batches:
        batch = next(iter(batches))
        batches.close()
        child = fork_reading(lambda batch=batch: number_of(batch) == 0)
        del batch
        with mpqueue.attach(str(tmp_path / "directory")) as other:
            assert sum(1 for _ in other) == LENGTH
        assert child.end()
        forked_views.collect()
