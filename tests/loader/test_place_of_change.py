"""Exclusions and new weights where stages hold elements, or a virtual shard has ended."""

import pytest
from model.functions import Kept, digest

import mpqueue
from mpqueue import Dataset


def with_exclusions(**options):
    """Return the batches of a mixture of buffers with two exclusions."""
    part = Dataset.range(120).filter(Kept(1)).shuffle(buffer=6)
    other = Dataset.range(200).shuffle(buffer=4)
    stream = Dataset.mix([part, other], weights=[3, 1], stop="all").shuffle(buffer=5).batch(4, collate=tuple)
    with mpqueue.Loader(stream, lanes=4, **options) as loader:
        batches, found = iter(loader), []
        for number in range(20):
            if number in {6, 11}:
                loader.exclude([(at, each) for at in (0, 1) for each in range(60) if digest(each, number) % 3 == 0])
            found.append(repr(next(batches)))
    return found


@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("seed", range(10))
def test_snapshots_are_taken_while_stages_hold_no_elements_that_they_read_ahead(seed):
    """Otherwise the batches after an exclusion would depend on the workers and on times."""
    assert with_exclusions(seed=seed, workers=3, start_method="fork") == with_exclusions(seed=seed, workers=0)


def is_early(number):
    return number % 2 == 1 or number == 0


def test_virtual_shard_that_ends_before_an_exclusion_keeps_its_end_at_later_changes():
    """Without the excluded samples, it would end earlier."""
    parts = {"a": Dataset.range(20).filter(is_early), "b": Dataset.range(40)}
    with mpqueue.Loader(Dataset.mix(parts), lanes=2, workers=0, seed=1) as loader:
        batches = iter(loader)
        assert [next(batches) for _ in range(6)] == [0, 1, 0, 1, 3, 5]  # the first virtual shard has ended
        loader.exclude({"a": [0]})
        loader.set_weights({"a": 1, "b": 3})
        assert len(list(batches)) > 10
