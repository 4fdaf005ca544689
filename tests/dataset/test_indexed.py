"""Datasets with an index: their elements and errors, and the stages on columns, `window`, `sort` and `split`."""

import itertools
import pickle
import threading

import hypothesis
import numpy as np
import pytest
from helpers.counted_calls import Calls
from helpers.sweeps import part_of
from hypothesis import strategies as st

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.transformations.split import Members, members_of


def test_a_billion_samples_cost_nothing_before_they_are_read():
    parts = [Dataset.range(10**9).shuffle() for _ in range(3)]
    mixed = Dataset.mix(parts, [0.31, 0.27, 0.42], stop="all").shuffle().map(str)
    assert len(mixed) > 3 * 10**9
    assert len({mixed[position] for position in range(0, len(mixed), len(mixed) // 100)}) > 90


def fails_at_7(x):
    if x == 7:
        raise KeyError("seven")
    return x


@pytest.mark.parametrize("workers", [0, 1])
def test_error_names_stage_place_and_sample(workers):
    base = Dataset.concatenate(Dataset.range(5), Dataset(list(range(5, 10))))
    dataset = base.skip(1).map(fails_at_7).batch(3)
    with mpqueue.Loader(dataset, workers=workers, seed=0) as loader, pytest.raises(KeyError) as caught:
        list(loader)
    notes = "\n".join(caught.value.__notes__)
    assert "stage 4, map(fails_at_7), at place 6 of epoch 0, for sample 2 of list" in notes


def test_getitems_that_returns_too_few_samples_raises():
    class Short(list):
        def __getitems__(self, indices):
            return [0]

    with pytest.raises(ValueError, match=r"Short\.__getitems__ must return one sample per index \(2\), got 1"):
        Dataset(Short([0, 1, 2])).__getitems__([1, 2])


def test_next_epoch_sees_a_source_that_has_grown():
    items = [1, 2, 3]
    dataset = Dataset(items).shuffle()
    assert sorted(dataset) == [1, 2, 3]
    with mpqueue.Loader(dataset, batch_size=10, workers=1) as loader:
        assert sorted(next(iter(loader)).tolist()) == [1, 2, 3]
        items.append(4)
        assert sorted(dataset) == [1, 2, 3, 4]
        assert sorted(next(iter(loader)).tolist()) == [1, 2, 3, 4]


class Ages:
    """A source that changes at the end of an epoch."""

    def __init__(self):
        self.age = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return 10 * self.age + index

    def on_epoch_end(self):
        self.age += 1


@pytest.mark.parametrize("workers", [0, 2])
def test_on_epoch_end_of_a_source_is_called(workers):
    dataset = Dataset.concatenate(Dataset(Ages()), Dataset(Ages())).map(lambda x: x).batch(4)
    with mpqueue.Loader(dataset, workers=workers) as loader:
        epochs = [np.concatenate(list(loader)).tolist() for _ in range(3)]
    assert epochs == [2 * [10 * age + index for index in range(4)] for age in range(3)]


def test_functions_in_threads_run_concurrently():
    meeting = threading.Barrier(4)  # passed only by four threads at the same time
    dataset = Dataset.range(8).map(lambda x: (meeting.wait(timeout=60), x)[1], threads=4)
    assert dataset.__getitems__(range(8)) == list(range(8))


def test_error_in_a_thread_names_its_sample():
    with pytest.raises(KeyError) as caught:
        Dataset.range(10).map(fails_at_7, threads=3).__getitems__(range(10))
    assert "at place 7 of epoch 0, for sample 7 of range" in caught.value.__notes__[0]


def test_function_in_threads_can_read_a_dataset_with_threads():
    inner = Dataset.range(8).map(str, threads=2)
    outer = Dataset.range(8).map(lambda x: inner.__getitems__([x, 7 - x]), threads=2)
    assert outer.__getitems__(range(8)) == [[str(x), str(7 - x)] for x in range(8)]


# -- `window`


def test_windows_do_not_overlap_by_default():
    assert list(Dataset.range(5).window(2)) == [[0, 1], [2, 3], [4]]


# -- The stages `rename_columns`, `select_columns` and `remove_columns`


SAMPLES = [{"text": f"text {number}", "label": number, "extra": None} for number in range(6)]
DATASET = Dataset(SAMPLES)
SWAPPED = {"text": "label", "label": "text"}


def keep(_):
    return True


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda dataset: dataset.select_columns("label"), {"label": 0}),
        (lambda dataset: dataset.select_columns(["label", "text"]), {"label": 0, "text": "text 0"}),
        (lambda dataset: dataset.remove_columns("extra"), {"text": "text 0", "label": 0}),
        (lambda dataset: dataset.remove_columns(("text", "extra")), {"label": 0}),
        (lambda dataset: dataset.remove_columns(["text", "extra", "label"]), {}),
        (lambda dataset: dataset.rename_columns({"text": "x"}), {"x": "text 0", "label": 0, "extra": None}),
        (lambda dataset: dataset.rename_columns(SWAPPED), {"label": "text 0", "text": 0, "extra": None}),
    ],
)
def test_columns_of_samples_change_in_order_and_the_source_does_not(change, first, is_stream):
    changed = change(DATASET.filter(keep) if is_stream else DATASET)
    found = next(iter(changed))
    assert list(found.items()) == list(first.items())
    assert SAMPLES[0] == {"text": "text 0", "label": 0, "extra": None}
    if not is_stream:
        assert changed[0] == first
        assert len(changed) == 6


