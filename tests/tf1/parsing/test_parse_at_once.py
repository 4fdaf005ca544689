"""Parsing a batch at once yields the same values and errors as parsing its records one by one."""

import random
from unittest import mock

import numpy as np
import pytest
from helpers.example_encoding import block, bytes_list, entry, example, example_of, float_list, int64_list
from helpers.sweeps import part_of
from helpers.wrapped_functions import recorded
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue import files
from mpqueue.errors import InvalidArgumentError
from mpqueue.examples import reading

thorough = settings(derandomize=True, deadline=None, max_examples=part_of(100, 4))
seeds = st.integers(0, 2**32)


KEYS = ["a", "b", "a key of more than sixteen bytes", ""]


class RandomExamples:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.features = {}
        self._kinds = {}
        for key in self.random.sample(KEYS, self.random.randint(1, 4)):
            self._kinds[key] = dtype, size = (
                self.random.choice(["int64", "float32", "string"]),
                self.random.choice([1, 1, 3, 4]),
            )
            self.features[key] = self._feature(dtype, size)

    def _feature(self, dtype, size):
        shape = {1: self.random.choice([[], [1]]), 3: [3], 4: [2, 2]}[size]
        default = None if self.random.random() < 0.5 else np.full(shape, b"d" if dtype == "string" else 5)
        return self.random.choice(
            [
                files.VarLenFeature(dtype),
                files.FixedLenFeature(shape, dtype, default),
                files.FixedLenSequenceFeature(shape, dtype, allow_missing=True),
            ]
        )

    def batch(self, size, missing=0.0, odd=0.0, order=False, alike=False):
        """Return records; ``missing`` and ``odd`` are the fractions of missing features and of unusual encodings."""
        counts = {key: self._count(key) for key in self.features} if alike else None
        return [self._record(missing, odd, order, counts) for _ in range(size)]

    def _count(self, key):
        size = self._kinds[key][1]
        if isinstance(self.features[key], files.FixedLenFeature):
            return size
        return size * self.random.randint(0, 3)

    def _record(self, missing, odd, order, counts):
        entries = []
        for key in self.features:
            if self.random.random() >= missing:
                count = counts[key] if counts else self._count(key)
                entries.append(entry(key.encode(), self._list(self._kinds[key][0], count, odd, counts is not None)))
        if order:
            self.random.shuffle(entries)
            entries.append(entry(b"unrequested", self._list("string", 1, 0.0, alike=False)))
        record = example(*entries)
        if self.random.random() < odd:
            return self.random.choice(
                [record[:-1], record + b"\x10\x05", b"", record + record, block(0x12, b"") + record]
            )
        return record

    def _list(self, dtype, count, odd, alike):
        packed = self.random.random() >= odd
        if dtype == "float32":
            return float_list(
                *(self.random.choice([0.0, -1.5, 1e30, self.random.random()]) for _ in range(count)), packed=packed
            )
        if dtype == "string":
            return bytes_list(*(b"x" * (4 if alike else self.random.choice([0, 1, 5, 200])) for _ in range(count)))
        bits = 6 if alike else self.random.choice([1, 7, 14, 40, 63, 64])
        return int64_list(*(self.random.getrandbits(bits) for _ in range(count)), packed=packed)


def outcome(records, features):
    try:
        result = mpqueue.parse_example(records, features)
    except InvalidArgumentError as error:
        return str(error)
    return {key: described(values) for key, values in result.items()}


def described(values):
    if isinstance(values, mpqueue.SparseTensorValue):
        return [described(part) for part in values]
    return values.dtype, values.shape, values.tolist() if values.dtype == object else values.tobytes()


def assert_the_same_one_by_one(records, features):
    at_once = outcome(records, features)
    with mock.patch.object(reading, "_AT_ONCE_FROM", 10**9):
        assert outcome(records, features) == at_once
    return at_once


@pytest.mark.parametrize(
    ("kinds", "is_valid"),
    [
        ({}, True),
        ({"alike": True}, True),
        ({"order": True}, True),
        ({"missing": 0.02, "order": True}, False),
        ({"odd": 0.03}, False),
    ],
    ids=["one order", "one layout", "many layouts", "missing features", "unusual records"],
)
@thorough
@given(seed=seeds)
def test_batch_is_parsed_equally(kinds, is_valid, seed):
    examples = RandomExamples(seed)
    found = assert_the_same_one_by_one(examples.batch(25, **kinds), examples.features)
    assert not (is_valid and isinstance(found, str)), found


@thorough
@given(seeds, st.booleans(), st.data())
def test_batch_with_flipped_bit_is_parsed_equally(seed, alike, data):
    examples = RandomExamples(seed)
    records = examples.batch(22, alike=alike)
    place = data.draw(st.integers(0, len(records) - 1))
    bit = data.draw(st.integers(0, 8 * len(records[place]) - 1))
    flipped = bytearray(records[place])
    flipped[bit // 8] ^= 1 << bit % 8
    records[place] = bytes(flipped)
    assert_the_same_one_by_one(records, examples.features)


def test_duplicate_key_in_each_record_is_parsed_equally():
    records = [example(entry(b"x", int64_list(7**power)), entry(b"x", int64_list(power))) for power in range(22)]
    features = {"x": mpqueue.FixedLenFeature([], "int64")}
    assert assert_the_same_one_by_one(records, features)["x"][2] == np.arange(22).tobytes()


def test_value_longer_than_its_entry_is_parsed_equally():
    records = [example(entry(b"x", int64_list(7**power))) for power in range(22)]
    too_long = block(0x0A, b"x") + bytes([0x12, 3]) + b"\x1a\0"
    records[11] = example(block(0x0A, too_long))
    assert "record 11" in assert_the_same_one_by_one(records, {"x": mpqueue.FixedLenFeature([], "int64")})


class TestWhichWay:
    """The expected path is taken. Otherwise the tests above would compare a path with itself."""

    features = {"x": mpqueue.FixedLenFeature([], "int64"), "s": mpqueue.FixedLenFeature([], "string")}

    @pytest.fixture
    def rows_read(self, monkeypatch):
        """Return the arguments of each record that was parsed alone."""
        return recorded(monkeypatch, reading, "read_example")

    def records(self, numbers, text=b"abc"):
        return [example_of(x=int64_list(number), s=bytes_list(text)) for number in numbers]

    def test_records_of_one_layout_are_not_parsed_singly(self, rows_read, monkeypatch):
        monkeypatch.setattr(reading, "read_batch", None)
        assert mpqueue.parse_example(self.records(range(100)), self.features)["x"].tolist() == list(range(100))
        assert rows_read == []

    def test_records_of_many_layouts_are_not_parsed_singly(self, rows_read):
        numbers = [7**power for power in range(22)]
        assert mpqueue.parse_example(self.records(numbers), self.features)["x"].tolist() == numbers
        assert rows_read == []
