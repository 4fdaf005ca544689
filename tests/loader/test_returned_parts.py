"""`Statistics.parts` and the states' ``parts``: the samples of each part of a mixture that this rank has returned."""

from collections import Counter

import pytest

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.source import IndexedSource
from mpqueue.plan.batching import Batching
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.runner import Parts
from mpqueue.worker.threaded_samples import ThreadedSampleRunner


def keep(_):
    return True


def odd(number):
    return number % 2 == 1


def broken(number):
    if number % 10 == 3:
        raise ValueError(number)
    return number


PARTS = {"web": Dataset.range(50), "code": Dataset.range(1000, 1090)}
STREAMS = {"web": Dataset.range(50).filter(odd), "code": Dataset.range(1000, 1090).shuffle(buffer=7)}
MAKERS = {
    "index": lambda: Dataset.mix(PARTS, {"web": 1, "code": 3}).batch(4),
    "shuffled": lambda: Dataset.mix(PARTS).map(int).shuffle().batch(4),
    "batches": lambda: Dataset.mix(PARTS).batch(4).map(list),
    "cached": lambda: Dataset.mix(PARTS).cache().batch(4),
    "repeated": lambda: Dataset.mix(PARTS).repeat(2).batch(4),
    "lanes": lambda: Dataset.mix(PARTS).filter(odd).shuffle(buffer=9).batch(4),
    "streams": lambda: Dataset.mix(STREAMS, stop="all").shuffle(buffer=5).batch(4),
    "samples": lambda: Dataset.mix(STREAMS),
    "cached stream": lambda: Dataset.mix(STREAMS).cache().batch(4),
    "list": lambda: Dataset.mix([*PARTS.values()]).batch(4),
}
makes = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
RUNS = {"inline": {"workers": 0}, "processes": {"workers": 2}, "threads": {"workers": 2, "backend": "thread"}}
runs = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def check(loader, expected):
    """Check the counts of a loader against those of the samples that it has returned."""
    parts = loader.statistics().parts
    assert {name: count for name, count in parts.items() if count} == expected
    assert loader.state_dict()["parts"] == {str(name): count for name, count in parts.items()}


@makes
@runs
def test_parts_are_those_of_the_returned_samples_after_each_batch(make, run):
    expected = Counter()
    with mpqueue.Loader(make(), seed=1, **run) as loader:
        check(loader, {})
        for epoch in range(2):
            for number, _ in enumerate(loader):
                expected.update(sample[0] for sample in loader.last.samples)
                check(loader, expected)
                if (epoch, number) == (1, 5):
                    break
    assert loader.statistics().to_dict()["parts"] == loader.statistics().parts
    assert not any((loader.statistics() - loader.statistics()).parts.values())


@runs
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_samples_that_threads_compute_count(on_error, run):
    expected = Counter()
    with mpqueue.Loader(
        Dataset.mix(PARTS).map(int), seed=1, batch_size=4, threads=2, on_error=on_error, **run
    ) as loader:
        for number, _ in enumerate(loader):
            expected.update(sample[0] for sample in loader.last.samples)
            check(loader, expected)
            if number == 4:
                loader.exclude({"code": range(30)})


@pytest.mark.filterwarnings("ignore:2 ranks share a stream")
@pytest.mark.parametrize("name", ["index", "lanes", "streams"])
def test_state_continues_the_parts_of_its_rank_with_other_workers(name):
    expected, states = (Counter(), Counter()), []
    for count, run in ((3, {"workers": 2}), (2, {"workers": 0}), (1, {"workers": 1, "backend": "thread"})):
        before, states = states, []
        for rank in range(2):
            with mpqueue.Loader(MAKERS[name](), seed=1, shard=(rank, 2), **run) as loader:
                if before:
                    loader.load_state_dict(before)
                for _, _ in zip(range(count), loader, strict=False):
                    expected[rank].update(sample[0] for sample in loader.last.samples)
                states.append(loader.state_dict())
                assert Counter(states[-1]["parts"]) == expected[rank]
    with mpqueue.Loader(MAKERS[name](), seed=1, shard=(0, 1), workers=0) as loader:
        loader.load_state_dict(states)
        assert not any(loader.state_dict()["parts"].values())  # another number of ranks has returned nothing yet


