"""Samples that are excluded or raise, below the stage that makes elements of several samples: the others remain."""

import logging
import os
import signal

import pytest
from helpers.computed import Computed
from helpers.in_threads import in_threads
from helpers.numbered import iter_after
from helpers.server_directories import servers_directory  # noqa: F401

import mpqueue
from mpqueue import Dataset
from mpqueue.errors import TooManyErrors

LENGTH, OUT = 24, (4, 6, 7, 8, 13)  # with a batch of 3 that has no other sample
BACKENDS = [{"workers": 0}, {"workers": 2}, {"workers": 2, "backend": "thread"}]
IDS = ["inline", "processes", "threads"]


def same(value):
    return value


def true(_):
    return True


def as_list(batch):
    return batch.tolist()


def pieces(number):
    return [number] * (1 + number % 3)


def samples_of(value):
    """Return the numbers in an element, in order."""
    if isinstance(value, dict):  # a row of `pack`
        return value["tokens"][value["segment_ids"] > 0].tolist()
    if isinstance(value, list | tuple):
        return [number for each in value for number in samples_of(each)]
    found = value.tolist() if hasattr(value, "tolist") else value
    return found if isinstance(found, list) else [found]


def first_of(batch):
    return -int(batch[0])


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


class BrokenAtOnce(Broken):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


# Stages after `batch(3)` of an indexed dataset. In lanes, the batches belong to the root, so they keep their places.
INDEXED = {
    "map": lambda data: data.map(same),
    "map in threads": lambda data: data.map(same, threads=2),
    "shuffle": lambda data: data.shuffle(),
    "take and skip": lambda data: data.take(6).skip(1),
    "repeat": lambda data: data.repeat(2),
    "enumerate": lambda data: data.enumerate().map(lambda pair: pair[1]),
    "split": lambda data: data.split([0.7, 0.3], seed=1)[0],
    "cache": lambda data: data.cache(),
    "map, cache, shuffle": lambda data: data.map(same).cache().shuffle(),
    "batch": lambda data: data.map(as_list).batch(2, collate=list),
    "batch, map": lambda data: data.map(as_list).batch(2, collate=list).map(same),
}
LANES = {
    "filter": lambda data: data.filter(true),
    "map, filter, map": lambda data: data.map(same).filter(true).map(same),
    "filter, cache, map": lambda data: data.filter(true).cache().map(same),
    "filter, enumerate, cache": lambda data: data.filter(true).enumerate().cache().map(lambda pair: pair[1]),
    "filter, repeat, cache": lambda data: data.filter(true).repeat(2).cache(),
    "cache, buffer": lambda data: data.filter(true).cache().shuffle(buffer=3),
    "filter, map in threads": lambda data: data.filter(true).map(same, threads=2),
    "filter, batch, map": lambda data: data.filter(true).map(as_list).batch(2, collate=list).map(same),
    "scan": lambda data: data.scan(0, lambda state, batch: (state + 1, batch)),
    "flat_map": lambda data: data.flat_map(samples_of),
}
# Stages of a stream that group elements: the following elements fill up a batch, so only its samples are compared.
STREAMS = {
    "batch": lambda data: data.filter(true).batch(3),
    "batch, map, cache, map": lambda data: data.filter(true).batch(3).map(same).cache().map(same),
    "batch, cache, buffer": lambda data: data.filter(true).batch(3).cache().shuffle(buffer=2),
    "repeat, batch, cache": lambda data: data.filter(true).repeat(2).batch(3).cache(),
    "bucket, cache": lambda data: data.map(pieces).bucket(
        len, boundaries=[2], batch_sizes=[2, 2], collate=list
    ).cache(),
    "pack, cache, buffer": lambda data: data.map(pieces).pack(7).cache().shuffle(buffer=2),
}  # fmt: skip
PIPELINES = {
    **{(name, shuffle): (make, True) for name, make in INDEXED.items() for shuffle in (False, True)},
    **{(name, False): (make, True) for name, make in LANES.items()},
    **{(name, False): (make, False) for name, make in STREAMS.items()},
}
# All stages without workers; with workers, one of each way to reach them.
RUNS = [(at, 0) for at in PIPELINES] + [
    (at, backend)
    for at in [("map", False), ("map", True), ("batch", False), ("filter", False), ("batch, map, cache, map", False)]
    for backend in (1, 2)
]


def dataset(at, source):
    make, batches_first = PIPELINES[at]
    return make(Dataset(source).batch(3) if batches_first else Dataset(source))


def options_of(at, backend=0):
    return {"seed": 5, "shuffle": at[1]} | BACKENDS[backend]


def epochs(data, count=2, **options):
    """Return the samples of each batch, in each epoch."""
    with mpqueue.Loader(data, **options) as loader:
        return [[samples_of(batch) for batch in loader] for _ in range(count)]


def without(batches, out=OUT):
    left = [[sample for sample in batch if sample not in out] for batch in batches]
    return [batch for batch in left if batch]


def all_of(batches):
    return sorted(sample for batch in batches for sample in batch)


