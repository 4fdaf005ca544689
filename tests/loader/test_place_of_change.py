"""Exclusions and new weights where a stream or an iterator has ended, or fails in the trainer."""

import os

import pytest
from model.functions import Kept

import mpqueue
from mpqueue import Dataset
from mpqueue.worker import lane_runner


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


class RaisesIn:
    """A function that raises in one process."""

    def __init__(self, pid):
        self.pid = pid

    def __call__(self, number):
        if os.getpid() == self.pid:
            raise OSError("no access here")
        return number


def test_change_raises_the_error_of_a_source_that_fails_only_in_the_trainer(monkeypatch):
    """Otherwise the returned samples of the failing element would come again."""
    monkeypatch.setattr(lane_runner, "_BETWEEN_NS", 1 << 62)  # no snapshot: the change runs the stream again
    stream = Dataset.range(40).map(RaisesIn(os.getpid())).filter(Kept(1)).batch(4)
    with mpqueue.Loader(stream, workers=1, start_method="fork", lanes=2) as loader:
        batches = iter(loader)
        found = list(next(batches))
        with pytest.raises(OSError, match="no access here"):
            loader.exclude([7])
        assert "history" not in loader.state_dict()
        found += [number for batch in batches for number in batch]
    assert sorted(found) == [number for number in range(40) if Kept(1)(number)]
