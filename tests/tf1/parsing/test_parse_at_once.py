"""Reading a batch at once gives what reading its records one by one gives, values and errors."""

from unittest import mock

import numpy as np
from helpers.encoding import block, bytes_list, entry, example, example_of, int64_list
from helpers.random_examples import RandomExamples
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.errors import InvalidArgumentError
from mpqueue.examples import reading

thorough = settings(derandomize=True, deadline=None, max_examples=150)
seeds = st.integers(0, 2**32)


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


@thorough
@given(seeds)
def test_a_batch_of_one_layout_is_read_the_same(seed):
    examples = RandomExamples(seed)
    records = examples.batch(25, alike=True)
    assert not isinstance(assert_the_same_one_by_one(records, examples.features), str)


@thorough
@given(seeds)
def test_a_batch_of_many_layouts_is_read_the_same(seed):
    examples = RandomExamples(seed)
    records = examples.batch(25, order=True)
    assert not isinstance(assert_the_same_one_by_one(records, examples.features), str)


@thorough
@given(seeds)
def test_a_batch_with_missing_features_is_read_the_same(seed):
    examples = RandomExamples(seed)
    assert_the_same_one_by_one(examples.batch(25, missing=0.02, order=True), examples.features)


@thorough
@given(seeds)
def test_a_batch_with_odd_records_is_read_the_same(seed):
    examples = RandomExamples(seed)
    assert_the_same_one_by_one(examples.batch(25, odd=0.03), examples.features)


@thorough
@given(seeds)
def test_a_batch_of_one_order_is_read_the_same(seed):
    examples = RandomExamples(seed)
    records = examples.batch(25)
    assert not isinstance(assert_the_same_one_by_one(records, examples.features), str)


@thorough
@given(seeds, st.booleans(), st.data())
def test_a_batch_with_a_flipped_bit_is_read_the_same(seed, alike, data):
    examples = RandomExamples(seed)
    records = examples.batch(22, alike=alike)
    place = data.draw(st.integers(0, len(records) - 1))
    bit = data.draw(st.integers(0, 8 * len(records[place]) - 1))
    flipped = bytearray(records[place])
    flipped[bit // 8] ^= 1 << bit % 8
    records[place] = bytes(flipped)
    assert_the_same_one_by_one(records, examples.features)


def test_a_key_that_comes_twice_in_every_record_is_read_the_same():
    records = [example(entry(b"x", int64_list(7**power)), entry(b"x", int64_list(power))) for power in range(22)]
    features = {"x": mpqueue.FixedLenFeature([], "int64")}
    assert assert_the_same_one_by_one(records, features)["x"][2] == np.arange(22).tobytes()


def test_a_value_that_is_longer_than_its_entry_is_read_the_same():
    records = [example(entry(b"x", int64_list(7**power))) for power in range(22)]
    too_long = block(0x0A, b"x") + bytes([0x12, 3]) + b"\x1a\0"
    records[11] = example(block(0x0A, too_long))
    assert "record 11" in assert_the_same_one_by_one(records, {"x": mpqueue.FixedLenFeature([], "int64")})


def test_layouts_of_many_lengths_are_remembered_up_to_a_bound():
    features = {"s": mpqueue.FixedLenFeature([], "string")}
    for length in range(60):
        result = mpqueue.parse_example([example_of(s=bytes_list(b"x" * length))] * 20, features)
        assert result["s"].tolist() == [b"x" * length] * 20
