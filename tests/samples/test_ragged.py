"""Ragged batches: arrays of different lengths, joined without padding."""

import dataclasses
import os
from typing import NamedTuple

import numpy as np
import pytest
from helpers.coroutines import Awaited
from helpers.unpickled_batches import copies_nothing
from hypothesis import given
from hypothesis import strategies as st

import mpqueue
from mpqueue import Dataset, Ragged
from mpqueue.samples.collate import Collation
from mpqueue.samples.padding import PaddedCollation

pytestmark = pytest.mark.sample(1)


def join(*samples, collate="ragged", kind=Collation):
    collation = kind(len(samples), np.empty, ragged=collate)
    for sample in samples:
        collation.add(sample)
    return collation.finish([10 + number for number in range(len(samples))])


def listed(batch):
    assert type(batch) is Ragged
    assert batch.offsets.dtype == np.int64
    assert batch.offsets[0] == 0
    assert batch.offsets[-1] == len(batch.values)
    return [array.tolist() for array in batch.to_list()]


@given(st.lists(st.lists(st.integers(-9, 9), max_size=6), min_size=1, max_size=6))
def test_samples_follow_one_another(samples):
    batch = join(*[np.array(sample, np.int16) for sample in samples])
    assert batch.values.dtype == np.int16
    assert listed(batch) == samples
    assert listed(join(*samples)) == samples  # lists of numbers, as tokenizers return them


@pytest.mark.parametrize("lengths", [(3,), (0,), (0, 0, 0), (2, 2, 2), (0, 5), (5, 0), (3000, 2000)], ids=str)
def test_offsets_are_those_of_the_lengths(lengths):
    batch = join(*[np.full((length, 3), length, np.float16) for length in lengths])
    assert batch.offsets.tolist() == [0, *np.cumsum(lengths).tolist()]
    assert (batch.values.shape, batch.values.dtype) == ((sum(lengths), 3), np.float16)
    assert all((array == len(array)).all() for array in batch.to_list())


@pytest.mark.parametrize(
    "dtype", [bool, "S3", "U3", "M8[D]", object, complex, ">i4", [("a", int), ("b", bool)]], ids=str
)
def test_dtype_is_kept(dtype):
    first, second = np.zeros(2, dtype), np.zeros(3, dtype)
    batch = join(first, second)
    assert batch.values.dtype == first.dtype
    assert [len(array) for array in batch.to_list()] == [2, 3]


def test_bfloat16_is_kept():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert join(np.ones(2, ml_dtypes.bfloat16), np.ones(1, ml_dtypes.bfloat16)).values.dtype == ml_dtypes.bfloat16


def test_strings_get_the_length_of_the_longest_one():
    assert listed(join(np.array(["a"]), np.array(["bcd", "e"]))) == [["a"], ["bcd", "e"]]


@pytest.mark.parametrize("kind", ["i4", "f8", "U3", "M8[D]", [("a", "i4"), ("b", "f8")]], ids=str)
def test_byte_orders_of_one_dtype_become_the_native_one(kind):
    native, other = np.ones(2, kind), np.zeros(1, np.dtype(kind).newbyteorder())
    for arrays in ((native, other), (other, native), (other, np.empty(0), native)):
        batch = join(*arrays)
        assert batch.values.dtype == native.dtype
        assert batch.values.tolist() == [value for each in arrays for value in each.tolist()]
    assert join(other, other).values.dtype == other.dtype
    with pytest.raises(ValueError, match="one dtype"):
        join(np.ones(1, ">i4"), np.ones(1, ">i8"))


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1 has no such strings")
def test_strings_of_any_length_are_joined():
    kind = np.dtypes.StringDType()
    assert listed(join(np.array(["a"], kind), np.array(["bcd", "e"], kind))) == [["a"], ["bcd", "e"]]


def test_sample_without_elements_has_the_dtype_of_the_others():
    assert join([], [1, 2]).values.dtype == np.int64
    assert join(np.ones(1, np.int8), np.empty(0)).values.dtype == np.int8


@pytest.mark.parametrize("samples", [([],), ([], []), ([np.int32(1)][:0], [])])
def test_batch_of_empty_lists_only_is_of_integers(samples):
    """As batches with numbers usually are: an embedding rejects floats, and NumPy combines integers with any dtype."""
    assert join(*samples).values.dtype == np.int64
    assert join(*[{"a": sample} for sample in samples])["a"].values.dtype == np.int64
    assert join(*samples, collate=None, kind=PaddedCollation).dtype == np.int64
    whole = [{"tokens": np.ones(2, np.int8), "ids": sample} for sample in samples]
    for row in Dataset(whole).pack(4, whole=["ids"]):
        assert (row["tokens"].dtype, row["ids"].values.dtype) == (np.int8, np.int64)