def test_columns_of_batches_change_and_they_remain_batches():
    batches = DATASET.batch(3).select_columns(["label", "text"]).rename_columns({"label": "y"})
    assert batches[1]["y"].tolist() == [3, 4, 5]
    with pytest.raises(ValueError, match="already makes batches"):
        batches.batch(2)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("method", ["select_columns", "remove_columns"])
def test_missing_column_raises_a_key_error_that_names_the_columns(method, workers):
    changed = getattr(DATASET, method)(["label", "image"])
    with mpqueue.Loader(changed, workers=workers) as loader, pytest.raises(KeyError) as caught:
        next(iter(loader))
    assert str(caught.value) == f"{method}: a sample has no column 'image': its columns are 'text', 'label', 'extra'"
    assert f"stage 1, {method}(['label', 'image'])" in caught.value.__notes__[0]


def test_missing_or_taken_column_of_rename_columns_raises():
    with pytest.raises(KeyError, match="rename_columns: a sample has no column 'image'"):
        DATASET.rename_columns({"image": "x"})[0]
    with pytest.raises(ValueError, match="rename_columns: a sample already has a column 'label'"):
        DATASET.rename_columns({"text": "label"})[0]


# -- The stage `sort`


FLOATS = st.floats(allow_nan=False)
KINDS = [st.integers(-5, 5), FLOATS, st.text(max_size=2), st.integers() | FLOATS]
KEYS = st.one_of(*map(st.lists, [*KINDS, st.tuples(st.integers(0, 2), st.text(max_size=1))]))


def first(pair):
    return pair[0]


@hypothesis.given(keys=KEYS)
@hypothesis.settings(max_examples=part_of(60, 4))
def test_order_equals_that_of_sorted(keys):
    pairs = [(key, index) for index, key in enumerate(keys)]
    assert list(Dataset(pairs).sort(first)) == sorted(pairs, key=first)


def test_sorted_dataset_is_indexed():
    words = Dataset(["ccc", "a", "bb", "dd", "e"]).sort(len)
    assert (len(words), words[0], words[-1]) == (5, "a", "ccc")
    assert "1: sort(len)" in repr(words)
    assert list(words.shuffle()) != list(words)
    assert list(words.batch(2, collate=list)) == [["a", "e"], ["bb", "dd"], ["ccc"]]


class Key(Calls):
    """A key that counts its calls in all processes."""

    def __call__(self, number):
        self.add()
        return -number


@pytest.mark.sample(2)
@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_keys_are_computed_once_in_this_process(tmp_path, start_method, is_stream):
    key = Key(tmp_path / "calls")
    numbers = Dataset.range(300).sort(key)
    assert key.take() == 0
    dataset = numbers.filter(bool) if is_stream else numbers
    for _ in range(2):
        with mpqueue.Loader(dataset, workers=2, start_method=start_method) as loader:
            assert sorted(loader) == list(range(is_stream, 300))
    assert numbers[0] == 299  # without another call in this process
    assert key.take() == 300


def test_list_that_grows_is_sorted_again():
    numbers = [3, 1]
    dataset = Dataset(numbers).sort(abs)
    assert list(dataset) == [1, 3]
    numbers.append(2)
    assert list(dataset) == [1, 2, 3]


def test_sort_has_the_ids_of_its_samples_and_works_after_pickling():
    dataset = Dataset(["ccc", "a", "bb"]).sort(len).map(lambda word, sample_id: (word, sample_id), with_id=True)
    assert list(dataset) == [("a", 1), ("bb", 2), ("ccc", 0)]
    assert list(pickle.loads(pickle.dumps(dataset))) == list(dataset)


def test_sort_after_a_cache_of_a_shuffle_keeps_the_cached_order(caplog):
    words = Dataset(["aa", "b", "cc", "d"]).shuffle().cache()
    assert list(words.sort(len)) == sorted(words, key=len)
    assert "cache() follows" in caplog.text


def test_wrong_key_raises():
    with pytest.raises(TypeError, match=r"sort\(<lambda>\) must return a key, got None: did you forget `return`"):
        Dataset.range(3).sort(lambda number: None)[0]
    with pytest.raises(TypeError, match="keys must be numbers, strings or tuples that can be compared, got int, str"):
        Dataset([1, "a"]).sort(lambda value: value)[0]


def test_error_of_the_key_names_the_stage_and_is_raised_before_workers_start():
    dataset = Dataset.range(4).sort(lambda number: 1 / (number - 2))
    with pytest.raises(ZeroDivisionError) as caught:
        mpqueue.Loader(dataset, workers=2)
    assert caught.value.__notes__ == ["raised while the keys of stage 1, sort(<lambda>), were computed"]


def test_cache_key_does_not_compute_the_order(tmp_path):
    key = Key(tmp_path / "calls")
    Dataset.range(5).sort(key).cache(tmp_path / "cache")
    assert key.take() == 0


# -- The stage `split`


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
