"""The samples of a batch of a stream, and a stream without some of its samples."""

import itertools
import os
import signal

import pytest
from helpers.drawing_sources import copied, drawing

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import WorkerDied


def generated():
    """Yield the share of the lane."""
    info = mpqueue.worker_info()
    yield from map(drawing, range(info.shard_id, 60, info.num_shards))


def test_function_without_dataset_has_pairs_of_lane_and_number():
    with mpqueue.Loader(generated, batch_size=4, lanes=4, workers=1, seed=1) as loader:
        for batch in loader:
            assert [lane + 4 * number for lane, number in loader.last.samples] == copied(batch)["index"]
        with pytest.raises(ValueError, match=r"mpqueue.Dataset\(function\)"):
            loader.exclude([(0, 1)])
        next(iter(loader))
        with pytest.raises(ValueError, match=r"mpqueue.Dataset\(function\)"):
            loader.exclude([(0, 1)])


def unread():
    """Raise an error if a lane is read."""
    yield from ()
    raise AssertionError("the stream was read")


@pytest.mark.parametrize("method", ["explain", "compute", "seek"])
@pytest.mark.parametrize("source", [unread, Dataset(unread).batch(2), iter([1, 2])], ids=["function", "stages", "iter"])
def test_batch_at_any_place_is_refused_before_anything_runs(method, source):
    with mpqueue.Loader(source, workers=0) as loader:
        with pytest.raises(ValueError, match=f"{method} requires a source with an index.*load_state_dict.*loader.last"):
            getattr(loader, method)(0, 0)
        assert loader.statistics().batches == 0


def test_last_of_an_iterator_takes_none_of_its_elements():
    with mpqueue.Loader(iter(range(6)), batch_size=2, workers=0) as loader:
        found = []
        for batch in loader:
            found += batch.tolist()
            with pytest.raises(LookupError, match="yields each element once: pass a function"):
                _ = loader.last.samples
    assert found == [*range(6)]


@pytest.mark.filterwarnings("ignore:3 ranks share a stream")
@pytest.mark.parametrize("taken", [4, 5, 7])
def test_last_knows_exclusions_on_a_number_of_ranks_that_does_not_divide_the_batches(taken):
    kept = Dataset.range(48).filter(bool).batch(3)
    with mpqueue.Loader(kept, workers=0, lanes=6) as loader:
        list(itertools.islice(loader, taken))
        loader.exclude(range(24))
        state = loader.state_dict()
    found = []
    for rank in range(3):
        with mpqueue.Loader(kept, workers=0, lanes=6, shard=(rank, 3)) as loader:
            loader.load_state_dict(state)
            for batch in loader:
                assert loader.last.samples == tuple(batch.tolist())
                found += batch.tolist()
    assert found
    assert min(found) >= 24


def test_part_of_a_mixture_is_excluded():
    parts = {"web": Dataset.range(30), "code": Dataset.range(30)}
    dataset = Dataset.mix(parts, weights={"web": 1, "code": 1}, stop="all").shuffle(buffer=4).batch(5)
    with mpqueue.Loader(dataset, lanes=2, workers=0, seed=1, exclude={"web": range(10)}) as loader:
        samples = [sample for _ in loader for sample in loader.last.samples]
    assert {number for part, number in samples if part == "web"} == set(range(10, 30))
    assert {number for part, number in samples if part == "code"} == set(range(30))
    with pytest.raises(ValueError, match="no part 'books'"):
        mpqueue.Loader(dataset, exclude={"books": [1]})


class Fatal:
    """A function that kills its process at one sample, and reports the samples of its calls."""

    def __init__(self, told, deadly):
        self.told, self.deadly = told, deadly

    def __call__(self, number):
        with open(self.told, "a", encoding="utf-8") as file:
            file.write(f"{number} ")
        if number == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return number


@pytest.mark.parametrize("stages", [lambda data: data.batch(4), lambda data: data.shuffle(buffer=5).batch(4)])
def test_excluded_sample_that_kills_its_worker_is_not_computed(stages, tmp_path):
    dataset = stages(Dataset.range(400).map(Fatal(tmp_path / "told", 399)).filter(lambda _: True))
    with mpqueue.Loader(dataset, lanes=2, workers=1, seed=1) as loader:
        batches = iter(loader)
        found = [*next(batches)]
        loader.exclude([399])
        found += [number for batch in batches for number in batch]
        assert sorted(found) == list(range(399))
        assert loader.statistics().restarts == 0
    assert " 399 " not in (tmp_path / "told").read_text()


def test_worker_that_an_excluded_sample_before_a_cache_kills_names_what_helps(tmp_path):
    dataset = Dataset.range(40).map(Fatal(tmp_path / "told", 39)).filter(lambda _: True).cache().batch(4)
    with mpqueue.Loader(dataset, lanes=2, workers=1, restarts=0) as loader:
        batches = iter(loader)
        next(batches)
        loader.exclude([39])
        with pytest.raises(WorkerDied) as caught:
            list(batches)
    assert any("return another value" in note for note in caught.value.__notes__)