class Pair(NamedTuple):
    tokens: object
    label: int


@dataclasses.dataclass
class Document:
    tokens: object
    name: str


def test_fields_of_any_structure_are_ragged_and_other_leaves_as_before():
    batch = join(
        ({"a": [1], "b": np.zeros(2)}, 5, "x", np.float32(1), None, np.array(3)),
        ({"a": [2, 3], "b": np.ones(1)}, 6, "y", np.float32(2), None, np.array(4)),
    )
    assert listed(batch[0]["a"]) == [[1], [2, 3]]
    assert listed(batch[0]["b"]) == [[0, 0], [1]]
    assert batch[1].tolist() == [5, 6]
    assert (batch[2], batch[4]) == (["x", "y"], None)
    assert batch[3].tolist() == [1, 2]
    assert batch[5].tolist() == [3, 4]  # an array without axes has no length


@pytest.mark.parametrize("length", [2, 1000])  # small and large arrays, which are added differently
def test_chosen_fields_are_ragged_and_others_stacked(length):
    def sample(number):
        return {"a": np.full(length + number, number), "b": np.full(length, number), "c": (np.ones(number), number)}

    batch = join(sample(0), sample(1), collate={"a": "ragged", "c": {0: "ragged"}})
    assert [len(each) for each in listed(batch["a"])] == [length, length + 1]
    assert batch["b"].shape == (2, length)
    assert listed(batch["c"][0]) == [[], [1]]
    assert batch["c"][1].tolist() == [0, 1]


def test_fields_of_named_tuples_and_dataclasses_are_chosen_by_name():
    pairs = join(Pair([1], 1), Pair([2, 3], 2), collate={"tokens": "ragged"})
    assert type(pairs) is Pair
    assert (listed(pairs.tokens), pairs.label.tolist()) == ([[1], [2, 3]], [1, 2])
    documents = join(Document([1], "a"), Document([2, 3], "b"), collate={"tokens": "ragged"})
    assert (listed(documents.tokens), documents.name) == ([[1], [2, 3]], ["a", "b"])


def test_a_chosen_field_with_fields_is_ragged_in_all_of_them():
    batch = join({"a": {"x": [1], "n": 1}, "b": [1]}, {"a": {"x": [1, 2], "n": 2}, "b": [3]}, collate={"a": "ragged"})
    assert listed(batch["a"]["x"]) == [[1], [1, 2]]
    assert batch["a"]["n"].tolist() == [1, 2]
    assert [column.tolist() for column in batch["b"]] == [[1, 3]]  # a list is a container, as without a choice


def test_other_fields_of_a_bucket_are_padded():
    batch = join({"a": [1], "b": [1]}, {"a": [2, 3], "b": [2, 3]}, collate={"a": "ragged"}, kind=PaddedCollation)
    assert listed(batch["a"]) == [[1], [2, 3]]
    assert batch["b"].tolist() == [[1, 0], [2, 3]]


def test_ragged_samples_are_joined_whatever_the_choice():
    one, two = join([1, 2], [3]), join([4], [], [5, 6, 7])
    for collate in ("ragged", None):
        assert listed(join({"a": one}, {"a": two}, collate=collate)["a"]) == [[1, 2], [3], [4], [], [5, 6, 7]]


@pytest.mark.parametrize("collate", ["ragged", {"a": "ragged"}])
def test_masked_arrays_are_refused_and_named(collate):
    masked = np.ma.masked_less(np.arange(3), 1)
    for index, samples in ((10, (masked, masked)), (12, (np.arange(3), [0, 1], masked))):
        with pytest.raises(ValueError, match=rf"sample\['a'\] of index {index} is masked.*call filled\(\)"):
            join(*[{"a": each} for each in samples], collate=collate)
    with pytest.raises(ValueError, match="index 10 is masked"):
        join(Ragged(masked, np.array([0, 3])), collate=None)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (([1], [1.5]), r"sample of index 10 has dtype int64, but index 11 has dtype float64.*one dtype"),
        (([1], [], [1.5]), r"sample of index 10 has dtype int64, but index 12 has dtype float64"),
        (
            (np.ones((1, 2)), np.ones((1, 3))),
            r"index 10 has shape \('n', 2\), but index 11 has shape \('n', 3\).*one shape",
        ),
        ((np.ones((1, 2)), np.ones(2)), r"index 10 has shape \('n', 2\), but index 11 has shape \('n',\)"),
        (({"a": [1]}, {"a": None}), r"sample\['a'\] of index 10 is of type list, but index 11 is None"),
        (({"a": [1]}, {"a": "x"}), r"sample\['a'\] of index 10 is of type list, but index 11 is of type str"),
    ],
    ids=str,
)
def test_samples_that_cannot_be_joined_raise_and_name_both(samples, message):
    with pytest.raises(ValueError, match=message):
        join(*samples)


