"""Samples that are excluded or raise, below the stage that makes elements of several samples: the others remain.

The batches themselves are compared by the player of ``tests/model``.
"""

import logging
import os
import signal

import pytest
from helpers.computed import Computed
from helpers.server_directories import servers_directory  # noqa: F401

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import TooManyErrors

LENGTH, OUT = 24, (4, 6, 7, 8, 13)  # with a batch of 3 that has no other sample


def same(value):
    return value


def true(_):
    return True


def as_list(batch):
    return batch.tolist()


def samples_of(value):
    """Return the numbers in an element, in order."""
    if isinstance(value, dict):  # a row of `pack`
        return value["tokens"][value["segment_ids"] > 0].tolist()
    if isinstance(value, list | tuple):
        return [number for each in value for number in samples_of(each)]
    found = value.tolist() if hasattr(value, "tolist") else value
    return found if isinstance(found, list) else [found]


class Broken:
    """A source whose samples raise if they are left out; so a request for an excluded one fails."""

    def __init__(self, out=OUT):
        self.out = set(out)

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        if index in self.out:
            raise OSError(f"sample {index} is broken")
        return index


def epochs(data, count=2, **options):
    """Return the samples of each batch, in each epoch."""
    with mpqueue.Loader(data, **options) as loader:
        return [[samples_of(batch) for batch in loader] for _ in range(count)]


def all_of(batches):
    return sorted(sample for batch in batches for sample in batch)


@pytest.mark.parametrize("stages", [(), ("filter",)])
def test_cache_has_whole_elements_only(stages, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")
    numbers = Dataset(Broken([4])).batch(3).map(same)
    cached = (numbers.filter(true) if stages else numbers).cache(str(tmp_path))
    options = {"workers": 0, "seed": 0}
    expected = [[number for number in batch if number != 4] for batch in epochs(Dataset.range(LENGTH).batch(3), 1)[0]]
    for _ in range(2):
        with mpqueue.Loader(cached, on_error="skip", **options) as loader:
            assert sorted(map(as_list, loader)) == expected
            assert loader.statistics().skipped == 1
    repaired = Dataset(Broken(())).batch(3).map(same)
    repaired = (repaired.filter(true) if stages else repaired).cache(str(tmp_path))
    for exclude in ((), [4], range(3, 6), ()):
        # A stream computes whole elements for its cache. By index, excluded samples are not requested.
        of_exclude = repaired if stages or 4 not in exclude else cached
        assert all_of(epochs(of_exclude, 1, exclude=exclude, **options)[0]) == [
            number for number in range(LENGTH) if number not in exclude
        ]


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_samples_are_counted_logged_and_named_once(workers, caplog):
    data = Dataset(Broken([4, 9])).batch(3).map(same)
    for batched in (data, data.map(as_list).batch(2, collate=list)):
        caplog.clear()
        with mpqueue.Loader(batched, workers=workers, on_error="skip") as loader:
            named = []
            for batch in loader:
                assert loader.last.samples == tuple(samples_of(batch))
                named += loader.last.skipped
            assert named == [4, 9]
            assert loader.statistics().skipped == 2
        logged = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
        assert [text.splitlines()[0] for text in logged] == [
            f"skipped sample {number} of epoch 0 because the source raised:" for number in (4, 9)
        ]
        with mpqueue.Loader(batched, workers=workers, on_error="skip", max_errors=1) as loader:
            with pytest.raises(TooManyErrors, match="max_errors=1"):
                list(loader)


def test_batch_of_a_crashed_worker_is_computed_again_without_the_samples(tmp_path):
    marker = tmp_path / "crashed"

    def crash_once(number):
        if number == 7 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    data = Dataset(Computed(crash_once, 12)).batch(3).map(same)
    with mpqueue.Loader(data, workers=1, start_method="fork", exclude=[4, 8], restarts=1) as loader:
        assert [batch.tolist() for batch in loader] == [[0, 1, 2], [3, 5], [6, 7], [9, 10, 11]]
    assert marker.exists()
