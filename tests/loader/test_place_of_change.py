"""Exclusions and new weights after the end of a stream or an iterator."""

import pytest

import mpqueue
from mpqueue import Dataset


@pytest.mark.parametrize("options", [{"lanes": 2}, {"lanes": 2, "epoch_batches": 3}, {}], ids=str)
@pytest.mark.parametrize("workers", [0, 2])
def test_iterator_that_has_ended_returns_nothing_after_a_change(options, workers):
    mix = Dataset.mix({"a": Dataset.range(12), "b": Dataset.range(12)})
    dataset = mix.filter(bool) if "lanes" in options else mix
    with mpqueue.Loader(dataset, batch_size=4, workers=workers, backend="thread", **options) as loader:
        ended = iter(loader)
        assert len(list(ended)) > 2
        for change in (lambda: loader.exclude({"a": [5]}), lambda: loader.set_weights({"a": 1, "b": 2})):
            change()
            assert list(ended) == []
        assert loader.epoch == 1
        next(iter(loader))
        assert (loader.last.epoch, loader.last.batch) == (1, 0)
