"""Collation of samples by field; samples that cannot be stacked raise an error with leaf, indices and shapes."""

import dataclasses
import enum
import itertools
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
from helpers.batch_trees import same
from helpers.loader_runs import batches_of

import mpqueue
from mpqueue.samples.collate import Collation


class Pair(NamedTuple):
    x: object
    y: object


@dataclasses.dataclass(frozen=True)
class Item:
    x: object
    name: str

    def __post_init__(self):
        assert np.ndim(self.x) == 1, "a batch is not an item: __init__ does not create it"


class Colour(enum.IntEnum):
    RED = 3


def collate(*samples):
    collation = Collation(len(samples), np.empty)
    for sample in samples:
        collation.add(sample)
    return collation.finish(range(100, 100 + len(samples)))


BIG = np.arange(3 * 5000).reshape(3, 5000)
CASES = {
    "arrays": ([np.ones(3), np.zeros(3)], np.array([[1.0, 1, 1], [0, 0, 0]])),
    "large arrays": ([BIG[0], BIG[1], BIG[2]], BIG),
    "arrays without a shape": ([np.array(2), np.array(3)], np.array([2, 3])),
    "empty arrays": ([np.ones((0, 2)), np.ones((0, 2))], np.ones((2, 0, 2))),
    "integers": ([1, 2], np.array([1, 2])),
    "floats": ([1.5, 2.0], np.array([1.5, 2.0])),
    "flags": ([True, False], np.array([True, False])),
    "complex numbers": ([1j, 2 + 0j], np.array([1j, 2])),
    "numbers that promote": ([1, 2.5, True], np.array([1, 2.5, 1])),
    "large integers": ([2**63, 1], np.array([2**63, 1], np.uint64)),
    "integers of no dtype": ([2**70, 1], [2**70, 1]),
    "numbers of NumPy": ([np.float32(1), np.float32(2)], np.array([1, 2], np.float32)),
    "members of an IntEnum": ([Colour.RED, Colour.RED], np.array([3, 3])),
    "an array and a number": ([np.array(1.5, np.float32), 2], np.array([1.5, 2])),
    "dtypes that promote": ([np.ones(2, np.uint8), np.full(2, 300, np.int16)], np.array([[1, 1], [300, 300]], np.int16)),
    "three dtypes at once": ([np.ones(1, np.int8), np.ones(1, np.uint8), np.ones(1, np.float16)], np.ones((3, 1), np.float16)),
    "large arrays that promote": ([BIG[0].astype(np.int32), BIG[1] / 2], np.stack([BIG[0], BIG[1] / 2])),
    "text in arrays is not cut off": ([np.array(["a"]), np.array(["abc"])], np.array([["a"], ["abc"]])),
    "text": (["a", "bc"], ["a", "bc"]),
    "bytes": ([b"a", b""], [b"a", b""]),
    "other objects": ([{1}, {2}], [{1}, {2}]),
    "text and other objects": (["a", {2}], ["a", {2}]),
    "none in a field": ([(None, 1), (None, 2)], (None, np.array([1, 2]))),
    "tuples": ([(1, "a"), (2, "b")], (np.array([1, 2]), ["a", "b"])),
    "lists": ([[1, np.ones(2)], [2, np.ones(2)]], [np.array([1, 2]), np.ones((2, 2))]),
    "dicts": ([{"x": 1, "y": None}, {"y": None, "x": 2}], {"x": np.array([1, 2]), "y": None}),
    "dicts of another class": ([OrderedDict(x=1), {"x": 2}], {"x": np.array([1, 2])}),
    "nested": ([{"a": [(BIG[0], "t")]}, {"a": [(BIG[1], "u")]}], {"a": [(BIG[:2], ["t", "u"])]}),
    "named tuples": ([Pair(BIG[0], 1), Pair(BIG[1], 2)], Pair(BIG[:2], np.array([1, 2]))),
    "dataclasses": ([Item(np.ones(2), "a"), Item(np.zeros(2), "b")], None),
    "one sample": ([(BIG[0], 7)], (BIG[:1], np.array([7]))),
    "structured arrays": ([np.zeros(2, "i4,f8"), np.ones(2, "i4,f8")], np.array([[(0, 0), (0, 0)], [(1, 1), (1, 1)]], "i4,f8")),
    "dates": ([np.datetime64("2020-01-01"), np.datetime64("2020-01-01T12")], np.array(["2020-01-01T00", "2020-01-01T12"], "M8[h]")),
}  # fmt: skip


@pytest.mark.sample(8)
@pytest.mark.parametrize("name", CASES)
def test_samples_are_collated_by_field(name):
    samples, expected = CASES[name]
    batch = collate(*samples)
    if name == "dataclasses":
        assert type(batch) is Item
        batch, expected = (batch.x, batch.name), (np.array([[1.0, 1], [0, 0]]), ["a", "b"])
    assert same(batch, expected)


