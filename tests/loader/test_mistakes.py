"""Mistakes of new users raise at construction, before any process starts, with a remedy."""

import itertools
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import status_at_exit
from helpers.docstrings import public_names
from helpers.faults import Numbers
from helpers.loader_runs import batches_of
from helpers.package_structure import ROOT
from helpers.saved_states import saved_with

import mpqueue.jax
import mpqueue.keras
from mpqueue import Consumer, Dataset, GeneratorEnqueuer, Loader, OrderedEnqueuer, Server, attach, files

FRONTENDS = pytest.mark.parametrize("make", [Loader, OrderedEnqueuer])


COLUMNS = {"x": np.zeros(9), "y": np.zeros(9)}


def needs_an_argument(worker_id):
    """Take an argument, like torch's worker_init_fn."""


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("option", "kind", "text"),
    [
        ({"batch_timeout": "3"}, TypeError, "batch_timeout must be a number of seconds or None, got '3'"),
        ({"batch_timeout": 0}, ValueError, "batch_timeout must be a number of seconds above 0, or None, got 0"),
        ({"max_batch_bytes": "1GB"}, TypeError, "max_batch_bytes must be a number of bytes or None, got '1GB'"),
        ({"worker_init": needs_an_argument}, TypeError, r"needs_an_argument\(worker_id\).*mpqueue.worker_info\(\)"),
        ({"copy": "no"}, TypeError, "copy must be True or False, got 'no'"),
        ({"shuffle": "yes"}, TypeError, "shuffle must be True or False, got 'yes'"),
        ({"restarts": "2"}, TypeError, "restarts must be an integer, got '2'"),
        ({"workers": np.zeros(4)}, TypeError, "workers must be an integer, got array"),
        ({"seed": 0.5}, TypeError, "seed must be an integer or None, got 0.5"),
    ],
)
@FRONTENDS
def test_wrong_option_is_named(make, option, kind, text):
    with pytest.raises(kind, match=text):
        make(Numbers(), **option)


@pytest.mark.parametrize(
    ("length", "kind", "text"),
    [
        (-3, ValueError, r"len\(Odd\) must be at least 1 item .*, got -3"),
        (2.5, TypeError, r"len\(Odd\) must be an integer.*2.5"),
    ],
)
def test_impossible_length_is_named_with_class(length, kind, text):
    class Odd(Numbers):
        def __len__(self):
            return length

    with pytest.raises(kind, match=text):
        next(iter(Loader(Odd(), workers=0)))


def test_pandas_table_is_table_of_columns():
    pandas = pytest.importorskip("pandas")
    for make in (Loader, lambda source: Loader(source, batch_size=2), OrderedEnqueuer):
        with pytest.raises(TypeError, match=r"a DataFrame of pandas.*columns.*to_dict\(\"records\"\).*iloc\[index\]"):
            make(pandas.DataFrame({"x": [1, 2, 3]}))


def test_series_is_indexed_by_labels():
    pandas = pytest.importorskip("pandas")
    for index in ([5, 6, 7], ["a", "b", "c"], [2, 1, 0]):
        with pytest.raises(TypeError, match=r"a pandas Series with its own index.*reset_index\(drop=True\)"):
            Loader(pandas.Series([1, 2, 3], index=index), batch_size=2)
    for series in (pandas.Series([1, 2, 3]), pandas.Series([1, 2, 3], index=[0, 1, 2])):
        assert batches_of(series, batch_size=3, workers=0) == [[1, 2, 3]]


def _table_of(library, name):
    """Return a table of a library that is not installed: it is recognized by the name of its class."""
    return type(name, (list,), {"__module__": f"{library}.frame"})([1, 2])


class Endless:
    def __getitem__(self, index):
        return index


class Stream:
    def __iter__(self):
        return iter(range(3))