@pytest.mark.parametrize(
    ("collate", "message"),
    [
        ({"b": "ragged"}, r"the field 'b', and sample of index 10 has \['a', 'n', 's'\]"),
        ({"n": "ragged"}, r"sample\['n'\] of index 10, a int, which is no array with a first axis"),
        ({"s": "ragged"}, r"sample\['s'\] of index 10, a str, which is no array with a first axis"),
        ({"a": {"x": "ragged"}}, r"sample\['a'\] of index 10, a ndarray, which is without the fields \['x'\]"),
    ],
    ids=str,
)
def test_choice_that_does_not_fit_the_samples_raises(collate, message):
    with pytest.raises(ValueError, match=f"collate chooses {message}"):
        join(*[{"a": np.ones(2), "n": 1, "s": "x"}] * 2, collate=collate)


@pytest.mark.parametrize(
    "items", [(0, 1, 2), ["x"] * 3, [[1]] * 3, [1, None], [np.ones(2)] * 3], ids=lambda items: str(items[-1])
)
@pytest.mark.parametrize("lengths", [(2, 2), (2, 3)])
def test_other_sequences_in_a_field_that_is_chosen_by_name_raise(items, lengths):
    samples = [{"a": np.ones(3)}, *({"a": items[:length]} for length in lengths)]
    with pytest.raises(ValueError, match=r"collate chooses sample\['a'\] of index 1[01], a .*no list of numbers"):
        join(*samples[1:], collate={"a": "ragged"})
    with pytest.raises(ValueError, match=r"collate chooses sample\['a'\] of index 11, a .*no list of numbers"):
        join(*samples, collate={"a": "ragged"})


def test_other_sequences_are_as_without_a_choice_where_all_fields_are_chosen():
    for one, other in (((1, 2), (3, 4)), (["x", "y"], ["z", "w"])):
        assert str(join(one, other)) == str(join(one, other, collate=None))


@pytest.mark.parametrize("collate", ["ragged", {"a": "ragged"}])
def test_lists_of_numpy_numbers_are_arrays(collate):
    samples = [[np.int64(5)], [], [1, np.int64(2)]]
    batch = join(*[{"a": each} for each in samples], collate=collate)["a"]
    assert (listed(batch), batch.values.dtype) == (samples, np.int64)
    floats = join([np.float32(1)], [np.float32(2), np.float32(3)])
    assert (listed(floats), floats.values.dtype) == ([[1], [2, 3]], np.float32)


def test_tuples_of_arrays_have_fields():
    batch = join(*[{"a": (np.ones(n), [n])} for n in (1, 2)], collate={"a": "ragged"})
    assert [listed(part) for part in batch["a"]] == [[[1], [1, 1]], [[1], [2]]]


@pytest.mark.parametrize(
    "samples", [([1], [1, 2]), (np.ones(2), np.ones(3)), (np.ones((2, 4)), np.ones((3, 4)))], ids=str
)
def test_the_error_of_the_default_names_the_remedy(samples):
    with pytest.raises(ValueError, match=r'index 10 has .*, but index 11 has .*collate="ragged"'):
        join(*samples, collate=None)


def test_other_errors_of_the_default_do_not_name_it():
    for samples in ((np.ones((2, 4)), np.ones((2, 5))), ((1, 2), (1, 2, 3))):
        with pytest.raises(ValueError, match="pass collate=, a function") as caught:
            join(*samples, collate=None)
        assert "ragged" not in str(caught.value)


ONE = Dataset([[1]])
BAD_CHOICES = [
    (lambda: mpqueue.Loader([[1]], batch_size=1, collate="padded"), '^collate must be "ragged", or a mapping'),
    (lambda: mpqueue.Loader([[1]], batch_size=1, collate=""), '^collate must be "ragged"'),
    (lambda: ONE.batch(1, collate="padded"), 'batch: collate must be "ragged", or a mapping'),
    (lambda: ONE.batch(1, collate=""), 'batch: collate must be "ragged"'),
    (lambda: mpqueue.Loader([[1]], batch_size=1, collate={"a": 3}), r"collate\['a'\] must be"),
    (lambda: mpqueue.Loader([[1]], batch_size=1, collate={}), "collate must be"),
    (lambda: mpqueue.Loader([[1]], collate="ragged"), "collate makes batches of samples: pass batch_size"),
    (lambda: ONE.bucket(len, [2], [1, 1], collate="pad"), "bucket: collate must be"),
    (lambda: ONE.batch(1, collate="ragged").batch(1, collate="ragged"), "batch takes single samples, and stage 1"),
]


def test_bad_choices_raise_before_workers_start():
    for make, message in BAD_CHOICES:
        with pytest.raises(ValueError, match=message):
            make()


