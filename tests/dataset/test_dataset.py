"""Descriptions of datasets: the stages, their restrictions, calls that join datasets, and error messages."""

import pickle

import numpy as np
import pytest

import mpqueue
from mpqueue import Dataset


def double(x):
    return 2 * x


def keep(_):
    return True


def numbers():
    yield from range(10)


def pair_of(sample, sample_id):
    return sample, sample_id


class Tokens(Dataset):
    """A subclass."""


class Iterable:
    def __iter__(self):
        return iter(range(3))


def test_methods_do_not_modify_the_dataset():
    first = Dataset.range(10)
    assert len(first.take(3)) == 3
    assert len(first) == 10
    assert (first.root.stage_index, first.batch(2).root.stage_index, first.root.stage_index) == (0, 1, 0)


@pytest.mark.parametrize(
    ("make", "stage"),
    [
        (lambda base: base.filter(keep), "stage 1, filter"),
        (lambda base: base.flat_map(lambda x: [x]), "stage 1, flat_map"),
        (lambda base: base.shuffle(buffer=3), "stage 1, shuffle"),
        (lambda base: base.pack(8), "stage 1, pack"),
        (lambda base: base.bucket(int, [3], [2, 2]), "stage 1, bucket"),
        (lambda base: Dataset.zip(base, base.filter(keep)), "stage 2, filter"),
        (lambda _: Dataset(numbers), r"stage 0, numbers\(\)"),
        (lambda _: Dataset(Iterable()), "stage 0, Iterable"),
    ],
)
def test_stream_has_no_length_or_items_and_the_error_names_the_stage(make, stage):
    stream = make(Dataset.range(10)).map(double).take(3)
    for use in (len, lambda dataset: dataset[0]):
        with pytest.raises(TypeError, match=stage):
            use(stream)


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (lambda _: Dataset(7), TypeError, "__getitem__ and __len__"),
        (lambda _: Dataset("abc"), TypeError, "a string"),
        (lambda _: Dataset(numbers()), TypeError, "pass the generator function itself"),
        (lambda _: Dataset(Iterable), TypeError, "pass an instance"),
        (lambda _: Dataset({"x": [1], "y": [2]}), TypeError, "columns"),
        (lambda _: Dataset(lambda x: x), TypeError, "without arguments"),
        (lambda base: Dataset(base), TypeError, "already"),
        (lambda base: base.map(None), TypeError, "map: the function must be a function of an element, got None"),
        (lambda base: base.map(lambda: 1), TypeError, "map: the function is called with an element"),
        (lambda base: base.map(double, threads=0), ValueError, "map: threads must be 1 or more, got 0"),
        (lambda base: base.filter(3), TypeError, "filter: the function"),
        (lambda base: base.flat_map("x"), TypeError, "flat_map: the function"),
        (lambda base: base.batch(0), ValueError, "batch: size must be 1 or more, got 0"),
        (lambda base: base.batch(True), TypeError, "batch: size must be an integer"),
        (lambda base: base.batch(2, drop_last="yes"), TypeError, "batch: drop_last must be True or False"),
        (lambda base: base.batch(2, collate=3), TypeError, "batch: collate"),
        (lambda base: base.shuffle(buffer=0), ValueError, "shuffle: buffer must be 1 or more"),
        (lambda base: base.filter(keep).shuffle(), ValueError, r"stage 1, filter\(keep\).*shuffle\(buffer=1000\)"),
        (lambda base: base.repeat().shuffle(), ValueError, "endless: put it before repeat"),
        (lambda base: base.repeat(-1), ValueError, "repeat: times must be 0 or more"),
        (lambda base: base.take(-1), ValueError, "take: count"),
        (lambda base: base.skip("1"), TypeError, "skip: count"),
        (lambda _: Dataset.range(2.5), TypeError, r"range: stop must be an integer, got 2\.5"),
        (lambda _: Dataset.range(None, 9), TypeError, "range: start must be an integer, got None"),
        (lambda _: Dataset.range(0, 9, 0), ValueError, "range: step must not be 0"),
        (lambda _: Dataset.range(), TypeError, "range takes 1 to 3 arguments .*, got 0"),
        (lambda _: Dataset.range(1, 2, 3, 4), TypeError, "range takes 1 to 3 arguments .*, got 4"),
        (lambda _: Dataset.range(10**30), ValueError, r"at most 2\*\*63 - 1 elements, got range\(0, 10{30}\)"),
        (lambda _: Dataset.range(10**9000), ValueError, r"range: .* 2\*\*63 - 1 elements, got a number of thousands"),
        (lambda _: Dataset.range(0, -(10**30), -1), ValueError, r"range: .* at most 2\*\*63 - 1 elements"),
        (lambda _: Dataset.zip(), ValueError, "zip needs at least one dataset"),
        (lambda base: Dataset.zip(base, [1, 2]), TypeError, r"zip takes datasets, got list.*mpqueue.Dataset\(source\)"),
        (lambda _: Dataset.concatenate(), ValueError, "concatenate needs at least one"),
        (lambda _: Dataset.mix([]), ValueError, "mix needs at least one"),
        (lambda base: Dataset.mix(base), TypeError, "must be a list of datasets"),
        (lambda base: Dataset.mix([base, base], [1]), ValueError, r"one weight per dataset \(2\), got 1 weights"),
        (lambda base: Dataset.mix([base, base], "ab"), TypeError, "list of numbers"),
        (lambda base: Dataset.mix([base, base], stop="last"), ValueError, "'first' or 'all' or 'never'"),
        (lambda base: base.pack(0), ValueError, "pack: length"),
        (lambda base: base.pack(8, strategy="worst"), ValueError, "'best_fit' or 'concatenate'"),
        (lambda base: base.pack(8, bins=0), ValueError, "pack: bins"),
        (lambda base: base.pack(8, long="keep"), ValueError, "'cut' or 'error' or 'drop'"),
        (lambda base: base.bucket(None, [1], [1, 1]), TypeError, "bucket: length"),
        (lambda base: base.bucket(int, [], [1]), ValueError, "ascending"),
        (lambda base: base.bucket(int, [3, 3], [1, 1, 1]), ValueError, "ascending"),
        (lambda base: base.bucket(int, 3, [1]), TypeError, "list of integers"),
        (lambda base: base.bucket(int, [3], [1]), ValueError, r"expected 2 batch_sizes, got 1"),
        (lambda base: base.bucket(int, [3], [1, 0]), ValueError, "batch_sizes must be 1 or more"),
        (lambda base: base.bucket(int, [3]), ValueError, "either batch_sizes"),
        (lambda base: base.bucket(int, [3], [1, 1], max_tokens=3), ValueError, "either batch_sizes"),
        (lambda base: base[10], IndexError, "index 10 is out of range: the dataset has 10 elements"),
        (lambda base: base[-11], IndexError, "index -11 is out of range"),
        (lambda base: base["a"], TypeError, "must be an integer"),
        (lambda base: base[1:2], TypeError, "skip"),
        (lambda base: base.repeat()[-1], IndexError, "the dataset is endless"),
        (lambda base: base.prefetch(3), AttributeError, "a Loader computes batches ahead"),
        (lambda base: base.interleave(double), AttributeError, "flat_map"),
        (lambda base: base.no_such_method(), AttributeError, "no attribute 'no_such_method'$"),
        (lambda _: Dataset(zip([1], [2], strict=True)), TypeError, r"an iterator \(zip\)"),
        (lambda _: Dataset(None), TypeError, "with __getitem__ and __len__.*got None"),
        (lambda _: Dataset.mix([[1, 2], [3]]), TypeError, r"got list: wrap it, mpqueue\.Dataset\(source\)"),
        (lambda base: base.mix({"code": base}), TypeError, r"has no name: call mix on the class, Dataset\.mix"),
        (lambda base: Dataset.zip([base, base]), TypeError, r"one by one, got a list of them: zip\(\*them\)"),
        (lambda base: Dataset.zip(base, base).map(lambda a, b: a), TypeError, "a tuple.* is passed as one argument"),
        (lambda base: base.range(3), TypeError, r"call it on the class, Dataset\.range"),
        (lambda base: Tokens.range(3).range(4), TypeError, r"Tokens\.range"),
        (lambda base: base.map(double, with_id=True), TypeError, "an element and the id of its sample, but double"),
        (lambda base: base.map(divmod, with_id=1), TypeError, "with_id must be True or False, got 1"),
        (lambda base: base.shuffle(5, block=2), ValueError, "exclude each other"),
        (lambda base: base.shuffle(blocks=2), ValueError, "shuffle: blocks=2 .* pass block=n, too"),
        (lambda base: base.shuffle(block=0), ValueError, "block must be 1 or more, got 0"),
        (lambda base: base.shuffle(block=2, blocks=-1), ValueError, "blocks must be 1 or more, got -1"),
        (lambda base: base.shuffle(block="rows"), ValueError, "block must be a number .* or .group., got 'rows'"),
        (lambda base: base.shuffle(block="group"), ValueError, "needs a source with row groups"),
        (lambda base: base.shuffle(block=1.5), TypeError, r"block must be an integer, got 1\.5"),
        (lambda base: base.shuffle(block=True), TypeError, "block must be an integer, got True"),
        (lambda base: base.shuffle(block=2, blocks="group"), TypeError, "blocks must be an integer, got 'group'"),
        (lambda base: base.filter(keep).shuffle(block=2), ValueError, "shuffle"),
        (lambda base: base.repeat().shuffle(block=2), ValueError, "shuffle"),
        (lambda base: base.cache(3), TypeError, "folder must be a path, got 3"),
        (lambda base: base.cache("s3://bucket"), ValueError, "a local folder"),
        (lambda base: base.cache(""), ValueError, "a local folder"),
        (lambda base: base.cache(name="a"), ValueError, "needs a folder"),
        (lambda base: base.cache("x", name="../a"), ValueError, "without a slash"),
        (lambda base: base.cache("x", name=3), TypeError, "name must be a string"),
        (lambda base: base.cache(max_bytes=0), ValueError, "max_bytes"),
        (lambda base: base.cache(max_bytes="1 GB"), ValueError, "such as '20%', got .1 GB."),
        (lambda base: base.cache(max_bytes="20%"), ValueError, "needs a folder"),
        (lambda base: base.cache("x", max_bytes="101%"), ValueError, "max_bytes"),
        (lambda base: base.cache("x", max_bytes=0.2), TypeError, "max_bytes"),
        (lambda base: base.select_columns([]), ValueError, "select_columns: expected one or more different names"),
        (lambda base: base.remove_columns(["a", "a"]), ValueError, "remove_columns: .* one or more different names"),
        (lambda base: base.select_columns([1]), TypeError, "select_columns: each name must be a string"),
        (lambda base: base.remove_columns(1), TypeError, "remove_columns: names must be a list of strings, got 1"),
        (lambda base: base.select_columns("x")[0], TypeError, "select_columns takes samples that are dicts, got int"),
        (lambda base: base.rename_columns({}), ValueError, "rename_columns: expected one or more different names"),
        (lambda base: base.rename_columns({"a": "x", "b": "x"}), ValueError, "rename_columns: .* more different names"),
        (lambda base: base.rename_columns(["a"]), TypeError, "rename_columns: .* must be a dict of old and new names"),
        (lambda base: base.pack(4, whole="image"), TypeError, "pack: whole must be names of fields"),
        (lambda base: base.pack(4, strategy="concatenate", whole=["a"]), ValueError, r"\('a',\) .* as a whole"),
        (lambda base: base.pack(4, strategy="concatenate", bins=3), ValueError, "bins=3 is the number of open rows"),
        (lambda base: base.scan({1}, divmod), TypeError, "scan: initial must be plain data: .*, got set"),
        (lambda base: base.scan(0, keep), TypeError, "scan: .* is called with a state and an element, but keep"),
        (lambda base: base.scan(0, 1), TypeError, "scan: .* must be a function of a state and an element, got 1"),
        (lambda base: base.take_while(pair_of), TypeError, "take_while: .* is called with an element, but pair_of"),
        (lambda base: base.sort(3), TypeError, "sort: the key must be a function of an element, got 3"),
        (lambda base: base.filter(keep).sort(abs), ValueError, "sort.* needs an indexed dataset, and stage 1"),
        (lambda base: base.repeat().sort(abs), ValueError, r"sort\(\) needs a finite dataset"),
        (lambda base: base.shuffle().map(str).sort(abs), ValueError, "sort: stage 1, shuffle.*, returns another"),
        (lambda base: base.concatenate(base.mix([base])).sort(abs), ValueError, r"sort: stage 3, mix\(.*\), returns"),
        (lambda base: base.filter(keep).split([0.5]), ValueError, "split.* needs an indexed dataset, and stage 1"),
        (lambda base: base.repeat().split([0.5]), ValueError, r"split\(\) needs a finite dataset"),
        (lambda base: base.shuffle().map(str).split([0.5]), ValueError, "split: stage 1, shuffle.*, returns another"),
        (lambda base: base.mix([base]).take(3).split([0.5]), ValueError, "split: stage 2, mix"),
        (lambda base: base.split([]), ValueError, r"split: expected one or more fractions above 0, got \[\]"),
        (lambda base: base.split([0.5, 0]), ValueError, "fractions above 0"),
        (lambda base: base.split([float("nan")]), ValueError, "fractions above 0"),
        (lambda base: base.split([0.6, 0.5]), ValueError, "split: the sum of fractions must be at most 1, got 1.1"),
        (lambda base: base.split([float("inf")]), ValueError, "at most 1, got inf"),
        (lambda base: base.split(["0.5"]), TypeError, "split: fractions must be numbers"),
        (lambda base: base.split(0.5), TypeError, "split: fractions must be a list of numbers, got 0.5"),
        (lambda base: base.split([0.5], 0.5), TypeError, "split: seed must be an integer, got 0.5"),
        (lambda base: base.window(0), ValueError, "window: .*size"),
        (lambda base: base.window(3, 0), ValueError, "window: .*stride"),
        (lambda base: base.window(3, 4), ValueError, "window: .*stride must be at most size=3"),
        (lambda base: base.window(2.5), TypeError, "window: .*size"),
        (lambda base: base.window(3, "1"), TypeError, "window: .*stride"),
        (lambda base: base.batch(np.True_), TypeError, "batch: size must be an integer"),
        (lambda base: base.shuffle(blocks=-5), ValueError, "shuffle: blocks=-5 .* pass block=n, too"),
        (lambda base: base.shuffle(buffer=3, blocks=2), ValueError, "shuffle: blocks=2 .* pass block=n, too"),
        (lambda base: base.shuffle(block=np.True_), TypeError, "block must be an integer"),
        (lambda base: base.cache("x", max_bytes="0%"), ValueError, "max_bytes"),
        (lambda base: base.select_columns({"a": "b"}), TypeError, "select_columns: names must be a list of strings"),
        (lambda base: base.pack(4, whole=3), TypeError, "pack: whole must be names of fields"),
        (lambda base: base.split([True]), TypeError, "split: fractions must be numbers"),
        (lambda base: base.take(True), TypeError, "take: count must be an integer"),
        (lambda base: base.take(np.True_), TypeError, "take: count must be an integer"),
        (lambda _: mpqueue.Loader(range(9), batch_size=np.True_), TypeError, "batch_size must be an integer"),
        (lambda _: mpqueue.Loader(range(9), batch_size=True), TypeError, "batch_size must be an integer"),
        (lambda _: mpqueue.Loader(range(9), shuffle="blocks"), TypeError, "shuffle"),
    ],
)
def test_mistake_raises_where_it_is_made(use, error, text):
    with pytest.raises(error, match=text):
        use(Dataset.range(10))