@pytest.mark.sample(5)
@FRONTENDS
@pytest.mark.parametrize(
    ("source", "text"),
    [
        (Numbers, r"the class Numbers: pass an instance of it, Numbers\(\.\.\.\)"),
        ((np.zeros((9, 3)), np.zeros(9)), "a tuple of 2 arrays, which would be 2 batches: pass an object with"),
        (COLUMNS, r"a dict of columns \('x', 'y', \.\.\.\).*a dict with that slice of.*number of batches$"),
        (Endless(), "Endless has no __len__: implement it, returning the number of items"),
        (Stream(), "For an iterable, pass a function that returns its iterator to "),
        (Consumer.__new__(Consumer), "the source is a Consumer, .* a server computes its batches already"),
        ({1, 2}, "the source is a set, .* pass a list of its items, which has an order"),
        (frozenset({1, 2}), "the source is a frozenset, .* pass a list of its items, which has an order"),
        (Path("images"), "Path, which has no items by index: list its files"),
        (Loader([1, 2], workers=0), r"the source is a Loader, .* pass its source \(`loader\.source`\)"),
        (OrderedEnqueuer([1, 2]), "the source is a OrderedEnqueuer, .* pass its source"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_wrong_sources_raise_with_remedy(make, source, text):
    with pytest.raises(TypeError, match=text):
        make(source)


NINE = [*range(9)]
CALLS = [
    (lambda: GeneratorEnqueuer(Numbers), TypeError, "pass an instance"),
    (lambda: OrderedEnqueuer(NINE, "yes"), TypeError, "use_multiprocessing must be True or False, got 'yes'"),
    (
        lambda: Loader(COLUMNS, batch_size=3), TypeError,
        r"and its item 0 is not a sample.*a dict with that row of.*number of samples$",
    ),
    (lambda: Loader(_table_of("polars", "DataFrame"), batch_size=2), TypeError, r"a DataFrame of polars.*frame\.to_dicts\(\)"),
    (lambda: Loader(_table_of("pyarrow", "Table"), batch_size=2), TypeError, r"a Table of pyarrow.*table\.to_pylist\(\)"),
    (lambda: Loader(needs_an_argument), TypeError, r"without arguments, but needs_an_argument\(worker_id\) needs some"),
    (lambda: GeneratorEnqueuer(needs_an_argument), TypeError, r"but needs_an_argument\(worker_id\) needs some"),
    (lambda: len(Loader(lambda: iter(()))), TypeError, "which has no length"),
    (
        lambda: Loader(NINE, batch_size=8, sampler=[1, 2], drop_last=True), ValueError,
        "drop_last leaves no batch: the sampler has 2 indices, and a batch needs 8",
    ),
    (
        lambda: Loader(NINE, batch_size=4, sampler=[1, 2, 3, 4], drop_last=True, shard=(0, 2)), ValueError,
        "one batch for each rank needs 8",
    ),
    *((partial(Loader, NINE, workers=0, **option), ValueError, f"{name}=1 .*: leave it out, or pass workers=1")
      for option in ({"batch_timeout": 1}, {"max_batch_bytes": 1}) for name in option),
    *((partial(make, NINE, **option, max_batch_bytes=1), ValueError, 'max_batch_bytes=1 .* use backend="process"')
      for make, option in ((Loader, {"backend": "thread"}), (OrderedEnqueuer, {}))),
    (lambda: OrderedEnqueuer(NINE, start_method="spawn"), ValueError, "start_method='spawn' needs worker processes"),
    (lambda: OrderedEnqueuer(NINE, batch_timeout=1).start(0), ValueError, "batch_timeout=1 .* or pass workers=1"),
    (lambda: Loader(NINE, workers=0).load_state_dict({}), ValueError, "lacks seed, epoch, position"),
    (lambda: Loader(NINE, workers=0).load_state_dict(None), TypeError, "expects the dict that state_dict"),
]  # fmt: skip


@pytest.mark.sample(5)
@pytest.mark.parametrize(("call", "kind", "text"), CALLS)
def test_wrong_call_raises_with_remedy(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_sampler_that_returns_less_than_dropped_batch_raises():
    loader = Loader(NINE, batch_size=8, sampler=iter([1, 2]), drop_last=True, workers=0)
    with pytest.raises(ValueError, match="returned no full batch for epoch 0, and drop_last=True drops a short batch"):
        next(iter(loader))


def test_tensor_without_numpy_dtype_raises_with_remedy():
    class Bfloat16:
        """A tensor like torch's: it supports DLPack, but NumPy cannot convert it."""

        dtype = "torch.bfloat16"
        __dlpack__ = None

        def __array__(self, *_, **__):
            raise TypeError("Got unsupported ScalarType BFloat16")

    loader = Loader([{"x": Bfloat16()}] * 3, batch_size=2, workers=0)
    with pytest.raises(
        TypeError, match=r"sample\['x'\] of index 0, a Bfloat16 of dtype torch\.bfloat16.*`\.float\(\)`"
    ):
        next(iter(loader))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"position": 1.0}, "its position must be an integer, 0 or more, got 1.0"),
        ({"position": -1}, "its position must be an integer, 0 or more, got -1"),
        ({"epoch": -1}, "its epoch must be an integer, 0 or more, got -1"),
        ({"epoch": None}, "its epoch must be an integer, 0 or more, got None"),
        ({"seed": "1"}, "its seed must be an integer, got '1'"),
        ({"ahead": [2.0]}, "its ahead must be an integer, 0 or more, got 2.0"),
        ({"source": 3}, r"the state contains the state of its source, but Numbers has no load_state_dict\(state\)"),
    ],
)
def test_invalid_values_in_state_raise_and_change_nothing(keys, text):
    with Loader(Numbers(), workers=1) as loader:
        batches = iter(loader)
        next(batches)
        with pytest.raises(ValueError, match=text):
            loader.load_state_dict(saved_with(loader.state_dict(), **keys))
        assert int(next(batches)[0]) == 1  # the workers keep running


