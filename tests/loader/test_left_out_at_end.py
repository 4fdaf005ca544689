"""Samples of a stream that are left out use up no number of a batch, also after the last batch of a virtual shard."""

import errno
import logging
import os
from functools import partial

import pytest
from helpers.server_directories import servers_directory  # noqa: F401

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import SharedMemoryFull, TooManyErrors

pytestmark = pytest.mark.sample(2)

BACKENDS = [{"workers": 0}, {"workers": 2}, {"workers": 2, "backend": "thread"}]
IDS = ["inline", "processes", "threads"]


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")


class Items:
    """An iterator that raises for some items, also for the last one."""

    def __init__(self, lane):
        self.lane, self.number = lane, -1

    def __iter__(self):
        return self

    def __next__(self):
        self.number += 1
        if self.number == 7:
            raise StopIteration
        if self.number in (2, 3, 6):
            raise ValueError(self.number)
        return 10 * self.lane + self.number


def items():
    return Items(mpqueue.worker_info().lane)


def loader_of(source, **options):
    return mpqueue.Loader(source, **({"workers": 0, "seed": 3, "lanes": 3, "on_error": "skip"} | options))


def as_list(batch):
    return batch.tolist() if hasattr(batch, "tolist") else batch


def placed(loader, batches):
    """Return the number and the contents of each batch, and the count of each virtual shard after it."""
    return [(loader.last.batch, as_list(batch), loader.state_dict()["counts"]) for batch in batches]


@pytest.mark.parametrize(
    ("options", "of_lane"),
    [
        ({}, [0, 1, 4, 5]),
        ({"batch_size": 2}, [[0, 1], [4, 5]]),  # a batch in the middle, and the last one, have no samples
        ({"batch_size": 3}, [[0, 1], [4, 5]]),
        ({"batch_size": 5}, [[0, 1, 4], [5]]),
        ({"batch_size": 5, "drop_last": True}, [[0, 1, 4]]),
    ],
    ids=str,
)
@pytest.mark.parametrize("backend", BACKENDS, ids=IDS)
def test_elements_of_generator_functions(options, of_lane, backend):
    whole = [
        [10 * lane + each for each in batch] if isinstance(batch, list) else 10 * lane + batch
        for batch in of_lane
        for lane in range(3)
    ]
    with loader_of(items, **options, **backend) as loader:
        for epoch in range(2):
            assert [each[:2] for each in placed(loader, loader)] == list(enumerate(whole))
            assert loader.statistics().skipped == 9 * (epoch + 1)


def is_early(value):
    if value > 6:
        raise ValueError(value)
    return True


@pytest.mark.parametrize("options", BACKENDS, ids=IDS)
def test_too_many_errors_at_the_end_replace_no_batch(options):
    with loader_of(Dataset.range(10).filter(is_early), lanes=2, max_errors=2, **options) as loader:
        for epoch in range(2):
            found = []
            with pytest.raises(TooManyErrors, match=f"3 samples or batches of epoch {epoch} "):
                found.extend(loader)
            assert found == list(range(7))
            assert loader.last.batch == 6
            assert list(loader) == []  # the rest of the epoch


@pytest.mark.usefixtures("servers_directory")
def test_consumer_gets_too_many_errors_at_the_end_after_all_batches():
    data = Dataset.range(10).filter(is_early)
    with mpqueue.Server("s", data, workers=1, lanes=2, on_error="skip", max_errors=2):
        with mpqueue.attach("s", timeout=60) as consumer:
            found = []
            with pytest.raises(TooManyErrors):
                for batch in consumer:
                    found.append(int(batch))
            assert len(found) == 7


def without_memory(is_full):
    """Fail to reserve memory for a slot while a function returns True; a `worker_init`."""
    real = os.posix_fallocate

    def fallocate(fd, offset, length):
        if is_full():
            raise OSError(errno.ENOSPC, "no space left on device")
        real(fd, offset, length)

    os.posix_fallocate = fallocate


def has_long_text(value):
    if value:
        raise ValueError("x" * (1 << 18))
    return True


def test_samples_at_the_end_do_not_vanish_without_memory_for_their_errors(tmp_path):
    full = tmp_path / "full"
    full.touch()
    data = Dataset.range(3).filter(has_long_text)
    with loader_of(data, lanes=1, workers=1, worker_init=partial(without_memory, full.exists)) as loader:
        batches = iter(loader)
        assert next(batches) == 0
        with pytest.raises(SharedMemoryFull):
            next(batches)
        full.unlink()
        assert list(loader) == []
        assert list(loader) == [0]
        assert loader.statistics().skipped == 2
        assert loader.statistics().deaths == 0
