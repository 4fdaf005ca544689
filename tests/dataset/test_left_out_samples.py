"""Samples that are excluded or raise, below the stage that makes elements of several samples: the others remain.

The batches themselves are compared by the player of ``tests/model``.
"""

import os
import signal

import numpy as np
import pytest
from helpers.computed import Computed

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import TooManyErrors


def same(value):
    return value


def as_list(batch):
    return batch.tolist()


def broken(index):
    if index in (4, 9):
        raise OSError(f"sample {index} is broken")
    return index


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_samples_are_counted_logged_and_named_once(workers, caplog):
    data = Dataset(Computed(broken, 24)).batch(3).map(same)
    for batched in (data, data.map(as_list).batch(2, collate=list)):
        caplog.clear()
        with mpqueue.Loader(batched, workers=workers, on_error="skip") as loader:
            named = []
            for batch in loader:
                assert loader.last.samples == tuple(np.hstack(batch).tolist())
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