@FRONTENDS
def test_length_too_large_for_shuffle_raises(make):
    """`sys.maxsize` means "endless" in some programs; NumPy creates an empty array for it."""
    source = make(Numbers(sys.maxsize), shuffle=True)
    with pytest.raises(
        ValueError, match=r"shuffle=True keeps the order of an epoch in memory, .* has 9,223,372,036,854,775,807 b"
    ):
        iter(source) if make is Loader else source.start()
    source.stop()


def forgets_to_yield():
    """Return None, like a function with a missing `yield`."""


def returns_a_number():
    return 5


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 1, "backend": "thread"}, {"workers": 1}])
@pytest.mark.parametrize(
    ("function", "got"),
    [(forgets_to_yield, "None: did you forget `yield`, or `return`?"), (returns_a_number, "int: 5")],
)
def test_generator_function_without_iterator_raises(function, got, options):
    with Loader(function, **options) as loader, pytest.raises(TypeError) as caught:
        next(iter(loader))
    assert str(caught.value) == f"the generator function {function.__name__} must return an iterator, got {got}"


MISSPELT = [
    (lambda: Loader([1], batchsize=4), "batch_size"),
    (lambda: Server("misspelt", [1], batchsize=4), "batch_size"),
    (lambda: OrderedEnqueuer([1], shufle=True), "shuffle"),
    (lambda: GeneratorEnqueuer(iter, use_multiprocesing=True), "use_multiprocessing"),
    (lambda: OrderedEnqueuer([1]).start(worker=2), "workers"),
    (lambda: Loader([1]).explain(0, bach=1), "batch"),
    (lambda: Server("misspelt", [1]).stop(timout=1), "timeout"),
    (lambda: attach("misspelt", timout=1), "timeout"),
    (lambda: mpqueue.keras.accelerate([1], worker=2), "workers"),
    (lambda: mpqueue.jax.device_iterator([1], prefech=2), "prefetch"),
    (lambda: Dataset([1]).batch(2, droplast=True), "drop_last"),
    (lambda: Dataset([1]).mix([Dataset([1])], weight=[1, 2]), "weights"),
    (lambda: files.Tar("none", onerror="skip"), "on_error"),
    (lambda: files.TarStream("none", path="x"), "paths"),
    (lambda: files.TFRecord("none", indx="folder"), "index"),
    (lambda: files.JSONLines("none", indx="folder"), "index"),
    (lambda: files.Images("none", decod=True), "decode"),
    (lambda: files.MDS("none", columnes=["a"]), "columns"),
]