def test_batch_through_slot_is_equal():
    """Including named tuples and dataclasses, which are rebuilt in the trainer."""
    cases = [samples for samples, _ in CASES.values()]
    ends = itertools.accumulate(map(len, cases), initial=0)
    batches = itertools.starmap(range, itertools.pairwise(ends))
    with mpqueue.Loader(list(itertools.chain(*cases)), batch_sampler=batches, workers=1) as loader:
        for samples, batch in zip(cases, loader, strict=True):
            expected = collate(*samples)
            assert type(batch) is type(expected)
            if isinstance(batch, Item):
                batch, expected = dataclasses.astuple(batch), dataclasses.astuple(expected)
            assert same(batch, expected)


def test_masked_arrays_keep_their_masks():
    batch = collate(np.ma.array([1, 2], mask=[0, 1]), np.ma.array([3, 4], mask=[1, 0]))
    assert batch.mask.tolist() == [[False, True], [True, False]]


MASKED = {
    "arrays": [np.array([1, 2, 3]), np.ma.masked_array([1, 2, 5], mask=[0, 1, 0])],
    "large arrays": [BIG[0], np.ma.masked_greater(BIG[0], 9)],
    "the items of a column": list(np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])),
    "missing numbers only": [np.ma.masked, np.ma.masked],
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("workers", [0, 1])
def test_masked_and_plain_values_keep_their_masks(name, workers):
    samples = MASKED[name]
    with mpqueue.Loader(samples, batch_size=3, workers=workers) as loader:
        (batch,) = loader
    assert batch.tolist() == np.ma.stack(samples).tolist()


UNLIKE = {
    "shapes": ([np.ones(3), np.ones(4)], r"sample of index 100 has shape \(3,\), but index 101 has shape \(4,\)"),
    "masked": ([np.ma.ones(3), np.ma.ones(4)], r"sample of index 100 has shape \(3,\), but index 101 has shape \(4,\)"),
    "masked and plain": ([np.ones(4), np.ma.ones(3)], r"index 100 has shape \(4,\), but index 101 has shape \(3,\)"),
    "large shapes": ([BIG[0], BIG[0], BIG[0][1:]], r"index 100 has shape \(5000,\), but index 102 has shape \(4999,\)"),
    "ranks": ([(1, np.ones(3)), (1, np.ones((1, 3)))], r"sample\[1\] of index 100 has shape \(3,\), .* has shape \(1, 3\)"),
    "none in some": ([{"x": 1}, {"x": None}], r"sample\['x'\] of index 100 is of type int, but index 101 is None"),
    "none first": ([[None], [BIG[0]]], r"sample\[0\] of index 100 is None, but index 101 is of type ndarray"),
    "keys": ([{"x": 1}, {"y": 1}], r"index 100 has the keys \['x'\], but index 101 has the keys \['y'\]"),
    "lengths": ([{"x": (1, 2)}, {"x": (1,)}], r"sample\['x'\] of index 100 has length 2, but index 101 has length 1"),
    "containers": ([(1, 2), [1, 2]], "index 100 is of type tuple, but index 101 is of type list"),
    "text and numbers": ([[1], ["a"]], r"sample\[0\] of index 100 is of type int, but index 101 is of type str"),
    "dtypes": ([np.ones(1, "i4,f8"), np.ones(1)], "has dtype .*but index 101 has dtype float64"),
    "third dtype": ([np.ones(1, "i4"), np.ones(1), np.ones(1, "M8[D]")], r"int32, but index 102 has dtype datetime64"),
    "dtypes of one kind": ([np.ones(1, "m8[Y]"), np.ones(1, "m8[D]")], r"index 101 has dtype timedelta64\[D\]"),
    "fields": ([Pair(1, np.ones(2)), Pair(1, np.ones(3))], r"sample\.y of index 100"),
}  # fmt: skip


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", UNLIKE)
def test_different_samples_raise_and_are_named(name):
    samples, words = UNLIKE[name]
    with pytest.raises(ValueError, match=words):
        collate(*samples)


def test_error_names_indices_of_source():
    source = [np.ones(2), np.ones(2), np.ones(3), np.ones(2)]
    with mpqueue.Loader(source, sampler=[3, 2], batch_size=2, workers=0) as loader:
        with pytest.raises(ValueError, match=r"index 3 has shape \(2,\), but index 2 has shape \(3,\)"):
            next(iter(loader))


@pytest.mark.parametrize(("collate", "expected"), [(lambda samples: sum(samples), [3, 3]), (list, [[1, 2], [3]])])
def test_custom_collate_receives_samples_and_may_be_a_class(collate, expected):
    assert batches_of([1, 2, 3], batch_size=2, collate=collate, workers=1) == expected


def test_tensors_are_stacked_as_arrays():
    torch = pytest.importorskip("torch")
    batch = collate((torch.ones(3), torch.tensor(1)), (torch.zeros(3), torch.tensor(2)))
    assert same(batch, (np.array([[1, 1, 1], [0, 0, 0]], np.float32), np.array([1, 2])))