@pytest.mark.parametrize(
    ("dataset", "options", "error", "text"),
    [
        (Dataset.range(10).batch(2), {"batch_size": 2}, ValueError, r"batch_size=2.*stage 1, batch\(2\)"),
        (Dataset.range(10).batch(2).shuffle(), {"batch_size": 2}, ValueError, "already makes batches"),
        (Dataset.range(10).batch(2), {"batch_sampler": [[0]]}, ValueError, "batch_sampler takes single samples"),
        (Dataset.range(10).filter(keep), {"shuffle": True}, ValueError, r"stage 1, filter.*shuffle\(buffer=1000\)"),
        (Dataset.range(10).filter(keep), {"batch_size": 2, "sampler": [0]}, TypeError, "by index"),
        (Dataset.range(10).take(0), {"batch_size": 2}, ValueError, "at least 1 item"),
        (Dataset.range(10).filter(keep), {"lanes": 10**9}, ValueError, "lanes must be at most 65,536, got 1000000000"),
        (numbers, {"lanes": 65_537}, ValueError, "lanes must be at most 65,536, got 65537"),
    ],
)
def test_loader_rejects_a_dataset_before_any_process_starts(dataset, options, error, text):
    with pytest.raises(error, match=text):
        len(mpqueue.Loader(dataset, workers=2, **options))


