"""Batches after an exclusion in a stream with buffers: they follow from its place, in each way of running."""

import contextlib
import functools
import json
import os
import signal

import pytest
from helpers import pipelines
from helpers.pipelines import Kept, Raising, linked

import mpqueue
from mpqueue import Dataset
from mpqueue.worker import lane_runner

FIRST, SECOND, COUNT = 6, 11, 20  # the batches before the exclusions, and in total


def part(length):
    return Dataset.range(length).filter(Kept(1)).shuffle(buffer=6)


def mix():
    return Dataset.mix(
        {"a": part(120), "b": Dataset.range(200).shuffle(buffer=4)}, weights={"a": 3, "b": 1}, stop="all"
    )


STREAMS = {
    "a mix": lambda: mix().shuffle(buffer=5).batch(4, collate=tuple),
    "threads and errors": lambda: part(400).map(Raising(2), threads=2).batch(3, collate=tuple),
    "packed": lambda: linked(part(400), ("pack", pipelines.Numbers(1), 9, "best_fit", 3, "cut")).batch(
        2, collate=tuple
    ),
    "repeated and cached": lambda: part(60).repeat(3).cache().shuffle(buffer=5).batch(3, collate=tuple),
}


def ids(name, salt):
    chosen = [number for number in range(60) if pipelines.digest(number, salt) % 3 == 0]
    return {"a": chosen, "b": chosen} if name == "a mix" else chosen


def opened(name, options):
    return mpqueue.Loader(STREAMS[name](), lanes=4, seed=5, restarts=10, **options)


def run(name, *, resumed_at=(), then=0, kills=(), seek=None, weights=False, **options):
    """Return the batches of a run with two changes, and the results of the changes; errors are in their places."""
    found, results = [], []
    with contextlib.ExitStack() as stack:
        loader = stack.enter_context(opened(name, {"workers": 0} | options))
        batches = iter(loader)

        def resumed():
            state = json.loads(json.dumps(loader.state_dict()))
            loader.stop()
            other = stack.enter_context(opened(name, options | {"workers": then}))
            other.load_state_dict(state)
            return other, iter(other)

        while len(found) < COUNT:
            number = len(found)
            if number in resumed_at:
                loader, batches = resumed()
            if number in {FIRST, SECOND}:
                loader.exclude(ids(name, number))
                if weights:
                    results.append(loader.set_weights({"a": 1, "b": number}))
                if number in resumed_at:  # after the change, too
                    loader, batches = resumed()
            if number == seek:
                loader.seek(0, 3)
                batches = iter(loader)
            if number in kills:
                pids = [worker.pid for worker in loader.statistics().workers if worker.pid]
                os.kill(pids[number % len(pids)], signal.SIGKILL)
            found += pipelines.outcomes_of(batches.__next__, 1)
            assert len(found) == number + 1
    return [repr(each) for each in found], results


@functools.cache
def expected(name, seek=None, *, weights=False):
    return run(name, seek=seek, weights=weights)


@pytest.mark.parametrize("is_saved", [False, True], ids=["no snapshots", "many snapshots"])
@pytest.mark.parametrize(
    "way",
    [
        {"workers": 1},
        {"workers": 3, "start_method": "fork"},
        {"workers": 2, "backend": "thread"},
        {"workers": 2, "start_method": "fork", "kills": (4, 9, 13)},
        {"workers": 0, "resumed_at": (3, FIRST, 9), "then": 2},
        {"workers": 2, "resumed_at": (FIRST, SECOND), "then": 0},
    ],
    ids=["one worker", "three workers", "threads", "crashes", "resumed by workers", "resumed without workers"],
)
@pytest.mark.parametrize("name", STREAMS)
def test_batches_after_an_exclusion_are_the_same_in_each_way_of_running(name, way, is_saved, request):
    if is_saved:
        request.getfixturevalue("always_saved")
    assert run(name, **way) == expected(name)


@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("name", STREAMS)
def test_seek_before_an_exclusion_gives_the_same_batches_with_workers(name):
    assert run(name, workers=2, seek=15, start_method="fork") == expected(name, 15)


@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize(
    "way", [{"workers": 2}, {"workers": 2, "resumed_at": (9,), "then": 3}], ids=["workers", "resumed"]
)
def test_first_sample_with_new_weights_follows_from_the_place(way):
    assert run("a mix", weights=True, start_method="fork", **way) == expected("a mix", weights=True)


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
