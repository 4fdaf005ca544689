"""The samples of a batch of a stream, and a stream without some of its samples."""

import itertools
import os
import signal
from typing import Any

import pytest
from helpers.drawing_sources import copied, drawing, has_even_index

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import WorkerDied

pytestmark = pytest.mark.sample(2)


def generated():
    """Yield the share of the lane."""
    info = mpqueue.worker_info()
    yield from map(drawing, range(info.shard_id, 60, info.num_shards))


def repeated(sample):
    """Return a sample twice."""
    return [sample, sample]


ENDED = object()


def failing(number):
    """Return a number, or raise an error for each tenth."""
    if number % 10 == 3:
        raise ValueError(number)
    return number


def is_any(_):
    """Return True."""
    return True


STREAMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a buffer": (lambda: Dataset.range(90).shuffle(buffer=20).map(drawing).batch(5), {}),
    "a filter": (lambda: Dataset.range(90).map(drawing).filter(has_even_index).shuffle(buffer=7).batch(5), {}),
    "items": (lambda: Dataset.range(40).map(drawing).flat_map(repeated).batch(3), {}),
    "an endless stream": (lambda: Dataset.range(50).map(drawing).shuffle(buffer=7).batch(4), {"epoch_batches": 9}),
    "a generator": (lambda: Dataset(generated).batch(4), {}),
}


def loader_of(name, **options):
    make, needed = STREAMS[name]
    return mpqueue.Loader(make(), **({"seed": 3, "lanes": 4, "workers": 0} | needed | options))


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


@pytest.mark.parametrize("name", STREAMS)
def test_loop_from_a_state_to_a_place_has_the_same_batch_and_samples(name):
    with loader_of(name) as loader, loader_of(name, workers=1) as other:
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        seen = [(copied(next(batches)), loader.last) for _ in range(3)]
        other.load_state_dict(state)
        again = iter(other)
        assert [(copied(next(again)), other.last) for _ in range(3)] == seen


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"workers": 1}, {"workers": 3}, {"workers": 3, "backend": "thread"}]
)
@pytest.mark.sample(3)
@pytest.mark.parametrize("name", STREAMS)
def test_exclusion_after_a_load_begins_at_the_loaded_place(name, options):
    with loader_of(name) as loader:
        batches = iter(loader)
        for _ in range(2):
            next(batches)
        state = loader.state_dict()
        following = [loader.last.samples for _ in batches]
    excluded = {*following[0], *following[3]}
    with loader_of(name, **options) as loader:
        loader.load_state_dict(state)
        loader.exclude(excluded)
        rest = [sample for _ in loader for sample in loader.last.samples]
        again = [sample for _ in loader for sample in loader.last.samples]
    assert rest
    assert excluded.isdisjoint(rest)
    assert excluded.isdisjoint(again)
    if name != "an endless stream":  # there, later samples move up into the epoch
        assert sorted(rest) == sorted(sample for samples in following for sample in samples if sample not in excluded)


@pytest.mark.parametrize("is_read_late", [False, True])
@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2, "backend": "thread"}], ids=str)
@pytest.mark.sample(3)
@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.usefixtures("always_saved")
def test_last_before_a_change_stays_as_it_was(name, options, is_read_late):
    with loader_of(name, **options) as plain, loader_of(name, **options) as loader:
        for _ in itertools.islice(plain, 6):
            found = plain.last.samples
        batches = iter(loader)
        for _ in range(6):
            next(batches)
        late = loader.last
        if not is_read_late:
            assert late.samples == found
        for excluded in (found[:2], found[2:3]):
            loader.exclude(excluded)
            assert loader.last.samples == late.samples == found
        loader.stop()
        assert loader.last.samples == found
        for _ in batches:
            assert set(loader.last.samples).isdisjoint(found[:3])


@pytest.mark.parametrize("changes", [1, 2])
def test_last_before_new_weights_stays_as_it_was(changes):
    parts = {"a": Dataset.range(200), "b": Dataset.range(200)}
    with mpqueue.Loader(Dataset.mix(parts).filter(bool).batch(4), lanes=2, workers=0) as loader:
        batches = iter(loader)
        found = [(next(batches), loader.last.samples) for _ in range(5)][-1][1]
        for _ in range(changes):
            loader.set_weights({"a": 1, "b": 9})
            assert loader.last.samples == found


def test_last_of_an_iterator_takes_none_of_its_elements():
    with mpqueue.Loader(iter(range(6)), batch_size=2, workers=0) as loader:
        found = []
        for batch in loader:
            found += batch.tolist()
            with pytest.raises(LookupError, match="yields each element once: pass a function"):
                _ = loader.last.samples
    assert found == [*range(6)]


def test_last_after_an_error_names_the_samples_of_its_batch():
    """A batch without the sample that raised takes the next one."""
    stream = Dataset.range(40).map(failing).batch(4)
    with mpqueue.Loader(stream.filter(is_any), lanes=2, workers=1, backend="thread") as loader:
        num_failed, batches, batch = 0, iter(loader), None
        while batch is not ENDED:
            try:
                batch = next(batches, ENDED)
            except ValueError:
                num_failed += 1
            else:
                assert batch is ENDED or loader.last.samples == tuple(batch.tolist())
    assert num_failed == 4


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


def test_tuple_of_a_zip_of_streams_is_left_out_and_others_stay_paired():
    pairs = Dataset.zip(Dataset.range(9).shuffle(buffer=2), Dataset.range(9).shuffle(buffer=3))
    with mpqueue.Loader(pairs, lanes=1, workers=0, seed=1) as loader:
        whole = list(loader)
    for given in ({"exclude": [(0, 4), (1, 6)]}, {}):
        with mpqueue.Loader(pairs, lanes=1, workers=0, seed=1, **given) as loader:
            if not given:
                loader.exclude([(0, 4), (1, 6)])
            assert list(loader) == [pair for pair in whole if pair[0] != 4 and pair[1] != 6]


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
