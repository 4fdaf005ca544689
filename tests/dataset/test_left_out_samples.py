"""Samples that are excluded or raise, below the stage that makes elements of several samples: the others remain.

The batches themselves are compared by the player of ``tests/model``.
"""

import pytest
from helpers.computed_source import Computed

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import TooManyErrors


def same(value):
    return value


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


def broken(index):
    if index in {4, 9}:
        raise OSError(f"sample {index} is broken")
    return index


BROKEN = Dataset(Computed(broken, 24)).batch(3).map(same)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_samples_are_counted_logged_and_named_once(workers, caplog):
    for batched in (BROKEN, BROKEN.map(as_list).batch(2, collate=list)):
        caplog.clear()
        with mpqueue.Loader(batched, workers=workers, on_error="skip") as loader:
            named = []
            for batch in loader:
                assert loader.last.samples == tuple(samples_of(batch))
                named += loader.last.skipped
            assert named == [4, 9]
            assert loader.statistics().skipped == 2
        again = "the error of this line again (2 times so far)"
        logged = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
        assert [text.splitlines()[0] for text in logged] == [
            "skipped sample 4 of epoch 0 because the source raised:",
            f"skipped sample 9 of epoch 0 because the source raised {again}: OSError: sample 9 is broken",
        ]
        with mpqueue.Loader(batched, workers=workers, on_error="skip", max_errors=1) as loader:
            with pytest.raises(TooManyErrors, match="max_errors=1"):
                list(loader)


def test_sample_of_an_earlier_pass_that_raised_is_in_no_batch():
    """Its element is held while later passes over the source begin."""
    streamed = Dataset.range(4).filter(lambda _: True).batch(1)
    source = Dataset.mix([BROKEN, streamed], stop="never").batch(60, collate=list)
    with mpqueue.Loader(source, lanes=1, seed=1, workers=0, on_error="skip", epoch_batches=2) as loader:
        for batch in loader:
            assert [number for _, number in loader.last.samples] == samples_of(batch)