@pytest.mark.sample(5)
@pytest.mark.parametrize(("call", "meant"), MISSPELT)
def test_misspelt_argument_is_named_with_the_one_that_was_meant(call, meant):
    with pytest.raises(TypeError, match=rf"got an unexpected keyword argument '\w+': did you mean '{meant}'"):
        call()


@pytest.mark.parametrize("name", ["cache", "state", "world"])
def test_argument_that_resembles_no_other_gets_no_suggestion(name):
    with pytest.raises(TypeError, match=rf"got an unexpected keyword argument '{name}'$"):
        Loader([1], **{name: 1})


def test_indexed_source_that_refuses_epoch_batches_says_how_to_continue_after_a_break():
    with pytest.raises(ValueError, match=r"batches = iter\(loader\), and itertools.islice\(batches, n\)"):
        Loader(Dataset.range(4), epoch_batches=2)
    with Loader(Dataset.range(4), workers=1) as loader:
        batches = iter(loader)
        assert [[int(each) for each in itertools.islice(batches, 2)] for _ in range(2)] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "command", ["bench x:make --bach-size 3", "serve x:make --name a --mdoe split", "doctor --jsn"]
)
def test_misspelt_option_of_a_command_is_named_with_the_one_that_was_meant(command, capsys):
    assert status_at_exit(*command.split()) == 2
    assert re.search(r"unrecognized arguments: .*: did you mean --(batch-size|mode|json)\?", capsys.readouterr().err)


def test_text_of_an_empty_source_and_of_an_unknown_length():
    with pytest.raises(ValueError, match=r"the source is empty: len\(list\) is 0, expected at least 1 item"):
        next(iter(Loader([], workers=0)))
    with pytest.raises(TypeError, match=r"stage 1, filter\(bool\), makes it a stream"):
        len(Loader(Dataset.range(4).filter(bool)))
    with pytest.raises(TypeError, match=r"the source \(Dataset\) is endless and has no length: take.*epoch_batches=n"):
        len(Loader(Dataset.range(4).repeat()))


def raising():
    yield 1
    raise ValueError("broken")


# The classes of the package that users never see: those without a public name.
CLASS = re.compile(r"^class (_?[A-Z]\w*[a-z][A-Z]\w*)", re.M)
CLASSES = {name for path in (ROOT / "mpqueue").rglob("*.py") for name in CLASS.findall(path.read_text("utf-8"))}
HIDDEN = "|".join(sorted(CLASSES - {name.rpartition(".")[2] for name in public_names()}))
PRIVATE = re.compile(rf"\b(?:{HIDDEN})\b|batch -1\b|-4611686018427387904")


