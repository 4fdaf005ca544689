"""Common mistakes of new users, and their error messages: problem, expected value, remedy."""

import json
import threading
import warnings

import numpy as np
import pytest

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


def evens(count=100):
    return Dataset.range(count).filter(is_even)


def run(dataset, **options):
    options.setdefault("workers", 0)
    with mpqueue.Loader(dataset, seed=0, **options) as loader:
        return list(loader)


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        (evens().map(forgets_to_return), r"map\(forgets_to_return\) returned None: did you forget `return`"),
        (Dataset.range(4).map(forgets_to_return), r"returned None: did you forget `return`"),
        (
            Dataset.range(4).filter(forgets_to_return),
            r"must return True or False.*got None: did you forget `return`\?",
        ),
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


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (
            lambda: evens().shuffle(),
            ValueError,
            r"stage 1, filter\(is_even\), makes.*pass shuffle\(buffer=1000\), or put",
        ),
        (lambda: run(evens(), shuffle=True), ValueError, r"stage 1, filter\(is_even\).*shuffle\(buffer=1000\)"),
        (lambda: Dataset.range(3).repeat().shuffle(), ValueError, r"this one is endless: put it before repeat"),
        (lambda: run(evens().batch(4), batch_size=4), ValueError, r"stage 2, batch\(4\), already makes batches"),
        (lambda: Dataset.mix([]), ValueError, "at least one dataset, got none"),
        (lambda: Dataset.mix([evens(), evens()], [1, -1]), ValueError, r"0 or more.*got \[1\.0, -1\.0\]"),
        (lambda: Dataset.mix([evens(), evens()], [0, 0]), ValueError, "must not all be zero"),
        (
            lambda: Dataset.mix([evens(), evens()], [1]),
            ValueError,
            r"expected one weight per dataset \(2\), got 1 weights",
        ),
        (lambda: Dataset.mix(evens()), TypeError, "a list of datasets, got one dataset"),
        (lambda: Dataset.mix([[1, 2], [3]]), TypeError, r"got list: wrap it, mpqueue\.Dataset\(source\)"),
        (lambda: Dataset.mix([evens(), Dataset.range(0)]), ValueError, "dataset 1 is empty: leave it out"),
        (lambda: Dataset.zip([evens(), evens()]), TypeError, r"one by one, got a list of them: zip\(\*them\)"),
        (lambda: Dataset.zip(evens(), evens()).map(lambda a, b: a), TypeError, "a tuple.* is passed as one argument"),
        (lambda: evens().batch(0), ValueError, "batch: size must be 1 or more, got 0"),
        (lambda: evens().shuffle(buffer=True), TypeError, "shuffle: buffer must be an integer, got True"),
        (lambda: len(evens()), TypeError, r"no length: stage 1, filter\(is_even\), makes it a stream"),
        (lambda: evens()[0], TypeError, r"no items by index: stage 1, filter\(is_even\)"),
        (lambda: Dataset.range(4)[4], IndexError, "index 4 is out of range: the dataset has 4 elements"),
        (lambda: evens().prefetch(2), AttributeError, "computes batches ahead.*max_queue_size"),
        (lambda: Dataset({"x": [1, 2]}), TypeError, r"dict of columns \('x'"),
        (lambda: Dataset("train.txt"), TypeError, "the items of a string"),
        (lambda: Dataset(Locked), TypeError, r"the class Locked: pass an instance of it, Locked\(\.\.\.\)"),
        (lambda: Dataset(all_of_it()), TypeError, r"an iterator \(generator\).*pass the generator function itself"),
        (lambda: Dataset(zip([1], [2], strict=True)), TypeError, r"an iterator \(zip\)"),
        (lambda: Dataset(lambda path: open(path)), TypeError, r"called without arguments.*functools\.partial"),
        (lambda: Dataset(None), TypeError, "with __getitem__ and __len__.*got None"),
        (lambda: Dataset(evens()), TypeError, "is already a Dataset"),
        (lambda: run(evens(), lanes=10, shard=(0, 4)), ValueError, "got 10 .*a multiple of 4, such as 8, 12, 16"),
        (lambda: run(Dataset.range(4), lanes=4), ValueError, "lanes=4 applies to streams.*Leave it out"),
        (lambda: run(Dataset.range(4), epoch_batches=4), ValueError, "epoch_batches=4 applies to streams"),
    ],
)
def test_invalid_use_raises_an_error_with_a_remedy(use, error, text):
    with pytest.raises(error, match=text):
        use()