class Texts(NamedTuple):
    """Strings of 0 to 6 tokens."""

    size: int = 1

    def __len__(self):
        return 17

    def __getitem__(self, index):
        return {"tokens": np.full(index % 7 * self.size, index, np.int32), "index": index}


def texts_of(batches):
    return [(list(map(len, batch["tokens"].to_list())), batch["index"].tolist()) for batch in batches]


PARTS = [list(range(17))[first : first + 4] for first in range(0, 17, 4)]
EXPECTED = [([index % 7 for index in part], part) for part in PARTS]
CHOICE = {"tokens": "ragged"}
TEXTS = Texts()


def loader_of(source=TEXTS, **options):
    return mpqueue.Loader(source, **{"batch_size": 4, "collate": CHOICE, "workers": 1} | options)


@pytest.mark.parametrize("size", [1, 2000])
def test_values_and_offsets_are_written_into_the_slot_and_nothing_is_pickled(size, monkeypatch):
    with loader_of(Texts(size=size), collate="ragged", **copies_nothing(monkeypatch)) as loader:
        for batch in loader:
            lengths = [index % 7 * size for index in batch["index"]]
            assert batch["tokens"].values.tolist() == np.repeat(batch["index"], lengths).tolist()
        assert loader.statistics().copies == 0


def test_larger_batches_than_the_first_one_grow_the_slot():
    arrays = [np.full(10**length, length) for length in (0, 1, 2, 3, 4, 5, 6)]
    with mpqueue.Loader(arrays, batch_size=1, collate="ragged", workers=1, max_queue_size=2) as loader:
        for expected, batch in zip(arrays, loader, strict=True):
            assert np.array_equal(batch.values, expected)


def test_the_limit_of_a_batch_counts_its_values():
    samples = [np.ones(9000)] * 2
    with mpqueue.Loader(samples, batch_size=2, collate="ragged", workers=1, max_batch_bytes=100_000) as loader:
        with pytest.raises(mpqueue.errors.BatchTooLarge):
            next(iter(loader))


@pytest.mark.parametrize(
    ("workers", "later"),
    [(2, {"collate": "ragged"}), (0, {"workers": 0})],  # the choice is the form of a batch, not its samples
    ids=["the same choice", "another choice"],
)
def test_resume_continues_with_the_same_batches(workers, later):
    with loader_of(collate="ragged", workers=workers) as loader:
        batches = iter(loader)
        first = texts_of([next(batches), next(batches)])
        state = loader.state_dict()
    with loader_of(**later) as loader:
        loader.load_state_dict(state)
        assert first + texts_of(loader) == EXPECTED


def test_ranks_with_a_balance_and_micro_batches_have_ragged_parts():
    seen = []
    for rank in range(2):
        balance = mpqueue.Balance(cost=lambda index: 1 + index % 7, max_cost=16)
        with loader_of(batch_size=6, shard=(rank, 2), balance=balance) as loader:
            for lengths, indices in (part for step in loader for part in texts_of(step)):
                assert lengths == [index % 7 for index in indices]
                assert sum(1 + length for length in lengths) <= 16
                seen += indices
    assert sorted(seen) == list(range(17))


def test_a_bucket_makes_ragged_batches():
    dataset = Dataset(Texts()).bucket(lambda text: len(text["tokens"]), [4], [3, 2], collate=CHOICE)
    with mpqueue.Loader(dataset, workers=1, lanes=1) as loader:
        found = texts_of(loader)
    assert sorted(index for _, indices in found for index in indices) == list(range(17))
    assert all(max(lengths) < 4 or min(lengths) >= 4 for lengths, _ in found)


def test_a_stage_shows_its_choice():
    assert "batch(4, collate='ragged')" in repr(Dataset([[1]]).batch(4, collate="ragged"))


def test_an_asynchronous_source_and_a_generator_have_ragged_batches():
    def generated():
        yield from map(np.arange, range(5))

    for source, options in ((Awaited(np.arange, 5), {}), (generated, {"lanes": 1})):
        with loader_of(source, batch_size=3, collate="ragged", **options) as loader:
            assert [batch.offsets.tolist() for batch in loader] == [[0, 0, 1, 3], [0, 3, 7]]


def test_a_server_sends_ragged_batches():
    name = f"ragged-{os.getpid()}"
    with mpqueue.Server(name, Texts(), batch_size=4, collate=CHOICE, workers=1), mpqueue.attach(name) as consumer:
        assert texts_of(consumer) == EXPECTED


def test_a_dataset_itself_returns_ragged_batches():
    dataset = Dataset(Texts()).batch(4, collate=CHOICE)
    assert texts_of(dataset) == EXPECTED
    assert texts_of([dataset[2]]) == [EXPECTED[2]]