STREAM = Dataset(raising).filter(bool)
FAILING = [
    lambda: len(Loader(STREAM)),
    lambda: list(Loader(STREAM, workers=0)),
    lambda: list(Loader(STREAM.batch(2), workers=2, lanes=2, threads=2)),
    lambda: list(Loader(STREAM, workers=0, shuffle=True)),
    lambda: list(Loader(STREAM, workers=0, sampler=[1])),
    lambda: list(Loader(Dataset(lambda: None), workers=0)),
    lambda: list(Loader(Dataset(lambda: iter([])).filter(bool), epoch_batches=3, workers=0)),
    lambda: Loader(STREAM, workers=0).explain(0, 70),
    lambda: Loader(STREAM, workers=0).compute(0, 70),
    lambda: Loader(STREAM, workers=0).seek(-1, 7),
    lambda: Loader(Dataset.range(3).map(lambda _: None), workers=0).compute(0, 0),
    lambda: Loader(Dataset.range(3), workers=0).explain(0, 70),
    lambda: Loader(Dataset.range(3), workers=0).exclude([9]),
    lambda: Loader(Dataset.range(3), workers=0).set_weights([1]),
    lambda: Loader(Dataset.range(3), workers=0).load_state_dict(Loader(STREAM, workers=0).state_dict()),
    lambda: Loader(STREAM, workers=0).load_state_dict(Loader(Dataset.range(3), workers=0).state_dict()),
    lambda: list(Loader(Dataset(raising).repeat(), workers=1, batch_timeout=1e-9, restarts=0, lanes=1)),
    lambda: OrderedEnqueuer(STREAM),
    lambda: GeneratorEnqueuer(Dataset.range(3)),
]


@pytest.mark.sample(5)
@pytest.mark.parametrize("call", FAILING)
def test_error_has_no_name_of_an_internal_class(call):
    with pytest.raises(Exception) as caught:
        call()
    texts = [str(caught.value), *getattr(caught.value, "__notes__", ())]
    assert [text for text in texts if PRIVATE.search(text)] == []


def of_a_part(*, num):
    """Yield this part of the elements."""
    info = mpqueue.worker_info()
    yield from range(info.shard_id, num, info.num_shards)


FILTERED = Dataset.range(40).filter(lambda x: x % 5 > 0)
IN_SHARDS = r"each of 16 virtual shards \(lanes\) makes its own batches\. Use .*fewer virtual shards"


@pytest.mark.sample(5)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (partial(of_a_part, num=3), {"batch_size": 4, "drop_last": True}, "no batches: drop_last=True drops"),
        (partial(of_a_part, num=0), {"batch_size": 4}, "is empty: it returned no elements"),
        (FILTERED, {"batch_size": 4, "drop_last": True}, rf"stage 2, batch\(4, drop_last=True\), drops .*{IN_SHARDS}"),
        (FILTERED.batch(4, drop_last=True).map(abs), {}, rf"stage 2, batch\(4, drop_last=True\), drops .*{IN_SHARDS}"),
        (FILTERED.batch(9, drop_last=True), {"shard": (1, 2), "lanes": 4}, r"on rank 1 of 2: .*each of 2 virtual sh"),
        (FILTERED.filter(lambda _: False), {}, "is empty: it returned no elements"),
    ],
)
@pytest.mark.filterwarnings("ignore:2 ranks share a stream")
def test_epoch_of_a_stream_without_batches_is_a_warning_once(source, options, words, workers):
    with Loader(source, workers=workers, **options) as loader:
        with pytest.warns(UserWarning, match=words):
            assert list(loader) == []
        assert list(loader) == []
        state = loader.state_dict()
    with Loader(source, workers=0, **options) as resumed:
        resumed.load_state_dict(state)
        with pytest.warns(UserWarning, match=words):
            assert list(resumed) == []


def test_end_of_an_epoch_that_had_batches_before_the_resume_is_no_warning():
    with Loader(FILTERED, batch_size=2, drop_last=True, workers=0) as loader:
        batches = iter(loader)
        state = [loader.state_dict() for _ in batches][-1]
        loader.load_state_dict(state)
        assert list(loader) == []


def test_epoch_batches_of_a_stream_whose_batches_are_all_dropped_is_an_error():
    words = r"an epoch of 2 batches is impossible: the stream of Dataset returned no batches: stage 2, batch\(4, drop_"
    with Loader(FILTERED, batch_size=4, drop_last=True, epoch_batches=2, workers=0) as loader:
        with pytest.raises(RuntimeError, match=words):
            list(loader)
