"""Common mistakes of new users, and their error messages: problem, expected value, remedy."""

import threading

import numpy as np
import pytest
from helpers.concurrent_calls import in_threads
from helpers.loader_runs import begun

import mpqueue
from mpqueue import Dataset

LOCK = threading.Lock()


def is_even(number):
    return number % 2 == 0


def forgets_to_return(number):
    number + 1


def all_of_it():
    yield from range(5)


class Countdown:
    """An iterable that never reads which lane it is in."""

    def __iter__(self):
        return iter([3, 2, 1])


class Locked:
    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, element):
        return element


def closing_over(lock):
    return lambda element: (lock, element)


def evens(count=100):
    return Dataset.range(count).filter(is_even)


def run(dataset, workers=0, **options):
    with mpqueue.Loader(dataset, seed=0, workers=workers, **options) as loader:
        return list(loader)


@pytest.mark.sample(7)
@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        (evens().map(forgets_to_return), r"map\(forgets_to_return\) returned None: did you forget `return`"),
        (Dataset.range(4).map(forgets_to_return), r"returned None: did you forget `return`"),
        (Dataset.range(4).filter(forgets_to_return), r"must return True or False.*got None: did you forget `return`"),
        (evens().map(forgets_to_return, threads=2), "returned None"),
        (evens().filter(forgets_to_return, threads=2), "must return True or False"),
        (Dataset.range(4).filter(lambda x: np.array([x, x])), r"got an array: .*Use \.all\(\) or \.any\(\)"),
        (Dataset.range(4).filter(lambda x: x % 2), r"got int: 0\. Convert it with bool"),
        (Dataset.range(4).flat_map(lambda x: x), r"must return an iterable.*got int: 0"),
        (Dataset.range(4).flat_map(forgets_to_return), r"got None: did you forget `return`\?"),
        (Dataset.range(4).flat_map(lambda x: f"line {x}"), r"got str: 'line 0'.*return a list with it"),
        (Dataset.range(4).flat_map(lambda x: {"a": x}), r"got dict.*return a list with it"),
        (Dataset(lambda: 5).map(str), r"<lambda> returned int: 5\. Did you mean `yield`"),
        (Dataset(lambda: None).map(str), r"returned NoneType: None\. Did you mean `yield`"),
        (Dataset(["text"]).pack(8), r"a sample is a str.*pack takes"),
    ],
)
@pytest.mark.parametrize("way", [run, list])
def test_invalid_result_of_a_function_raises_at_the_first_sample(dataset, text, way):
    with pytest.raises(TypeError, match=text):
        way(dataset)


BATCHES = [
    Dataset.range(8).batch(4),
    evens().batch(4),
    evens().batch(1, drop_last=True, collate=list),
    evens().bucket(int, [3], [4, 4]),
    Dataset.range(8).batch(4).shuffle().repeat(2).take(3).skip(1).cache(),
    evens().batch(4).filter(len),
    Dataset.mix([Dataset.range(8).map(str), Dataset.range(8).batch(4)]),
    Dataset.concatenate(Dataset.range(8).batch(4).shuffle(buffer=3), evens().batch(3)),
]


@pytest.mark.sample(7)
@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize(
    "again",
    [
        lambda batches: batches.batch(4),
        lambda batches: batches.bucket(len, [3], [4, 4]),
        lambda batches: run(batches, batch_size=4),
    ],
)
def test_batch_after_batch_needs_a_collate(batches, again):
    with pytest.raises(ValueError, match=r"stage \d+, b(atch|ucket)\(.*already makes batches: remove one.*collate="):
        again(batches)


@pytest.mark.parametrize(
    "batches",
    [
        *BATCHES,
        BATCHES[0].map(list),
        BATCHES[1].map(list, threads=2),
        BATCHES[1].enumerate().map(list),
        BATCHES[0].zip(Dataset.range(3)).map(list),
    ],
)
def test_pack_after_batch_raises_with_a_remedy(batches):
    with pytest.raises(ValueError, match=r"stage \d+, b(atch|ucket)\(.* Pack first: pack\(8\)\.batch"):
        batches.pack(8)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda element: (LOCK, element), "its global LOCK"),
        (Locked(), "lock"),
        (lambda x: lambda: LOCK, "LOCK"),
        (closing_over(LOCK), "its variable lock"),
    ],
)
def test_unpicklable_function_is_named_before_any_process_starts(function, what):
    with pytest.raises(TypeError, match=rf"stage 2, map.*cannot be sent to worker .*{what} cannot be pickled"):
        mpqueue.Loader(evens().map(function), workers=1)
    assert len(run(evens().map(function), workers=1, backend="thread")) == 50


def in_a_new_thread(function):
    """Run in a new thread: reading the lane is recorded per thread, and another test may have done it in this one."""
    return in_threads(function)[0]


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("source", "who"),
    [
        (Dataset(all_of_it).map(str), "generator function all_of_it"),
        (Dataset.zip(Dataset.range(9), Dataset(Countdown())), "source Countdown"),
        (all_of_it, "generator function all_of_it"),
    ],
)
@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2, "backend": "thread"}, {"workers": 1}])
def test_warning_for_a_source_that_ignores_its_lane(source, who, options):
    with pytest.warns(UserWarning, match=f"the {who} never called mpqueue.worker_info.*each of 3 lanes.*use lanes=1$"):
        in_a_new_thread(lambda: run(source, lanes=3, **options))


def test_iterating_a_dataset_directly_warns():
    with pytest.warns(UserWarning, match=r"all_of_it never called .*each of 16 lanes"):
        found = in_a_new_thread(lambda: list(Dataset(all_of_it)))
    assert sorted(found) == sorted(16 * list(range(5)))


@pytest.mark.parametrize("empty", [Dataset(all_of_it).take(0), Dataset(all_of_it).repeat(0)])
def test_source_that_is_never_opened_has_not_ignored_its_lane(empty):
    assert in_a_new_thread(lambda: list(empty)) == []
    for options in {"workers": 0}, {"workers": 1}:
        with pytest.warns(UserWarning, match="the stream of Dataset is empty") as caught:
            assert in_a_new_thread(lambda options=options: run(empty, lanes=3, **options)) in ([], None)
        assert len(caught) == 1


@pytest.mark.parametrize("indexed", [Dataset.range(100).batch(4), list(range(10))])
def test_state_of_a_stream_and_of_an_indexed_source_do_not_fit_each_other(indexed):
    stream = evens().shuffle(buffer=10).batch(4)
    for saved, source, kind in ((stream, indexed, "a stream"), (indexed, stream, "a source with an index")):
        with mpqueue.Loader(source, workers=0) as loader, pytest.raises(ValueError, match=f"saved for {kind}"):
            loader.load_state_dict(begun(saved, 3, seed=0, workers=0)[1])