def test_pickle_contains_functions_by_value():
    offset = 7
    dataset = Dataset.range(5).map(lambda x: x + offset)
    again = pickle.loads(pickle.dumps(dataset))
    assert list(again) == [7, 8, 9, 10, 11]
    assert repr(again) == repr(dataset)


# -- Calls that join datasets, on the class and on a dataset


A, B, C = Dataset.range(4), Dataset.range(10, 14), Dataset.range(20, 24)

JOINS = {
    "concatenate": (lambda a, *others: a.concatenate(*others), lambda *all_: Dataset.concatenate(*all_)),
    "zip": (lambda a, *others: a.zip(*others), lambda *all_: Dataset.zip(*all_)),
    "mix": (lambda a, *others: a.mix(others), lambda *all_: Dataset.mix(all_)),
    "mix, all arguments": (
        lambda a, *others: a.mix(others, [1.0, *[2.0 for _ in others]], stop="all"),
        lambda *all_: Dataset.mix(all_, weights=[1.0, *[2.0 for _ in all_[1:]]], stop="all"),
    ),
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("others", [(), (B,), (B, C), (A,)], ids=["none", "one", "two", "itself"])
@pytest.mark.parametrize("name", JOINS)
def test_a_call_on_a_dataset_equals_the_call_on_the_class_with_that_dataset_first(name, others):
    on_dataset, on_class = JOINS[name]
    joined, expected = on_dataset(A, *others), on_class(A, *others)
    assert list(joined) == list(expected)
    assert repr(joined) == repr(expected)
    seen = {part for element in joined for part in (element if isinstance(element, tuple) else (element,))}
    assert seen == {element for dataset in (A, *others) for element in dataset}


@pytest.mark.parametrize("name", JOINS)
def test_a_stream_keeps_its_elements_when_it_is_joined(name):
    stream = A.filter(lambda x: x >= 0)
    on_dataset, on_class = JOINS[name]
    assert list(on_dataset(stream, B)) == list(on_class(stream, B))
    assert repr(on_dataset(stream, B)) == repr(on_class(stream, B))


def public_callables():
    return [name for name in dir(Dataset) if not name.startswith("_") and callable(getattr(Dataset, name))]


def test_each_public_method_called_on_a_dataset_reads_the_dataset_or_raises():
    arguments = {
        "batch": (2,), "bucket": (int, [3], [2, 2]), "cache": (), "concatenate": (B,), "enumerate": (),
        "filter": (bool,), "flat_map": (range,), "map": (abs,), "mix": ([B],), "pack": (8,),
        "remove_columns": ("a",), "rename_columns": ({"a": "b"},), "repeat": (2,), "scan": (0, divmod),
        "select_columns": ("a",), "shuffle": (), "skip": (1,), "sort": (abs,), "split": ([0.5],), "take": (3,),
        "take_while": (bool,), "window": (2,), "zip": (B,),
    }  # fmt: skip
    of_samples, refused = {"get", "locate"}, {"range"}
    assert sorted({*arguments, *of_samples, *refused}) == public_callables()
    assert A.get(2) == A[2]
    with pytest.raises(LookupError, match="has no method locate"):
        A.locate(2)
    for name, call_arguments in arguments.items():
        method = getattr(A, name)
        made = method(*call_arguments)
        for dataset in made if isinstance(made, tuple) else (made,):
            assert A.root in [node for _, node in dataset.root.stages()]


def test_joined_datasets_have_the_class_of_the_caller():
    tokens = Tokens.range(3)
    for joined in (tokens.concatenate(A), tokens.zip(A), tokens.mix([A]), Tokens.zip(A), Tokens.mix([A])):
        assert type(joined) is Tokens
    assert type(Dataset.concatenate(tokens, A)) is Dataset
