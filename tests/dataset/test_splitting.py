"""The stage `split`: disjoint parts that do not change when samples are appended."""

import itertools
import pickle

import hypothesis
import numpy as np
import pytest
from helpers.sweeps import part_of
from hypothesis import strategies as st

from mpqueue import Dataset
from mpqueue.dataset.transformations.split import Members, members_of

FRACTIONS = st.lists(st.floats(0.01, 1), min_size=1, max_size=5).map(
    lambda numbers: [number / sum(numbers) for number in numbers]
)


@hypothesis.given(fractions=FRACTIONS, seed=st.integers(-(1 << 70), 1 << 70), length=st.integers(0, 20_000))
@hypothesis.settings(max_examples=part_of(50, 4))
def test_parts_are_disjoint_ordered_and_together_the_dataset(fractions, seed, length):
    parts = [list(part.batch(1000, collate=list)) for part in Dataset.range(length).split(fractions, seed)]
    numbers = [[number for batch in part for number in batch] for part in parts]
    assert [sorted(part) for part in numbers] == numbers
    assert sorted(number for part in numbers for number in part) == list(range(length))


@hypothesis.given(
    seed=st.integers(0, 1 << 63), length=st.integers(0, 10_000), more=st.integers(0, 10_000), low=st.floats(0, 0.5)
)
@hypothesis.settings(max_examples=part_of(50, 4))
def test_appended_samples_change_no_part(seed, length, more, low):
    before, after = Members(seed, low, low + 0.3), Members(seed, low, low + 0.3)
    few, many = before.count(length), after.count(length + more)
    members = after.at(range(many), length + more)
    assert members[:few] == before.at(range(few), length)
    assert all(number >= length for number in members[few:])
    # The same object also counts a longer source.
    assert before.count(length + more) == many
    assert before.at(range(many), length + more) == members


def test_list_that_grows_keeps_the_parts_of_its_samples():
    samples = list(range(100))
    train, test = Dataset(samples).split([0.8, 0.2], seed=1)
    before = list(train), list(test)
    samples += range(100, 300)
    for part, old in zip((train, test), before, strict=True):
        assert list(part)[: len(old)] == old
        assert len(part) > len(old)
    assert sorted([*train, *test]) == samples


def test_sizes_follow_the_fractions_and_the_rest_is_left_out():
    half, tenth = Dataset.range(100_000).split([0.5, 0.1], seed=2)
    assert abs(len(half) - 50_000) < 600
    assert abs(len(tenth) - 10_000) < 400


def test_fractions_with_rounding_errors_lose_no_sample():
    fractions = [0.1] * 10
    assert max(itertools.accumulate(fractions)) < 1  # `sum` corrects rounding errors since Python 3.12
    assert sum(len(part) for part in Dataset.range(50_000).split(fractions)) == 50_000
    assert len(Dataset.range(5000).split([1])[0]) == 5000


def test_seeds_make_different_parts():
    one, other = (Dataset.range(1000).split([0.5], seed=seed)[0] for seed in (0, 1))
    assert 150 < len(set(one) & set(other)) < 350
    assert list(one) == list(Dataset.range(1000).split([0.5, 0.5], seed=0)[0])


def test_many_splits_can_be_read_in_turn():
    parts = [part for seed in range(50) for part in Dataset.range(5000).split([0.5, 0.5], seed)]
    lengths = [len(part) for part in parts]
    last = [part[length - 1] for part, length in zip(parts, lengths, strict=True)]
    members_of.cache_clear()
    assert [part[length - 1] for part, length in zip(parts, lengths, strict=True)] == last
    assert all(first + second == 5000 for first, second in zip(lengths[::2], lengths[1::2], strict=True))


class CountedWithin(Members):
    """Members that are counted for a longer source while a thread counts the members of a shorter one."""

    is_counting = False

    def _are_members(self, first, count):
        if not self.is_counting:
            self.is_counting = True
            self.count(40_000)
        return super()._are_members(first, count)


def test_threads_can_read_sources_of_different_lengths_at_once():
    members, alone = CountedWithin(0, 0.0, 0.5), Members(0, 0.0, 0.5)
    assert members.count(9_000) == alone.count(9_000)
    number = alone.count(40_000) - 1
    assert members.at([number], 40_000) == alone.at([number], 40_000)


def test_parts_are_the_same_in_each_release():
    assert list(Dataset.range(20).split([0.5], seed=7)[0]) == [1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 17, 18]


def test_part_is_read_by_index_in_any_order():
    (part,) = Dataset.range(100_000).split([0.3], seed=4)
    whole = list(part.batch(1000, collate=list))
    numbers = [number for batch in whole for number in batch]
    positions = np.random.default_rng(0).permutation(len(numbers))[:300].tolist()
    assert part.__getitems__(positions) == [numbers[position] for position in positions]
    assert part[-1] == numbers[-1]
    with pytest.raises(IndexError):
        part[len(numbers)]


def test_split_works_after_pickling_and_has_the_ids_of_its_samples():
    train, _ = Dataset([f"sample {number}" for number in range(50)]).split([0.6, 0.4])
    again = pickle.loads(pickle.dumps(train))
    assert list(again) == list(train)
    for sample, sample_id in train.map(lambda sample, sample_id: (sample, sample_id), with_id=True):
        assert train.get(sample_id) == sample == f"sample {sample_id}"