@pytest.mark.parametrize(
    "batches",
    [
        Dataset.range(8).batch(4),
        evens().batch(4),
        evens().batch(4, collate=list),
        evens().bucket(int, [3], [4, 4]),
        Dataset.range(8).batch(4).shuffle().repeat(2).take(3).skip(1).cache(),
        evens().batch(4).filter(len),
        Dataset.mix([Dataset.range(8).map(str), Dataset.range(8).batch(4)]),
        Dataset.concatenate(Dataset.range(8).batch(4).shuffle(buffer=3), evens().batch(3)),
    ],
)
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


@pytest.mark.parametrize("base", [Dataset.range(16), evens(32)])
@pytest.mark.parametrize(
    "twice",
    [
        lambda base: base.batch(2).batch(2, collate=np.stack),
        lambda base: base.batch(2).map(np.copy).batch(2),
        lambda base: Dataset.zip(base.batch(2)).batch(2, collate=lambda pairs: np.stack([pair[0] for pair in pairs])),
    ],
)
def test_batches_of_batches_with_a_collate_function(base, twice):
    options = {} if base.root.is_indexed else {"lanes": 1}
    assert [batch.shape for batch in run(twice(base), **options)] == 4 * [(2, 2)]


def test_batches_split_by_flat_map_can_be_batched_again():
    assert [batch.shape for batch in run(evens(16).batch(2).flat_map(list).batch(4), lanes=1)] == 2 * [(4,)]


@pytest.mark.parametrize(
    ("function", "what"),
    [(lambda element: (LOCK, element), "its global LOCK"), (Locked(), "lock"), (lambda x: lambda: LOCK, "LOCK")],
)
def test_unpicklable_function_is_named_before_any_process_starts(function, what):
    with pytest.raises(
        TypeError, match=rf"stage 2, map.*cannot be sent to worker processes: .*{what} cannot be pickled"
    ):
        mpqueue.Loader(evens().map(function), workers=1)


def in_a_new_thread(function):
    """Run in a new thread: reading the lane is recorded per thread, and another test may have done it in this one."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


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
def test_source_that_is_never_opened_does_not_warn(empty):
    assert in_a_new_thread(lambda: list(empty)) == []
    for options in {"workers": 0}, {"workers": 1}:
        assert in_a_new_thread(lambda options=options: run(empty, lanes=3, **options)) in ([], None)


def state_of(source, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about unequal numbers of batches per rank
        loader = mpqueue.Loader(source, seed=0, workers=0, **options)
    with loader:
        batches = iter(loader)
        for _ in range(3):
            next(batches)
        return json.loads(json.dumps(loader.state_dict()))


PIPELINE = evens().shuffle(buffer=10).batch(4)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            evens().shuffle(buffer=11).batch(4),
            r"in the state: 2: shuffle\(buffer=10\)\n  here:         2: shuffle\(buffer=11\)",
        ),
        (
            evens(101).shuffle(buffer=10).batch(4),
            r"in the state: 0: range\(0, 100\)\n  here:         0: range\(0, 101\)",
        ),
        (evens().batch(4), r"in the state: 2: shuffle\(buffer=10\)\n  here:         2: batch\(4\)"),
        (PIPELINE.map(abs), r"in the state: \(missing\)\n  here:         4: map\(abs\)"),
        (Dataset.range(100).batch(4), "saved for a stream, and the source of this loader has an index"),
        ([1, 2, 3], "saved for a stream, and the source of this loader has an index"),
    ],
)
def test_state_of_another_pipeline_is_rejected(source, text):
    with mpqueue.Loader(source, workers=0) as loader, pytest.raises(ValueError, match=text):
        loader.load_state_dict(state_of(PIPELINE))


@pytest.mark.parametrize("source", [Dataset.range(100).batch(4), list(range(10))])
def test_state_of_an_indexed_source_is_rejected_by_a_stream(source):
    with (
        mpqueue.Loader(PIPELINE, workers=0) as loader,
        pytest.raises(ValueError, match="saved for a source with an index"),
    ):
        loader.load_state_dict(state_of(source))


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        ([], "an empty list: pass the states of all ranks"),
        ([0], r"lanes 1, 3, .* of 16 are missing\. Got: rank 0 of 2.*in that of rank 1"),
        ([0, 0], r"have lanes 0, 2, .* twice: pass one of each rank"),
    ],
)
def test_incomplete_set_of_rank_states_is_rejected(ranks, text):
    states = [state_of(PIPELINE, shard=(rank, 2)) for rank in ranks]
    with mpqueue.Loader(PIPELINE, workers=0) as loader, pytest.raises(ValueError, match=text):
        loader.load_state_dict(states)