@runs
@pytest.mark.parametrize("name", ["index", "streams"])
def test_samples_that_are_left_out_do_not_count(name, run):
    parts = {part: dataset.map(broken) for part, dataset in STREAMS.items()} if name == "streams" else None
    mixed = Dataset.mix(parts or PARTS)
    dataset = (mixed if parts else mixed.map(broken)).batch(4)
    expected = Counter()
    with mpqueue.Loader(dataset, seed=1, on_error="skip", **run) as loader:
        for number, batch in enumerate(loader):
            expected.update("web" if sample < 1000 else "code" for sample in batch.tolist())
            assert Counter(loader.statistics().parts) == expected
            if number == 4:
                loader.exclude({"code": range(30)})
        assert loader.statistics().skipped


@runs
@pytest.mark.parametrize("name", ["index", "lanes"])
def test_batch_that_raises_does_not_count(name, run):
    mixed = Dataset.mix(PARTS)
    dataset = (mixed if name == "index" else mixed.filter(keep)).batch(4).map(fails_once_in_a_while)
    expected, errors = Counter(), 0
    with mpqueue.Loader(dataset, seed=1, **run) as loader:
        batches = iter(loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                break
            except ValueError:
                errors += 1
                continue
            expected.update("web" if sample < 1000 else "code" for sample in batch.tolist())
            check(loader, expected)
    assert errors


def fails_once_in_a_while(batch):
    if int(batch[0]) % 3 == 1:
        raise ValueError(batch)
    return batch


@runs
def test_parts_count_what_is_returned_again_after_a_seek(run):
    expected = Counter()
    with mpqueue.Loader(MAKERS["index"](), seed=1, **run) as loader:
        for _ in range(2):
            for _, _ in zip(range(4), loader, strict=False):
                expected.update(sample[0] for sample in loader.last.samples)
            loader.seek(0, 1)
            assert Counter(loader.state_dict()["parts"]) == expected


def test_parts_of_several_mixes_name_the_stage():
    inner = Dataset.mix({"web": PARTS["web"].filter(keep), "code": PARTS["code"]})
    with mpqueue.Loader(Dataset.mix([inner, PARTS["web"]], [2, 1]).batch(8), workers=0, seed=1, lanes=2) as loader:
        found = Counter(sample for _ in loader for sample in loader.last.samples)
        parts = loader.statistics().parts
    assert list(parts) == ["3: web", "3: code", "5: 0", "5: 1"]
    assert parts["5: 0"] + parts["5: 1"] == found.total()
    assert parts["3: web"] + parts["3: code"] == parts["5: 0"]
    assert parts["3: web"] == sum(count for sample, count in found.items() if sample[:2] == (0, "web"))


def test_endless_stream_counts_the_parts_of_all_epochs():
    expected = Counter()
    with mpqueue.Loader(MAKERS["streams"](), workers=2, seed=1, epoch_batches=7, lanes=4) as loader:
        for _ in range(12):
            for _ in loader:
                expected.update(sample[0] for sample in loader.last.samples)
        check(loader, expected)


def test_batch_that_is_checked_for_shared_generators_counts():
    """With ``threads="auto"``, the runner watches the source in the batch before it uses more threads."""
    dataset = IndexedSource(Dataset.mix(PARTS).root)
    runner = ThreadedSampleRunner(
        Parts(dataset, WorkerInfo(0, 1, 0), lambda *_: None, Batching(4, threads=1), in_slot=False)
    )
    runner.use_threads(2)
    try:
        assert [sum(runner.run(0, unit).parts.values()) for unit in range(3)] == [4, 4, 4]
    finally:
        runner.end()