def check(at, found, whole):
    expected = [without(batches) for batches in whole]
    # A lane that is left without an element has fewer turns, so the order of flattened elements and streams differs.
    if PIPELINES[at][1] and at[0] != "flat_map" and "buffer" not in at[0]:
        assert sorted(map(tuple, found[0])) == sorted(map(tuple, expected[0]))
        if at[0] in INDEXED:
            assert found == expected
    assert list(map(all_of, found)) == list(map(all_of, expected))


@pytest.mark.parametrize(("at", "backend"), RUNS)
def test_excluded_samples_are_left_out_of_their_batches(at, backend):
    whole = epochs(dataset(at, Broken(())), **options_of(at))
    # They are not requested, unless a cache keeps elements with them.
    source = Broken(() if "cache" in at[0] else OUT)
    check(at, epochs(dataset(at, source), exclude=OUT, **options_of(at, backend)), whole)


@pytest.mark.parametrize(("at", "backend"), RUNS)
def test_samples_that_raise_are_left_out_of_their_batches(at, backend, caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")
    whole = epochs(dataset(at, Broken(())), **options_of(at))
    for source in (Broken(), BrokenAtOnce()):
        check(at, epochs(dataset(at, source), on_error="skip", **options_of(at, backend)), whole)


@pytest.mark.parametrize(("at", "backend"), RUNS)
def test_samples_that_are_excluded_in_the_middle_leave_later_batches(at, backend):
    with mpqueue.Loader(dataset(at, Broken(())), **options_of(at)) as loader:
        whole = [samples_of(batch) for batch in loader]
    found = []
    with mpqueue.Loader(dataset(at, Broken(())), **options_of(at, backend)) as loader:
        for number, batch in enumerate(loader):
            found.append(samples_of(batch))
            if number == 2:
                loader.exclude(OUT)
    if at[0] in INDEXED:
        assert found == whole[:3] + without(whole[3:])
    assert not set(all_of(found[3:])) & set(OUT)
    if at[0] != "flat_map":  # which of its items belong to an excluded sample is unknown
        assert all_of(without(found)) == all_of(without(whole))


def test_batch_keeps_the_random_numbers_of_its_samples_and_of_later_stages():
    def drawn(number):
        return number, mpqueue.rng().random()

    def collate(samples):
        return [*samples, ("batch", mpqueue.rng().random())]

    def with_draw(batch):
        return [*batch, ("map", mpqueue.rng().random())]

    batches = Dataset.range(12).map(drawn).batch(3, collate=collate).map(with_draw)
    for data in (batches, batches.filter(true)):
        with mpqueue.Loader(data, workers=0, seed=1) as loader:
            whole = list(loader)
        with mpqueue.Loader(data, workers=0, seed=1, exclude=[3, 4]) as loader:
            assert list(loader) == [[row for row in batch if row[0] not in (3, 4)] for batch in whole]


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


def test_place_answers_with_the_samples_that_remain():
    data = Dataset.range(12).batch(3).map(same)
    for batched in (data, data.map(as_list).batch(2, collate=list), data.filter(true)):
        with mpqueue.Loader(
            batched, workers=1, exclude=[4], **({} if batched.root.is_indexed else {"lanes": 1})
        ) as loader:
            for number, batch in enumerate(loader):
                found = tuple(samples_of(batch))
                assert loader.last.samples == loader.explain(0, number, run=True).samples == found
                assert tuple(samples_of(loader.compute(0, number))) == found
            place = loader.state_dict()["step"] - 1
            loader.seek(0, place)
            assert [tuple(samples_of(batch)) for batch in loader] == [found]


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


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("filtered", [False, True])
def test_error_after_the_batch_leaves_out_the_batch(on_error, filtered, caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")

    def check_sum(batch):
        if batch.sum() in (8, 21):  # without the sample 4, and whole
            raise ValueError("not this batch")
        return batch

    data = Dataset(Broken([4])).batch(3)
    data = data.map(check_sum).filter(true) if filtered else data.map(check_sum)
    with mpqueue.Loader(data, workers=0, on_error=on_error, seed=0) as loader:
        batches, found, errors = iter(loader), [], []
        while True:
            try:
                found.append(next(batches).tolist())
            except StopIteration:
                break
            except Exception as error:
                errors.append(type(error))
        whole = [[at, at + 1, at + 2] for at in range(0, LENGTH, 3)]
        assert sorted(found) == [whole[0], *whole[3:]]
        # The batch without sample 4 is one more.
        assert loader.statistics().skipped == (3 if on_error == "skip" else 0)
        assert errors == ([] if on_error == "skip" else [OSError, ValueError])


@pytest.mark.parametrize("options", [{"exclude": [("images", 4)]}, {"on_error": "skip"}])
def test_tuple_of_zip_is_left_out_as_a_whole(options, caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")
    images, labels = Dataset(Broken([4] if "on_error" in options else ())), Dataset.range(100, 100 + LENGTH)
    of_samples = Dataset.zip(images, labels).batch(3).map(same)
    of_batches = Dataset.zip(images.batch(3), labels.batch(3)).map(same)
    if "exclude" in options:
        options = {"exclude": [(0, 4)]}
    pairs = [[(at, at + 100) for at in range(first, first + 3)] for first in range(0, LENGTH, 3)]
    with mpqueue.Loader(of_samples, workers=0, **options) as loader:
        found = [list(zip(*map(as_list, batch), strict=True)) for batch in loader]
        assert found == [[pair for pair in batch if pair[0] != 4] for batch in pairs]
    # The rows of batches in a tuple belong together.
    with mpqueue.Loader(of_batches, workers=0, **options) as loader:
        found = [list(zip(*map(as_list, batch), strict=True)) for batch in loader]
        assert found == [batch for batch in pairs if batch[0][0] != 3]


def test_parts_of_a_mixture_have_their_own_ids(caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")
    web, code = Dataset(Broken([4])).batch(3), Dataset.range(100, 112).batch(3)
    mixed = Dataset.mix({"web": web, "code": code}, weights={"web": 2, "code": 1}, stop="all").map(same)
    joined = web.concatenate(code).map(same)
    for data, names in ((mixed, ("web", "code")), (joined, (0, 1))):
        with mpqueue.Loader(data, workers=0, seed=1, on_error="skip", exclude=[(names[1], 5)]) as loader:
            found, skipped = [], []
            for batch in loader:
                assert loader.last.samples == tuple(
                    (names[number >= 100], number % 100) for number in samples_of(batch)
                )
                found += samples_of(batch)
                skipped += loader.last.skipped
        assert set(found) == {*range(LENGTH), *range(100, 112)} - {4, 105}
        assert set(skipped) == {(names[0], 4)}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("options", [{"exclude": [4, 13]}, {"on_error": "skip"}])
def test_threads_that_compute_batches_of_a_batch(options, threads, caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")
    data = Dataset(Broken([4, 13])).batch(3).map(as_list).batch(2, collate=list)
    found = epochs(data, workers=1, threads=threads, **options)
    assert found == [[[n for n in range(at, at + 6) if n not in (4, 13)] for at in range(0, LENGTH, 6)]] * 2


@pytest.mark.parametrize(
    "data", [Dataset.range(LENGTH).batch(3).map(same), Dataset.range(LENGTH).batch(3).filter(true)]
)
def test_resume_with_other_workers_and_ranks_yields_the_same_samples(data):
    lanes = {} if data.root.is_indexed else {"lanes": 4}
    with mpqueue.Loader(data, workers=2, seed=2, **lanes) as loader:
        batches = iter_after(loader, 2)
        loader.exclude([4, 10, 14])
        state = loader.state_dict()
        rest = [batch.tolist() for batch in batches]
    with mpqueue.Loader(data, workers=0, seed=2, **lanes) as loader:
        loader.load_state_dict(state)
        assert [batch.tolist() for batch in loader] == rest
    if data.root.is_indexed:
        found = []
        for rank in range(2):
            with mpqueue.Loader(data, workers=0, seed=2, shard=(rank, 2)) as loader:
                loader.load_state_dict(state)
                found += [batch.tolist() for batch in loader]
        assert sorted(found) == sorted(rest)


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


@pytest.mark.usefixtures("servers_directory")
@pytest.mark.parametrize("filtered", [False, True])
def test_late_consumer_of_a_server_gets_the_same_batches(filtered):
    data = Dataset.range(LENGTH).batch(3).map(same)
    data = data.filter(true) if filtered else data
    lanes = {"lanes": 1} if filtered else {}
    with mpqueue.Server("s", data, workers=1, mode="broadcast", **lanes) as server:
        with mpqueue.attach("s", timeout=60) as first:
            batches = iter(first)
            found = [next(batches).tolist() for _ in range(2)]
            server.exclude([1, 4, 7, 9, 10, 11])
            with mpqueue.attach("s", timeout=60, join="replay") as late:

                def rest():
                    for batch in batches:
                        assert first.last.samples == tuple(batch.tolist())
                        found.append(batch.tolist())

                _, of_late = in_threads(rest, lambda: [batch.tolist() for batch in late])
    assert found == of_late == [[0, 1, 2], [3, 4, 5], [6, 8], *([at, at + 1, at + 2] for at in range(12, LENGTH, 3))]


@pytest.mark.usefixtures("servers_directory")
def test_consumer_of_a_server_names_skipped_samples(caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")
    data = Dataset(Broken([4])).batch(3).map(same)
    with mpqueue.Server("s", data, workers=1, on_error="skip"), mpqueue.attach("s", timeout=60) as consumer:
        found = [(batch.tolist(), consumer.last.samples, consumer.last.skipped) for batch in consumer]
        assert consumer.statistics().skipped == 1
    assert found[:3] == [([0, 1, 2], (0, 1, 2), ()), ([3, 5], (3, 5), (4,)), ([6, 7, 8], (6, 7, 8), ())]
